"""Benchmarks against what a user would do without tuner: `python -m benchmarks`."""
