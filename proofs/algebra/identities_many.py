"""The algebra of Corollary 1, exactly: Algorithm 1 on more than two tasks, with sympy.

n gradients of one length in which every pair has the cosine c < 0 ("equal angles") exist for c >=
-1/(n - 1) only. For three tasks in coordinates they are g_1 = (x, y, y), g_2 = (y, x, y), g_3 = (y,
y, x). Every function returns its formula as LaTeX, or raises IdentityError where a residual does
not simplify to zero."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import sympy as sp

from proofs.exact import all_orders, cyclic_orders
from proofs.identities import prove

C = sp.Symbol("c", negative=True)  # cos phi_ij of every pair
X, Y = sp.symbols("x y", real=True)
T, L, N = sp.symbols("t L n", positive=True)
Q, INNER = sp.symbols("q p", positive=True)  # ||g^PC||^2 and g . g^PC
A1, A2, R1, R2, K = sp.symbols(r"\alpha \beta \|g\| \|g^{PC}\| \cos", positive=True)
TASKS = range(2, 7)


def row(order: tuple[int, ...], own: int) -> list[sp.Expr]:
    """Coefficients C_ij of one task at equal angles, by the lines of Algorithm 1: every product on
    the way is negative.

    v . g_j = c sum_m C_im, as j was not met before: c < 0 times a sum that starts at 1 and stays
    positive."""
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


def stretch() -> str:
    """Equal angles, every task and every order: the coefficients of g_i^PC sum to (1 - c)^(n-1)."""
    return prove(
        r"\sum_j C_{ij} = (1 - c)^{n-1}",
        *(
            sum(row(order, i)) - (1 - C) ** (n - 1)
            for n in TASKS
            for i, order in enumerate(cyclic_orders(n))
        ),
    )


def cyclic_update() -> str:
    """Equal angles, cyclic orders: PCGrad's update is the plain one, stretched."""
    residuals = []
    for n in TASKS:
        gradients = [
            sp.Matrix([int(i == k) for k in range(n)]) for i in range(n)
        ]  # in coordinates of the gradients
        residuals += list(
            update(cyclic_orders(n), gradients)
            - (1 - C) ** (n - 1) * sum(gradients, sp.zeros(n, 1))
        )
    return prove(r"g^{PC} = (1 - c)^{n-1} g", *residuals)


def in_coordinates() -> str:
    """The same for (x, y, y), (y, x, y), (y, y, x) on the vectors themselves: each visit meets a
    conflict if c < 0.
    """
    gradients, cosine = symmetric()
    g, found = sum(gradients, sp.zeros(3, 1)), sp.zeros(3, 1)
    for own, order in enumerate(cyclic_orders(3)):
        v = gradients[own]
        for j in order:
            v = v - v.dot(gradients[j]) / gradients[j].dot(gradients[j]) * gradients[j]
        found += v
    return prove(
        r"g^{PC} = (1 - c)^2 g,\quad c = \frac{2xy + y^2}{x^2 + 2y^2}",
        *(found - (1 - cosine) ** 2 * g),
        cosine - (2 * X * Y + Y**2) / (X**2 + 2 * Y**2),
    )


def every_order() -> str:
    """Three tasks at equal angles: the part along g is the same in all 8 orders; what is left over
    lies across it.
    """
    gradients, _ = symmetric()
    g, residuals = sum(gradients, sp.zeros(3, 1)), []
    for orders in all_orders(3):
        second = [
            sum(order[1] == j for order in orders) for j in range(3)
        ]  # how often j is met second
        across = sum(
            (C**2 * (n - 1) * v for n, v in zip(second, gradients, strict=True)), sp.zeros(3, 1)
        )
        residuals += [*(update(orders, gradients) - (1 - C) ** 2 * g - across), across.dot(g)]
    return prove(
        r"g^{PC} = (1-c)^2 g + c^2 \textstyle\sum_j (m_j - 1)\, g_j,\quad"
        r" g \cdot \textstyle\sum_j (m_j - 1)\, g_j = 0,\quad m_j = \#\{i: j\ \text{is met second}\}",
        *residuals,
    )


def loss_change() -> str:
    """On a quadratic with Hessian L·1, at t = 1/L, the loss rises as soon as the stretch κ exceeds
    2.
    """
    kappa, square = sp.symbols(r"\kappa \|g\|^2", positive=True)
    change = -T * kappa * square + L * T**2 / 2 * kappa**2 * square
    return prove(
        r"g^{PC} = \kappa g,\ t = \tfrac1L:\quad L(\theta^+) - L(\theta) = \tfrac{\kappa}{2L}(\kappa - 2)\,\|g\|^2",
        change.subs(T, 1 / L) - kappa * (kappa - 2) * square / (2 * L),
    )


def two_tasks() -> str:
    """With two tasks the stretch 1 - c stays below 2, as Theorem 1 says; with three it exceeds 2
    from c = 1 - √2 on.
    """
    return prove(
        r"n = 2:\ 1 - c < 2;\qquad n = 3:\ (1-c)^2 > 2 \iff c < 1 - \sqrt 2 \approx -0.414 > -\tfrac12",
        sum(row((1,), 0)) - (1 - C),
        (sum(row((1, 2), 0)) - 2).subs(C, 1 - sp.sqrt(2)),
    )


def largest_stretch() -> str:
    """The stretch at the smallest cosine, -1/(n-1): 2, 2.25, 2.37 and so on, up to e."""
    return prove(
        r"\left(1 + \tfrac{1}{n-1}\right)^{n-1} \to e",
        *(sum(row(tuple(range(1, n)), 0)).subs(C, -sp.Rational(1, n - 1)) - (1 + sp.Rational(1, n - 1)) ** (n - 1)
          for n in TASKS),
        sp.limit((1 + 1 / (N - 1)) ** (N - 1), N, sp.oo) - sp.E,
    )  # fmt: skip


def smallest_cosine() -> str:
    """A squared length is not negative: n equal angles cannot have c < -1/(n-1), so -1 for all
    pairs needs n = 2.
    """
    residuals = []
    for n in TASKS:
        gram = sp.Matrix(n, n, lambda i, j: 1 if i == j else C)
        residuals.append(sum(gram) - n - n * (n - 1) * C)
        residuals.append(sum(gram).subs(C, -sp.Rational(1, n - 1)))
    return prove(r"\Big\|\sum_i \tfrac{g_i}{\|g_i\|}\Big\|^2 = n + n(n-1)\,c \ge 0", *residuals)


def opposite_to_both() -> str:
    """Opposite to g_1, both of the others point the same way: cos = -1 for all pairs is impossible
    for n >= 3.
    """
    g_1 = sp.Matrix([X, Y])
    g_2, g_3 = -A1 * g_1, -A2 * g_1
    return prove(
        r"g_2 = -\alpha g_1,\ g_3 = -\beta g_1\ \Rightarrow\ \cos\varphi_{23} = +1",
        g_2.dot(g_3) - A1 * A2 * g_1.dot(g_1),
        g_2.dot(g_3) ** 2 - g_2.dot(g_2) * g_3.dot(g_3),
    )


def repaired_step() -> str:
    """The descent lemma gives half the slope as long as t <= g·g^PC / (L‖g^PC‖²); t <= 1/L is not
    used.
    """
    lemma = -T * INNER + L * T**2 / 2 * Q
    return prove(
        r"-t\,g\cdot g^{PC} + \tfrac{L t^2}{2}\|g^{PC}\|^2 = -\tfrac t2\, g\cdot g^{PC}"
        r" + \tfrac t2 \left(L t \|g^{PC}\|^2 - g\cdot g^{PC}\right)",
        lemma + T * INNER / 2 - T / 2 * (L * T * Q - INNER),
        (L * T * Q - INNER).subs(T, INNER / (L * Q)),
    )


def repaired_gain() -> str:
    """At the longest repaired step the gain is a share of ‖g‖²: with cos >= 1/2 at least ‖g‖²/(8L),
    so that g -> 0.
    """
    inner, step = K * R1 * R2, K * R1 / (L * R2)
    return prove(
        r"t = \frac{g\cdot g^{PC}}{L\|g^{PC}\|^2}:\quad"
        r" \tfrac t2\, g\cdot g^{PC} = \frac{\cos^2(g, g^{PC})\,\|g\|^2}{2L}",
        step - inner / (L * R2**2),
        step * inner / 2 - K**2 * R1**2 / (2 * L),
    )


def hidden_assumption() -> str:
    """At t = 1/L the lemma gives descent iff ‖g^PC‖ <= 2 cos ‖g‖; cos >= 1/2 suffices if also
    ‖g^PC‖ <= ‖g‖.
    """
    lemma = -T * K * R1 * R2 + L * T**2 / 2 * R2**2
    return prove(
        r"-\tfrac1L\,g\cdot g^{PC} + \tfrac{1}{2L}\|g^{PC}\|^2"
        r" = -\tfrac{\|g^{PC}\|}{2L}\left(2\cos(g, g^{PC})\|g\| - \|g^{PC}\|\right)",
        lemma.subs(T, 1 / L) + R2 / (2 * L) * (2 * K * R1 - R2),
    )


def cycle() -> str:
    """g_i = (s/9)(1, 1, 1) + u_i, L = s²/6: s is the sum of θ, and every order sends it to (1 - tκ)
    s.
    """
    s = sp.Symbol("s", real=True)
    kappa = (1 - flat_cosine(s)) ** 2
    gradients = flat_gradients(s)
    residuals = [gradients[i].dot(gradients[j]) - flat_cosine(s) * gradients[0].dot(gradients[0])
                 for i, j in combinations(range(3), 2)]  # fmt: skip
    for orders in all_orders(3):
        after = s - T * sum(update(orders, gradients))
        residuals.append((after - (1 - T * kappa) * s).subs(C, flat_cosine(s)))
    return prove(
        r"s^+ = (1 - t\kappa(s))\, s,\quad \kappa = (1 - c(s))^2,\quad c(s) = \frac{s^2 - 144}{s^2 + 288}",
        *residuals,
    )


def attraction() -> str:
    """Where tκ = 2, s and -s alternate; the slope of the map there has size below 1, so that
    neighbors are drawn in.
    """
    s = sp.Symbol("s", positive=True)
    kappa = (1 - flat_cosine(s)) ** 2
    slope = sp.diff((1 - T * kappa) * s, s)
    c = flat_cosine(s)
    return prove(
        r"\frac{ds^+}{ds} = 1 - t\kappa + \tfrac43 t (1 + 2c)(1-c)^2"
        r" = -1 + \tfrac83 (1 + 2c)\ \text{at}\ t\kappa = 2",
        slope - (1 - T * kappa + sp.Rational(4, 3) * T * (1 + 2 * c) * (1 - c) ** 2),
        slope.subs(T, 2 / kappa) - (-1 + sp.Rational(8, 3) * (1 + 2 * c)),
    )


def flat_cosine(s: sp.Expr) -> sp.Expr:
    """c of the gradients of `cycle`."""
    return (s**2 - 144) / (s**2 + 288)


def flat_gradients(s: sp.Expr) -> list[sp.Matrix]:
    """g_i = (s/9)(1, 1, 1) + u_i with u_1 = (8, -4, -4)/3, and its permutations."""
    third = sp.Rational(1, 3)
    return [sp.Matrix([s / 9 + third * (8 if k == i else -4) for k in range(3)]) for i in range(3)]


ALL: tuple[Callable[[], str], ...] = (
    *(stretch, cyclic_update, in_coordinates, every_order, loss_change, two_tasks, largest_stretch),
    *(
        smallest_cosine,
        opposite_to_both,
        repaired_step,
        repaired_gain,
        hidden_assumption,
        cycle,
        attraction,
    ),
)
