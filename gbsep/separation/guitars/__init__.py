"""A second stage: two guitars of one separator's guitar."""
