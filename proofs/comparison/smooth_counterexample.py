"""Theorem 2 as printed is false for analytic losses too: two logistic losses of one row each, in
the plane.

    L_1(x, y) = log(1 + e^-x),   L_2(x, y) = log(1 + e^(4 x - y) / 100),   theta = (0, 0), t = 2, L
    = (1 + 17) / 4.

Both are convex; L is the trace of a bound of the Hessian. The gradients at 0, xi and (a) are
rational; what has exponentials is enclosed in intervals of 50 digits, and an inequality counts only
where these leave no doubt, so that `refutes` is a proof. mpmath's numerical derivatives and
quadrature of Definition 3 confirm the numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath as mp
from mpmath import iv

from proofs.exact import Vector, add, dot, rationals, scale, update
from proofs.tally import BrokenError

ROWS = rationals([(-1, 0), (4, -1)])
FACTORS = (Fraction(1), Fraction(1, 100))  # of the exponentials
STEP = Fraction(2)
CONSTANT = sum((dot(a, a) for a in ROWS), Fraction(0)) / 4
DIGITS = 50


def losses(theta: Any, numbers: Any) -> list[Any]:
    """L_1 and L_2 at two numbers of mpmath (mp) or of its interval arithmetic (iv)."""
    return [
        numbers.log(
            1
            + _number(k, numbers)
            * numbers.exp(_number(a[0], numbers) * theta[0] + _number(a[1], numbers) * theta[1])
        )
        for a, k in zip(ROWS, FACTORS, strict=True)
    ]


def smooth() -> dict[str, Any]:
    """The example's numbers, whether it refutes the printed theorem, and whether the repaired (c)
    excludes it.
    """
    g_1, g_2 = pair = [scale(k / (1 + k), a) for a, k in zip(ROWS, FACTORS, strict=True)]
    g, pc = add(*pair), update(pair, ((1,), (0,)))
    s1, s2, p, square, xi = (
        dot(g_1, g_1),
        dot(g_2, g_2),
        dot(g_1, g_2),
        dot(g, g),
        dot(pc, pc) / dot(g, g),
    )
    before, iv.dps = iv.dps, DIGITS
    try:
        plain, surgery, start = (
            sum(losses(_numbers(v, iv), iv))
            for v in (scale(-STEP, g), scale(-STEP, pc), scale(0, g))
        )
        ell = {
            "uniform": (_number(square, iv) - _slope_after(g)) / _number(STEP * square, iv),
            "remainder": 2
            * (plain - start + _number(STEP * square, iv))
            / _number(STEP**2 * square, iv),
        }
        c = {
            form: _number(STEP, iv) * (value - _number(xi * CONSTANT, iv)) - 2
            for form, value in ell.items()
        }
        excess = surgery - plain
        gradients = (
            p < 0 and p * p < s1 * s2 and -p * (s1 + s2) >= 2 * s1 * s2
        )  # in conflict, cos > -1, (a)
        holds = (
            gradients and ell["uniform"].b <= _number(CONSTANT, iv).a and c["uniform"].a >= 0
        )  # (c) has (b) in it
        report = {
            "t": str(STEP), "L": str(CONSTANT), "xi": str(xi), "cos_squared": str(p * p / (s1 * s2)),
            "l": {form: _text(value) for form, value in ell.items()},
            "t_excess_of_c": {form: _text(value) for form, value in c.items()},
            "excess_loss_of_pcgrad": _text(excess),
            "largest_width": mp.nstr(mp.mpf(max(x.delta for x in (*ell.values(), *c.values(), excess)).b), 3),
            "refutes": bool(holds and excess.a > 0),
            "repaired_c_fails": bool(c["remainder"].b < 0),
        }  # fmt: skip
    finally:
        iv.dps = before
    return {**report, "mpmath": _confirmed(g, pc, report)}


def _slope_after(g: Vector) -> Any:
    """g . grad L(theta^MT), an interval."""
    theta, total = _numbers(scale(-STEP, g), iv), iv.mpf(0)
    for a, k in zip(ROWS, FACTORS, strict=True):
        e = _number(k, iv) * iv.exp(_number(a[0], iv) * theta[0] + _number(a[1], iv) * theta[1])
        total += _number(dot(a, g), iv) * e / (1 + e)
    return total


def _confirmed(g: Vector, pc: Vector, report: dict[str, Any]) -> dict[str, str]:
    """l by numerical second derivatives under mp.quad, and the excess; BrokenError where the
    intervals disagree.
    """
    with mp.workdps(DIGITS):

        def along(a: Any) -> Any:
            return sum(losses([-a * x for x in _numbers(scale(STEP, g), mp)], mp))

        square = _number(STEP**2 * dot(g, g), mp)
        ell = mp.quad(lambda a: mp.diff(along, a, 2), [0, 1]) / square
        excess = sum(losses(_numbers(scale(-STEP, pc), mp), mp)) - along(1)
        found = {"l": ell, "excess_loss_of_pcgrad": excess}
        intervals = {
            "l": report["l"]["uniform"],
            "excess_loss_of_pcgrad": report["excess_loss_of_pcgrad"],
        }
        for name, value in found.items():
            if abs(value - mp.mpf(intervals[name])) > mp.mpf("1e-18"):
                raise BrokenError(
                    f"the smooth counterexample: {name} is {value}, by intervals {intervals[name]}"
                )
        return {name: mp.nstr(value, 20) for name, value in found.items()}


def _number(value: Fraction, numbers: Any) -> Any:
    return numbers.mpf(value.numerator) / numbers.mpf(value.denominator)


def _numbers(vector: Vector, numbers: Any) -> list[Any]:
    return [_number(Fraction(x), numbers) for x in vector]


def _text(value: Any) -> str:
    """The middle of an interval, 20 digits."""
    with mp.workdps(DIGITS):
        return str(mp.nstr(mp.mpf(value.mid.a), 20))
