"""Weights: which there are, where they lie, whether they are what they should be."""
