"""Theorem 1 and Proposition 1: trajectories, the walk to infinity, exact examples."""
