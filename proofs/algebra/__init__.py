"""The algebra of each statement, by sympy: one function per identity."""
