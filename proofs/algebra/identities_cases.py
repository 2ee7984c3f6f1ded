"""The algebra of Theorem 3, proved by sympy: one function per identity; g_1, g_2 and Algorithm 1 as
in `identities.py`.

With N = ||g||^2 - g . g^PC and D = (l ||g||^2 - L ||g^PC||^2) / 2 the proof's lower bound of
L(theta^MT) - L(theta^PC) is B(t) = t (D t - N), and tau = N / D. `case_table` turns this into the
cases for which B(t) >= 0 at some t > 0, and compares them with the printed ones over a grid of
exact rationals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from typing import Any

import sympy as sp

from proofs import identities
from proofs.identities import ELL, G1, G2, PHI, R1, R2, XI, C, G, IdentityError, L, T, prove

SQUARES = R1**2 + R2**2
NUMERATOR = SQUARES * C**2 + 2 * R1 * R2 * C  # of tau, as printed
DENOMINATOR = G.dot(G) * ELL / 2 - (1 - C**2) * (G1 - G2).dot(G1 - G2) * L / 2


def tau_numerator() -> str:
    """The numerator of τ is ‖g‖² - g · g^PC: negative exactly for c > -Φ, where PCGrad promises
    more than the sum.
    """
    return prove(
        r"N = \left(\|g_1\|^2 + \|g_2\|^2\right)c^2 + 2\|g_1\|\|g_2\|c = \|g\|^2 - g \cdot g^{PC}"
        r" = c\left(\|g_1\|^2 + \|g_2\|^2\right)(c + \Phi)",
        NUMERATOR - (G.dot(G) - G.dot(identities.algorithm_1())),
        NUMERATOR - C * SQUARES * (C + PHI),
    )


def tau_denominator() -> str:
    """The denominator of τ has the sign of ℓ - ξL."""
    update = identities.algorithm_1()
    return prove(
        r"D = \tfrac12\left(\ell\|g\|^2 - L\|g^{PC}\|^2\right) = \tfrac12\|g\|^2(\ell - \xi L)",
        DENOMINATOR - (ELL * G.dot(G) - L * update.dot(update)) / 2,
        DENOMINATOR - G.dot(G) * (ELL - XI * L) / 2,
    )


def bound_factors() -> str:
    """The proof's lower bound of L(MT) - L(PC) has the roots 0 and τ = N / D, and no other."""
    update, square = identities.algorithm_1(), G.dot(G)
    plain = -T * square + T**2 / 2 * ELL * square  # L(MT) - L(theta) is at least this
    surgery = -T * G.dot(update) + T**2 / 2 * L * update.dot(
        update
    )  # L(PC) - L(theta) is at most this
    tau = NUMERATOR / DENOMINATOR
    return prove(
        r"L(\theta^{MT}) - L(\theta^{PC}) \ge B(t) = t\,(D t - N) = D\,t\,(t - \tau)",
        plain - surgery - T * (DENOMINATOR * T - NUMERATOR),
        plain - surgery - DENOMINATOR * T * (T - tau),
    )


def denominator_sign() -> str:
    """No term on the right but N is positive for ℓ <= L: N <= 0 forces D <= 0, and D >= 0 forces N
    >= 0.
    """
    return prove(
        r"2D = L N - (L - \ell)\|g\|^2 - 2 L\,\|g_1\|\|g_2\|\,|c|\,(1 - c^2)",
        2 * DENOMINATOR - (L * NUMERATOR - (L - ELL) * G.dot(G) + 2 * L * R1 * R2 * C * (1 - C**2)),
    )


def tau_against_plain_limit() -> str:
    """Hence τ >= 2/L where D > 0 (the second case) and τ <= 2/L where D < 0 and N < 0 (the first)."""
    return prove(
        r"\tau - \frac 2L = \frac{(L - \ell)\|g\|^2 + 2 L\,\|g_1\|\|g_2\|\,|c|\,(1 - c^2)}{L\,D}",
        NUMERATOR / DENOMINATOR
        - 2 / L
        - ((L - ELL) * G.dot(G) - 2 * L * R1 * R2 * C * (1 - C**2)) / (L * DENOMINATOR),
    )


def zero_numerator() -> str:
    """At c = -Φ the bound fails for every t > 0 unless g = 0: D is negative though τ = 0."""
    opposite = -PHI
    return prove(
        r"c = -\Phi:\quad N = 0,\quad D = -\tfrac12\|g\|^2\left(L - \ell + L\,\Phi^2\right)",
        NUMERATOR.subs(C, opposite),
        (DENOMINATOR + G.dot(G) * (L - ELL + L * PHI**2) / 2).subs(C, opposite),
    )


def larger_curvature() -> str:
    """A larger ℓ satisfies more: D, and with it B at any t, grows with ℓ, so the largest ℓ, H /
    ‖g‖², decides.
    """
    return prove(
        r"\partial B / \partial \ell = \tfrac{t^2}{2}\|g\|^2",
        sp.diff(T**2 * DENOMINATOR, ELL) - T**2 * G.dot(G) / 2,
    )


def one_dimension() -> str:
    """Gradients of one number each are parallel: in conflict cos φ = -1, PCGrad does not move."""
    x, y = sp.symbols("g_1 g_2", real=True)
    return prove(
        r"g_1, g_2 \in \mathbb R,\ g_1 g_2 < 0:\quad \cos^2\varphi = 1,\ g^{PC} = 0",
        (x * y) ** 2 - x**2 * y**2,
        x - (x * y) / y**2 * y + y - (x * y) / x**2 * x,
    )


ALL: tuple[Callable[[], str], ...] = (
    *(
        tau_numerator,
        tau_denominator,
        bound_factors,
        denominator_sign,
        tau_against_plain_limit,
        zero_numerator,
    ),
    *(larger_curvature, one_dimension),
)

LENGTHS = (1, 2, 5, 10)  # of g_1 along x; (10, 0) with (-4, 3) has c = -Phi
STEPS = tuple(Fraction(x, 10) for x in (1, 5, 10, 25, 100))
AROUND = (
    Fraction(1, 2),
    Fraction(999, 1000),
    Fraction(1),
    Fraction(1001, 1000),
    Fraction(3),
)  # parts of tau
Gram = tuple[Fraction, Fraction, Fraction]  # ||g_1||^2, ||g_2||^2, g_1 . g_2


def grams() -> Iterator[Gram]:
    """Pairs in conflict: g_1 = (length, 0), g_2 = (x, y) with x < 0, opposite where y = 0."""
    for length, x, y in product(LENGTHS, range(-4, 0), range(4)):
        yield Fraction(length**2), Fraction(x * x + y * y), Fraction(length * x)


def updates(gram: Gram) -> tuple[Fraction, Fraction, Fraction]:
    """||g||^2, ||g^PC||^2 and g . g^PC."""
    s1, s2, p = gram
    sine2 = 1 - p * p / (s1 * s2)
    return s1 + s2 + 2 * p, sine2 * (s1 + s2 - 2 * p), sine2 * (s1 + s2)


def parts_of_tau(gram: Gram, ell: Fraction) -> tuple[Fraction, Fraction]:
    """(N, D) at L = 1."""
    square, length2, inner = updates(gram)
    return square - inner, (ell * square - length2) / 2


def printed_cases(gram: Gram, ell: Fraction, t: Fraction) -> bool | None:
    """Whether a printed case holds at L = 1, its conditions on c and l as printed; None where tau
    is 0 / 0.

    A zero denominator alone makes tau infinite: the second case, t >= tau, then never holds.
    """
    (s1, s2, p), (square, length2, _), (n, d) = gram, updates(gram), parts_of_tau(gram, ell)
    if d == 0:
        return None if n == 0 else False
    first = (
        -p * (s1 + s2) <= 2 * s1 * s2 and ell * square <= length2 and 0 < t <= n / d
    )  # -Phi <= c, l <= xi L
    return first or (-p * (s1 + s2) >= 2 * s1 * s2 and ell * square >= length2 and t >= n / d)


def case_table() -> list[dict[str, Any]]:
    """Every sign of (N, D) over the grid, l / L from -1/2 to 1 and l = xi L: is B(t) >= 0 exactly
    where a case holds?

    IdentityError where one point contradicts it, or where signs occur that `denominator_sign`
    forbids."""
    table: dict[tuple[int, int], dict[str, int]] = {}
    for gram in grams():
        square, length2, _ = updates(gram)
        curvatures = [Fraction(k, 4) for k in range(-2, 5)]
        curvatures += (
            [length2 / square] if 0 < length2 <= square else []
        )  # l = xi L, where that is at most L
        for ell in curvatures:
            n, d = parts_of_tau(gram, ell)
            row = table.setdefault(
                (_sign(n), _sign(d)),
                dict.fromkeys(("points", "bound_holds", "a_case_holds", "undefined"), 0),
            )
            for t in (*STEPS, *(f * n / d for f in AROUND if n * d > 0)):
                holds, says = t * (d * t - n) >= 0, printed_cases(gram, ell, t)
                if says is not None and says != holds:
                    raise IdentityError(f"the bound and the cases disagree at {(gram, ell, t)}")
                for key, value in zip(row, (True, holds, bool(says), says is None), strict=True):
                    row[key] += value
    if forbidden := [cell for cell in table if cell[0] <= 0 <= cell[1] and cell != (0, 0)]:
        raise IdentityError(f"N <= 0 came with D >= 0: {forbidden}")
    words = {-1: "< 0", 0: "= 0", 1: "> 0"}
    return [{"N": words[n], "D": words[d], **table[n, d]} for n, d in sorted(table)]


def _sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)
