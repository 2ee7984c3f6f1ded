"""Theorem 3: N and D of τ = N / D, and the proof's bound B(t) = t (D t − N)."""

from __future__ import annotations

import sympy as sp

from proofs.algebra.formula import (
    APART,
    ELL,
    INNER,
    LENGTH2,
    PHI,
    R1,
    R2,
    SQUARE,
    XI,
    C,
    L,
    Proved,
    T,
    prove,
)

N, D, TAU = sp.symbols(r"N D \tau")
# Numerator and denominator of τ as printed.
NUMERATOR = (R1**2 + R2**2) * C**2 + 2 * R1 * R2 * C
DENOMINATOR = SQUARE * ELL / 2 - (1 - C**2) * APART * L / 2
BOUND = -T * SQUARE + T**2 / 2 * ELL * SQUARE - (-T * INNER + T**2 / 2 * L * LENGTH2)
CASE = {TAU: NUMERATOR / DENOMINATOR, N: NUMERATOR, D: DENOMINATOR}
X, Y = sp.symbols("g_1 g_2", real=True)


def tau_numerator() -> Proved:
    """N = ‖g‖² − g · g^PC is negative exactly for c > −Φ."""
    return prove((N, SQUARE - INNER), (N, C * (R1**2 + R2**2) * (C + PHI)), cases=[CASE])


def tau_denominator() -> Proved:
    """D has the sign of ℓ − ξL."""
    return prove(
        (D, (ELL * SQUARE - L * LENGTH2) / 2), (D, SQUARE * (ELL - XI * L) / 2), cases=[CASE]
    )


def bound_factors() -> Proved:
    """The proof's lower bound of L(θ^MT) − L(θ^PC) has the roots 0 and τ = N / D, and no other."""
    return prove((BOUND, T * (D * T - N)), (BOUND, D * T * (T - TAU)), cases=[CASE])


def denominator_sign() -> Proved:
    """For ℓ ≤ L the last two terms are not positive: N ≤ 0 forces D ≤ 0, D ≥ 0 forces N ≥ 0."""
    return prove(
        (2 * D, L * N - (L - ELL) * SQUARE + 2 * L * R1 * R2 * C * (1 - C**2)), cases=[CASE]
    )


def tau_against_plain_limit() -> Proved:
    """Hence τ ≥ 2/L where D > 0 (second case), and τ ≤ 2/L where D < 0 and N < 0 (first case)."""
    surplus = (L - ELL) * SQUARE - 2 * L * R1 * R2 * C * (1 - C**2)
    return prove((TAU - 2 / L, surplus / (L * D)), cases=[CASE])


def zero_numerator() -> Proved:
    """At c = −Φ the bound fails for every t > 0 unless g = 0: D is negative though τ = 0."""
    opposite = -2 * R1 * R2 / (R1**2 + R2**2)
    loss = -SQUARE / 2 * (L - ELL + L * PHI**2)
    return prove((N, sp.Integer(0)), (D, loss), cases=[{**CASE, C: opposite}, CASE | {C: opposite}])


def larger_curvature() -> Proved:
    """A larger ℓ satisfies more, so that the largest ℓ, H / ‖g‖², decides."""
    derivative = sp.Derivative(BOUND, ELL)
    return prove((derivative, T**2 / 2 * SQUARE))


def one_dimension() -> Proved:
    """Gradients of one number each, in conflict: cos² φ = 1, and PCGrad does not move."""
    cosine = sp.Symbol(r"\cos^2\varphi")
    update = sp.Symbol("g^{PC}")
    meaning = {
        cosine: (X * Y) ** 2 / (X**2 * Y**2),
        update: X - X * Y / Y**2 * Y + Y - Y * X / X**2 * X,
    }
    return prove((cosine, sp.Integer(1)), (update, sp.Integer(0)), cases=[meaning])
