"""Two gradients in conflict: the update, Definitions 2 and 5, and Theorems 1 and 2."""

from __future__ import annotations

import sympy as sp

from proofs.algebra.formula import (
    APART,
    ELL,
    G1,
    G2,
    INNER,
    LENGTH2,
    PHI,
    PLANE,
    R1,
    R2,
    RATIO,
    SQUARE,
    V1,
    V2,
    XI,
    A,
    C,
    L,
    Proved,
    T,
    V,
    prove,
)

HALF = sp.Rational(1, 2)
F = sp.Function("f")(A)
XI_L = sp.Symbol(r"(\xi L)", positive=True)
DELTA, ETA = sp.symbols(r"\delta \eta", positive=True)
# The descent lemma's bound of the change of the loss.
LEMMA = -T * INNER + L * T**2 / 2 * LENGTH2


def coefficients() -> Proved:
    """PCGrad's update in the original gradients; R is the ratio of their lengths."""
    return prove((V, (1 - C / RATIO) * V1 + (1 - RATIO * C) * V2), cases=PLANE)


def normal_plane() -> Proved:
    """Figure 2: each projected gradient lies in the normal plane of the other gradient."""
    one = sp.Symbol(r"(g_1^{PC}\cdot g_2)")
    two = sp.Symbol(r"(g_2^{PC}\cdot g_1)")
    product = G1.dot(G2)
    # Both projections use the original gradient of the other task.
    first, second = G1 - product / R2**2 * G2, G2 - product / R1**2 * G1
    return prove(
        (one, sp.Integer(0)),
        (two, sp.Integer(0)),
        cases=[{one: first.dot(G2), two: second.dot(G1)}],
    )


def length() -> Proved:
    """The update is as long as the difference of the gradients, times the sine of their angle."""
    return prove((LENGTH2, (1 - C**2) * APART))


def bounding_measure() -> Proved:
    """Definition 5 is the squared ratio of the two updates' lengths."""
    return prove((XI, LENGTH2 / SQUARE))


def product() -> Proved:
    """The update is a descent direction unless c = −1."""
    return prove((INNER, (1 - C**2) * (R1**2 + R2**2)))


def own_products() -> Proved:
    """The update is a descent direction of either task."""
    first = sp.Symbol(r"(g_1\cdot g^{PC})")
    second = sp.Symbol(r"(g_2\cdot g^{PC})")
    # The coordinates of g^PC in the plane that the two gradients span.
    update = [case[V] for case in PLANE]
    meaning = {
        first: sum(case[V1] * v for case, v in zip(PLANE, update, strict=True)),
        second: sum(case[V2] * v for case, v in zip(PLANE, update, strict=True)),
    }
    return prove((first, (1 - C**2) * R1**2), (second, (1 - C**2) * R2**2), cases=[meaning])


def difference_bound() -> Proved:
    """‖g_1 − g_2‖² ≤ (1 + |c|)(‖g_1‖² + ‖g_2‖²) with |c| = −c, as the right side is not
    negative.
    """
    return prove(((1 - C) * (R1**2 + R2**2) - APART, -C * (R1 - R2) ** 2))


def sum_bound() -> Proved:
    """‖g‖² ≥ (1 − |c|)(‖g_1‖² + ‖g_2‖²), as the right side is not negative."""
    return prove((SQUARE - (1 + C) * (R1**2 + R2**2), -C * (R1 - R2) ** 2))


def condition_a() -> Proved:
    """As c < 0, condition (a), c ≤ −Φ, says that g · g^PC is at most ‖g‖²."""
    return prove((SQUARE - INNER, C * (R1**2 + R2**2) * (C + PHI)))


def b_implies_a() -> Proved:
    """ξ ≤ 1 means c ≤ −Φ(2 − c²), which is below −Φ."""
    return prove(((XI - 1) * SQUARE, -C * (R1**2 + R2**2) * (C + PHI * (2 - C**2))))


def theorem1_descent() -> Proved:
    """The descent lemma is Theorem 1's bound plus a term that is not positive while t ≤ 1/L."""
    return prove((LEMMA, -T / 2 * (1 - C**2) * SQUARE + T / 2 * (L * T - 1) * LENGTH2))


def largest_step() -> Proved:
    """With Hessian L·1 the loss is unchanged at this step, which is below 2/L, and rises beyond."""
    return prove((LEMMA, sp.Integer(0)), given={T: 2 / (L * (1 - PHI * C))})


def sharpness() -> Proved:
    """Hessian L·1, equal lengths, c = η − 1: the loss rises at (1 + δ)/L iff η < 2δ/(1 + δ)."""
    # The sign of the last factor decides, because the others are positive.
    change = T * (1 - C**2) * R1**2 * (2 * DELTA - (1 + DELTA) * ETA)
    return prove((LEMMA, change), given={T: (1 + DELTA) / L, R2: R1, C: ETA - 1})


def remainder() -> Proved:
    """With f(a) = L(θ − a t g), Taylor's exact second-order term has the weight 1 − a."""
    # Its derivative is Taylor's integrand, so that the remainder is its difference at the ends.
    antiderivative = (1 - A) * sp.diff(F, A) + F
    return prove((sp.Derivative(antiderivative, A), (1 - A) * sp.diff(F, A, 2)))


def printed_error() -> Proved:
    """The printed ½ instead of 1 − a: too large where the curvature grows along the step."""
    # ∫₀¹(½ − a) f'' da = −∫₀¹ ½ a(1 − a) f''' da by parts, as a(1 − a) vanishes at both ends.
    curve = sp.diff(F, A, 2)
    return prove(
        (
            sp.Derivative(A * (1 - A) * curve / 2, A),
            (HALF - A) * curve + A * (1 - A) / 2 * sp.diff(F, A, 3),
        )
    )


def theorem2_bound() -> Proved:
    """The proof's lower bound of L(θ^MT) − L(θ^PC); under (c) its bracket is not negative."""
    # The plain step's change with curvature ℓ, less the descent lemma's bound for PCGrad.
    plain = -T * SQUARE + T**2 / 2 * ELL * SQUARE
    return prove(
        (
            plain - LEMMA,
            T * SQUARE * (T / 2 * (ELL - XI * L) - 1) + T * (1 - C**2) * (R1**2 + R2**2),
        )
    )


def tight_step() -> Proved:
    """The bound reaches 0 at this step already."""
    bound = -T * SQUARE + T**2 / 2 * ELL * SQUARE - LEMMA
    step = 2 * (SQUARE - INNER) / (ELL * SQUARE - L * LENGTH2)
    return prove((bound, sp.Integer(0)), given={T: step})


def surplus_of_c() -> Proved:
    """(c) asks for a longer step than the bound needs, by this much."""
    rest = ELL * SQUARE - L * LENGTH2
    step = 2 * (SQUARE - INNER) / rest
    return prove((2 / (ELL - XI * L) - step, 2 * INNER / rest))


def outside_theorem1() -> Proved:
    """Condition (c) forces t ≥ 2/ℓ."""
    return prove((2 / (ELL - XI_L) - 2 / ELL, 2 * XI_L / (ELL * (ELL - XI_L))))


def late_curvature() -> Proved:
    """Theorem C is sharp: f'' = L behind a = 1 − ℓ/L, 0 before, has mean ℓ and remainder ℓ²/L."""
    # The latest curvature that Definition 3 cannot tell from a constant ℓ.
    begin = 1 - ELL / L
    return prove(
        (sp.Integral(L, (A, begin, 1)), ELL),
        (sp.Integral(2 * (1 - A) * L, (A, begin, 1)), ELL**2 / L),
    )


def late_curvature_nonconvex() -> Proved:
    """Without convexity: f'' = −L up to s = (1 − ℓ/L)/2, L beyond."""
    # The mean of −L before and L after is ℓ for this point.
    begin = (1 - ELL / L) / 2
    first, second = (A, 0, begin), (A, begin, 1)
    return prove(
        (sp.Integral(-L, first) + sp.Integral(L, second), ELL),
        (
            sp.Integral(-2 * (1 - A) * L, first) + sp.Integral(2 * (1 - A) * L, second),
            L * ((1 + ELL / L) ** 2 / 2 - 1),
        ),
    )
