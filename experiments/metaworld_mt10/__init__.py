"""MT10: ten Meta-World tasks learned at once."""
