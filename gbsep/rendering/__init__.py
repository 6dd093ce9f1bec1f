"""One recording, start to finish."""
