"""Signals in, figures out."""
