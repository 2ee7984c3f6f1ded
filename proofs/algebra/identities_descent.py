"""The algebra of Theorem 1's and Proposition 1's limits, proved by sympy: one function per
identity.

g_1, g_2 and Algorithm 1 as in `identities.py`; w_i = 1 - p / s_i with p = g_1 . g_2 and s_i =
||g_i||^2. The escape (`escape.py`) has g_1 = (-e, u - 1), g_2 = (-e, u + 1). Every function returns
its formula as LaTeX, or raises IdentityError where a residual does not simplify to zero.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from proofs import identities
from proofs.identities import G1, G2, PHI, R1, R2, C, G, L, T, prove

E, U = sp.Symbol("e", positive=True), sp.Symbol("u", real=True)
DELTA, ETA = sp.symbols(r"\delta \eta", positive=True)


def weights() -> str:
    """In conflict both weights exceed 1, and the update is a descent direction of either task."""
    update, p = identities.algorithm_1(), G1.dot(G2)
    return prove(
        r"g^{PC} = w_1 g_1 + w_2 g_2,\quad w_i = 1 - \tfrac{g_1 \cdot g_2}{\|g_i\|^2},\quad"
        r" g_i \cdot g^{PC} = (1 - c^2)\|g_i\|^2",
        *(update - (1 - p / R1**2) * G1 - (1 - p / R2**2) * G2),
        G1.dot(update) - (1 - C**2) * R1**2,
        G2.dot(update) - (1 - C**2) * R2**2,
    )


def square_summable() -> str:
    """Below 1/L the loss falls by a part of the squared length of the update more: steps are
    square-summable.
    """
    update = identities.algorithm_1()
    lemma = -T * G.dot(update) + L * T**2 / 2 * update.dot(update)
    return prove(
        r"L(\theta) - L(\theta^+) \ge \tfrac t2 (1 - c^2)\|g\|^2 + \tfrac t2 (1 - Lt)\|g^{PC}\|^2",
        -lemma - T / 2 * (1 - C**2) * G.dot(G) - T / 2 * (1 - L * T) * update.dot(update),
    )


def sharpness() -> str:
    """With Hessian L·1, equal lengths and c = η - 1 the loss rises at t = (1+δ)/L iff η < 2δ/(1+δ):
    1/L is sharp.
    """
    update, step = identities.algorithm_1(), (1 + DELTA) / L
    change = -step * G.dot(update) + L * step**2 / 2 * update.dot(update)
    claim = step * (1 - C**2) * R1**2 * (2 * DELTA - (1 + DELTA) * ETA)
    return prove(
        r"L(\theta^+) - L(\theta) = t\,(1 - c^2)\,\|g_1\|^2\left(2\delta - (1 + \delta)\,\eta\right)",
        (change - claim).subs(R2, R1).subs(C, ETA - 1),
        PHI.subs(R2, R1) - 1,
    )


def two_cycle() -> str:
    """Without a Lipschitz gradient: on L_1 = L_2 = |x|^(3/2) every step t > 0 has this 2-cycle."""
    x, t = sp.symbols("x t", positive=True)
    start = sp.Rational(9, 4) * t**2
    slope = sp.diff(2 * x ** sp.Rational(3, 2), x)  # of L = L_1 + L_2 at x > 0; odd in x
    after = start - t * slope.subs(x, start)
    return prove(
        r"x = \tfrac94 t^2 \;\mapsto\; x - t L'(x) = -\tfrac94 t^2", sp.simplify(after) + start
    )


def escape_update() -> str:
    """The escape's step: x grows by at least 2te, y shrinks towards 0 without reaching it."""
    one, two = sp.Matrix([-E, U - 1]), sp.Matrix([-E, U + 1])
    p, s1, s2 = one.dot(two), one.dot(one), two.dot(two)
    update = (1 - p / s1) * one + (1 - p / s2) * two
    return prove(
        r"g^{PC} = \left(-e\,(w_1 + w_2),\ \tfrac{8 e^2 u}{q}\right),\quad q = p^2 + 4 e^2,\quad"
        r" p = e^2 + u^2 - 1,\quad \|g^{PC}\|^2 = \tfrac{16 e^2}{q} = 4\,(1 - c^2)",
        update[0] + E * (2 - p / s1 - p / s2),
        update[1] - 8 * E**2 * U / (p**2 + 4 * E**2),
        update.dot(update) - 16 * E**2 / (p**2 + 4 * E**2),
        p - (E**2 + U**2 - 1),
        s1 * s2 - (p**2 + 4 * E**2),
        (1 - p**2 / (s1 * s2)) - 4 * E**2 / (p**2 + 4 * E**2),
    )


def escape_slopes() -> str:
    """Outside the unit disk the escape's h = r - x has these derivatives, and h is convex."""
    x, y = sp.symbols("x y", real=True)
    r = sp.Symbol("r", positive=True)
    h = sp.sqrt(x**2 + y**2) - x
    determinant = sp.diff(h, x, 2) * sp.diff(h, y, 2) - sp.diff(h, x, y) ** 2
    trace = sp.diff(h, x, 2) + sp.diff(h, y, 2)
    on_circle = [expr.subs(sp.sqrt(x**2 + y**2), r) for expr in (sp.diff(h, x), sp.diff(h, y))]
    return prove(
        r"h_x = -e,\ e = 1 - \tfrac xr,\quad h_y = \tfrac yr,\quad"
        r" \det \nabla^2 h = 0,\ \mathrm{tr} \nabla^2 h = \tfrac1r",
        on_circle[0] + (1 - x / r),
        on_circle[1] - y / r,
        sp.simplify(determinant),
        sp.simplify(trace * sp.sqrt(x**2 + y**2) - 1),
    )


ALL: tuple[Callable[[], str], ...] = (
    weights,
    square_summable,
    sharpness,
    two_cycle,
    escape_update,
    escape_slopes,
)
