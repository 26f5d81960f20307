"""How fast it is, against what a user would do without it: `python -m benchmarks`."""
