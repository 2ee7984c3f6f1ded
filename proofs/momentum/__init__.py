"""Theorem 4: the heavy ball."""
