"""Benchmarks: one module each, with a click command named `command`; scripts/bench.py gathers them."""
