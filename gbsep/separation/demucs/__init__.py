"""Demucs: its networks, streamed."""
