"""The embedded network and what it rests on."""
