"""Certificates: identities by sympy, inequalities and implications by z3, and their mutation test."""
