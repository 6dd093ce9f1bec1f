"""Open-Unmix: its networks and its filter."""
