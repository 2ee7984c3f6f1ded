"""Corollary 1: Algorithm 1 on more than two tasks.

n gradients of one length of which every pair has the cosine c < 0 ("equal angles") exist only for
c ≥ −1/(n − 1). For three tasks in coordinates they are g₁ = (x, y, y), g₂ = (y, x, y),
g₃ = (y, y, x).
"""

from __future__ import annotations

from itertools import combinations

import sympy as sp

from proofs.algebra.formula import C, L, Proved, T, V, prove
from proofs.exact import all_orders, cyclic_orders

X, Y, S = sp.symbols("x y s", real=True)
N = sp.Symbol("n", positive=True)
PLAIN, MIXED, MIXED_DOT = sp.symbols(
    r"g \left(\sum_j(m_j-1)g_j\right) \left(g\cdot\sum_j(m_j-1)g_j\right)"
)
SUM, NEXT = sp.symbols(r"\sum_jC_{ij} \sum_jC_{ij}^{+}")
KAPPA, SQUARE, LENGTH2, INNER = sp.symbols(
    r"\kappa \|g\|^2 \|g^{PC}\|^2 \left(g\cdot\ g^{PC}\right)", positive=True
)
SIZE, LENGTH = sp.symbols(r"\|g\| \|g^{PC}\|", positive=True)
COS = sp.Symbol(r"\cos(g, g^{PC})", positive=True)
TASKS = range(2, 7)


def row(order: tuple[int, ...], own: int) -> list[sp.Expr]:
    """Return the coefficients Cᵢⱼ of one task at equal angles, where every product is negative.

    v·gⱼ = c Σₘ Cᵢₘ, because j was not visited before: c < 0 times a sum that starts at 1 and
    grows.
    """
    coefficients = [sp.Integer(int(j == own)) for j in range(len(order) + 1)]
    for j in order:
        coefficients[j] -= C * sum(coefficients)
    return [sp.expand(x) for x in coefficients]


def update(orders: tuple[tuple[int, ...], ...], gradients: list[sp.Matrix]) -> sp.Matrix:
    """g^PC at equal angles."""
    total = sp.zeros(*gradients[0].shape)
    for own, order in enumerate(orders):
        for coefficient, g in zip(row(order, own), gradients, strict=True):
            total += coefficient * g
    return total


def symmetric() -> tuple[list[sp.Matrix], sp.Expr]:
    """The three gradients in coordinates, and their cosine."""
    gradients = [sp.Matrix(v) for v in ((X, Y, Y), (Y, X, Y), (Y, Y, X))]
    return gradients, gradients[0].dot(gradients[1]) / gradients[0].dot(gradients[0])


def stretch() -> Proved:
    """Equal angles, every task and order: the coefficients of g_i^PC sum to (1 − c)^(n−1)."""
    cases = [
        {SUM: sum(row(order, i)), N: sp.Integer(n)}
        for n in TASKS
        for i, order in enumerate(cyclic_orders(n))
    ]
    return prove((SUM, (1 - C) ** (N - 1)), cases=cases)


def stretch_step() -> Proved:
    """The induction step: one visit multiplies the sum of the coefficients by 1 − c."""
    # A visit subtracts c times the sum so far from one coefficient.
    return prove((NEXT, (1 - C) * SUM), cases=[{NEXT: SUM - C * SUM}])


def cyclic_update() -> Proved:
    """Equal angles, cyclic orders: PCGrad's update is the plain one, stretched."""
    cases = []
    # Coordinates are the coefficients of the gradients, so that n unit vectors represent them.
    for n in TASKS:
        units = [sp.Matrix([int(i == k) for k in range(n)]) for i in range(n)]
        found = update(cyclic_orders(n), units)
        cases += [{V: X * entry, PLAIN: X, N: sp.Integer(n)} for entry in found]
    return prove((V, (1 - C) ** (N - 1) * PLAIN), cases=cases)


def in_coordinates() -> Proved:
    """The same on the vectors themselves, for three tasks."""
    gradients, cosine = symmetric()
    # Algorithm 1 on vectors, without the coefficients of `row`.
    g, found = sum(gradients, sp.zeros(3, 1)), sp.zeros(3, 1)
    for own, order in enumerate(cyclic_orders(3)):
        v = gradients[own]
        for j in order:
            v = v - v.dot(gradients[j]) / gradients[j].dot(gradients[j]) * gradients[j]
        found += v
    cases = [{V: found[k], PLAIN: g[k], C: cosine} for k in range(3)]
    return prove(
        (V, (1 - C) ** 2 * PLAIN), (C, (2 * X * Y + Y**2) / (X**2 + 2 * Y**2)), cases=cases
    )


def every_order() -> Proved:
    """Three tasks at equal angles: the part along g is the same in all 8 orders.

    m_j counts the tasks that meet j second."""
    gradients, _ = symmetric()
    g, cases = sum(gradients, sp.zeros(3, 1)), []
    for orders in all_orders(3):
        # The second visited task gets the coefficient −c(1 − c) instead of −c, so that counting
        # second visits is enough.
        second = [sum(order[1] == j for order in orders) for j in range(3)]
        mixed = sum(((m - 1) * v for m, v in zip(second, gradients, strict=True)), sp.zeros(3, 1))
        found = update(orders, gradients)
        cases += [
            {V: found[k], PLAIN: g[k], MIXED: mixed[k], MIXED_DOT: mixed.dot(g)} for k in range(3)
        ]
    return prove((V, (1 - C) ** 2 * PLAIN + C**2 * MIXED), (MIXED_DOT, sp.Integer(0)), cases=cases)


def loss_change() -> Proved:
    """Hessian L·1, g^PC = κ g, t = 1/L: the loss rises as soon as the stretch κ exceeds 2."""
    # −t g·g^PC + L t²‖g^PC‖²/2, which is exact for the Hessian L·1.
    change = -T * KAPPA * SQUARE + L * T**2 / 2 * KAPPA**2 * SQUARE
    return prove((change, KAPPA / (2 * L) * (KAPPA - 2) * SQUARE), given={T: 1 / L})


def stretch_beyond_two() -> Proved:
    """n = 3: for c < 0 the second factor is negative, so that (1 − c)² > 2 iff c < 1 − √2."""
    root = sp.sqrt(2)
    return prove(((1 - C) ** 2 - 2, (C - (1 - root)) * (C - (1 + root))))


def largest_stretch() -> Proved:
    """The stretch at the smallest cosine, −1/(n−1): 2, 2.25, 2.37 and so on."""
    cases = [
        {SUM: sum(row(order, i)).subs(C, -sp.Rational(1, n - 1)), N: sp.Integer(n)}
        for n in TASKS
        for i, order in enumerate(cyclic_orders(n))
    ]
    return prove((SUM, (1 + 1 / (N - 1)) ** (N - 1)), cases=cases)


def smallest_cosine() -> Proved:
    """A squared length is not negative: n equal angles cannot have c < −1/(n−1)."""
    total = sp.Symbol(r"\left\|\sum_i\tfrac{g_i}{\|g_i\|}\right\|^2")
    cases = [
        {total: sum(sp.Matrix(n, n, lambda i, j: 1 if i == j else C)), N: sp.Integer(n)}
        for n in TASKS
    ]
    return prove(
        (total, N + N * (N - 1) * C), (total, N * (N - 1) * (C + 1 / (N - 1))), cases=cases
    )


def opposite_to_both() -> Proved:
    """Opposite to g_1, both others point the same way: cos = −1 for all pairs needs n = 2."""
    left, right = sp.symbols(r"\alpha \beta", positive=True)
    first = sp.Matrix([X, Y])
    second, third = -left * first, -right * first
    cosine = sp.Symbol(r"\cos\varphi_{23}")
    # α, β > 0 are the ratios of lengths of two vectors opposite to the first.
    lengths = left * right * first.dot(first)
    return prove((cosine, sp.Integer(1)), cases=[{cosine: second.dot(third) / lengths}])


def repaired_step() -> Proved:
    """The descent lemma gives half the slope while the last bracket is not positive."""
    lemma = -T * INNER + L * T**2 / 2 * LENGTH2
    return prove((lemma, -T / 2 * INNER + T / 2 * (L * T * LENGTH2 - INNER)))


def repaired_gain() -> Proved:
    """The gain at the longest repaired step."""
    inner = COS * SIZE * LENGTH
    return prove((T * inner / 2, COS**2 * SIZE**2 / (2 * L)), given={T: inner / (L * LENGTH**2)})


def repaired_length() -> Proved:
    """The length of the longest repaired step: at most ‖g‖/L, as Theorem A's proof needs."""
    inner = COS * SIZE * LENGTH
    return prove((T * LENGTH, COS * SIZE / L), given={T: inner / (L * LENGTH**2)})


def hidden_assumption() -> Proved:
    """At t = 1/L the lemma gives descent iff ‖g^PC‖ ≤ 2 cos(g, g^PC) ‖g‖."""
    lemma = -T * COS * SIZE * LENGTH + L * T**2 / 2 * LENGTH**2
    return prove((lemma, -LENGTH / (2 * L) * (2 * COS * SIZE - LENGTH)), given={T: 1 / L})


def fair_coin() -> Proved:
    """Variance of a vector that is v or w with probability 1/2 each, coordinate by coordinate."""
    v, w = sp.symbols("v w", real=True)
    return prove(((v**2 + w**2) / 2 - ((v + w) / 2) ** 2, (v - w) ** 2 / 4))


def flat_cosine(s: sp.Expr) -> sp.Expr:
    """c of the gradients of `cycle`."""
    return (s**2 - 144) / (s**2 + 288)


def flat_gradients(s: sp.Expr) -> list[sp.Matrix]:
    """gᵢ = (s/9)(1, 1, 1) + uᵢ with u₁ = (8, −4, −4)/3 and its permutations."""
    third = sp.Rational(1, 3)
    return [sp.Matrix([s / 9 + third * (8 if k == i else -4) for k in range(3)]) for i in range(3)]


def flat_angles() -> Proved:
    """g_i = (s/9)(1, 1, 1) + u_i have equal angles."""
    gradients = flat_gradients(S)
    square = gradients[0].dot(gradients[0])
    cases = [{C: one.dot(two) / square} for one, two in combinations(gradients, 2)]
    return prove((C, (S**2 - 144) / (S**2 + 288)), cases=cases)


def cycle() -> Proved:
    """L = s²/6 with s the sum of θ: every order sends s to (1 − t(1 − c)²) s."""
    after = sp.Symbol("s^+")
    cases = [
        {after: (S - T * sum(update(orders, flat_gradients(S)))), C: flat_cosine(S)}
        for orders in all_orders(3)
    ]
    return prove((after, (1 - T * (1 - C) ** 2) * S), cases=cases)


def attraction() -> Proved:
    """The slope of that map where t(1 − c)² = 2: of size below 1, so that starts are drawn in."""
    cosine = flat_cosine(S)
    slope = sp.Symbol(r"\frac{\mathrm{d}s^+}{\mathrm{d}s}")
    # t is a constant of the map: it is inserted only after the derivative.
    found = sp.diff((1 - T * (1 - cosine) ** 2) * S, S).subs(T, 2 / (1 - cosine) ** 2)
    return prove((slope, sp.Rational(8, 3) * (1 + 2 * C) - 1), cases=[{slope: found, C: cosine}])
