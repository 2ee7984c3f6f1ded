"""Algorithm 1 of the paper, line by line, on vectors of `fractions.Fraction` or mpmath numbers.

It shares no code with the core, which works on the Gramian in float64, and can therefore serve as
the core's reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import mpmath as mp
import sympy as sp

Vector = tuple[Any, ...]
Orders = Sequence[Sequence[int]]  # row i: the order in which task i visits the other tasks
TWO: Orders = ((1,), (0,))  # with two tasks each visits the other


def rationals(rows: Sequence[Sequence[Any]]) -> list[Vector]:
    """Convert rows to vectors of Fractions; a float becomes the rational that it represents."""
    return [tuple(Fraction(x) for x in row) for row in rows]


def in_digits(x: Fraction | int) -> Any:
    """Convert a rational to a number of mpmath, in the digits of its context."""
    return mp.mpf(x.numerator) / x.denominator


def like(x: Fraction | int, number: Any) -> Any:
    """Convert a rational to the kind of `number`, a rational or a number of mpmath."""
    return x if isinstance(number, Fraction) else in_digits(x)


def dot(u: Vector, v: Vector) -> Any:
    """u·v."""
    return sum((a * b for a, b in zip(u, v, strict=True)), 0 * u[0])


def add(*vectors: Vector) -> Vector:
    """Return the sum of vectors."""
    return tuple(sum(entries, 0 * entries[0]) for entries in zip(*vectors, strict=True))


def scale(a: Any, u: Vector) -> Vector:
    """a u."""
    return tuple(a * x for x in u)


def projected(gradients: Sequence[Vector], orders: Orders) -> list[Vector]:
    """Return g₁^PC … g_T^PC of Algorithm 1, line by line.

    A zero gradient conflicts with nothing.
    """
    result = []
    for i, others in enumerate(orders):
        v = gradients[i]
        for j in others:
            # The projection uses the other task's original gradient, not its projected one.
            g_j = gradients[j]
            inner = dot(v, g_j)
            # Algorithm 1 tests the current vector v, after the projections so far.
            if inner < 0:
                v = add(v, scale(-inner / dot(g_j, g_j), g_j))
        result.append(v)
    return result


def update(gradients: Sequence[Vector], orders: Orders = TWO) -> Vector:
    """g^PC = Σᵢ gᵢ^PC; the default orders serve two tasks."""
    return add(*projected(gradients, orders))


def all_orders(tasks: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield every combination of orders: (T − 1)!ᵀ of them, 8 for T = 3, 1296 for T = 4."""
    return product(*(permutations([j for j in range(tasks) if j != i]) for i in range(tasks)))


def cyclic_orders(tasks: int) -> tuple[tuple[int, ...], ...]:
    """Return the orders in which task i visits i + 1, i + 2, … modulo T."""
    return tuple(tuple((i + k) % tasks for k in range(1, tasks)) for i in range(tasks))


def hessian(loss: Callable[..., Any], size: int) -> sp.Matrix:
    """Return the Hessian of a loss with rational coefficients, exactly."""
    theta = sp.symbols(f"x:{size}")
    return sp.hessian(loss(*theta), theta)


def convex_and_smooth(
    losses: Sequence[Callable[..., Any]], size: int, constant: Any
) -> dict[str, bool]:
    """Test whether quadratics are convex and the gradient of their sum is `constant`-Lipschitz.

    The test is exact: both are statements about definite matrices of rationals.
    """
    hessians = [hessian(loss, size) for loss in losses]
    total = sum(hessians, sp.zeros(size, size))
    # 0 ≤ ∇²L ≤ constant is the Lipschitz condition for a convex quadratic.
    ends = total, sp.Rational(str(constant)) * sp.eye(size) - total
    return {
        "convex tasks": all(bool(h.is_positive_semidefinite) for h in hessians),
        f"∇L is Lipschitz with L = {constant}": all(bool(h.is_positive_semidefinite) for h in ends),
    }


def bends_between(
    slope_of: Callable[[Any], Any], points: Sequence[Any], low: Any, high: Any
) -> bool:
    """Test whether second differences of a function of one variable stay in [low, high]."""
    # A second difference is a weighted mean of the second derivative.
    step = Fraction(1, 64)
    bends = [(slope_of(x + step) - 2 * slope_of(x) + slope_of(x - step)) / step**2 for x in points]
    return all(low <= bend <= high for bend in bends)


def squared_cosine(u: Vector, v: Vector) -> Any:
    """Return cos² with the sign of cos, which needs no square root and stays rational."""
    inner = dot(u, v)
    return inner * abs(inner) / (dot(u, u) * dot(v, v))
