"""Certificates: identities by sympy, implications by z3, and their mutation test."""
