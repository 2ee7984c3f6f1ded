"""Corollary 1: more than two tasks."""
