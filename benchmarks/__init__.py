"""Benchmarks against other implementations, measured in one run and reported as ratios."""
