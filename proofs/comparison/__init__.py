"""Theorems 2 and 3: one step against another."""
