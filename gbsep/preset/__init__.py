"""Presets: JSON in, checked values out."""
