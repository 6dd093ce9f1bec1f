"""Checkpoints of the Music-Source-Separation-Training family: their networks, streamed."""
