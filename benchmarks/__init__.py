"""Benchmarks against other implementations, measured in one run and reported as ratios."""

from system import stopping

stopping.during_imports()
