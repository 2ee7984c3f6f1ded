"""MT50: fifty Meta-World tasks learned at once."""
