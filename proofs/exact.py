"""Algorithm 1 of the paper, literally, on vectors of exact numbers: any number of tasks, any
orders, no rounding.

Works for `fractions.Fraction` and for whatever else adds, multiplies, divides and compares with 0
exactly. It shares no line with the core, which works on the Gramian in float64, and is therefore
what the core is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import sympy as sp

Vector = tuple[Any, ...]
Orders = Sequence[Sequence[int]]  # row i: the other tasks in the order in which task i visits them


def rationals(rows: Sequence[Sequence[Any]]) -> list[Vector]:
    """Vectors of Fractions; a float becomes the rational that it is."""
    return [tuple(Fraction(x) for x in row) for row in rows]


def dot(u: Vector, v: Vector) -> Any:
    """u . v"""
    return sum((a * b for a, b in zip(u, v, strict=True)), 0 * u[0])


def add(*vectors: Vector) -> Vector:
    """The sum of vectors."""
    return tuple(sum(entries, 0 * entries[0]) for entries in zip(*vectors, strict=True))


def scale(a: Any, u: Vector) -> Vector:
    """a u"""
    return tuple(a * x for x in u)


def projected(gradients: Sequence[Vector], orders: Orders) -> list[Vector]:
    """g_1^PC ... g_T^PC of Algorithm 1, line by line; a zero gradient conflicts with nothing."""
    result = []
    for i, others in enumerate(orders):
        v = gradients[i]
        for j in others:
            g_j = gradients[j]
            inner = dot(v, g_j)
            if inner < 0:
                v = add(v, scale(-inner / dot(g_j, g_j), g_j))
        result.append(v)
    return result


def update(gradients: Sequence[Vector], orders: Orders) -> Vector:
    """g^PC = sum_i g_i^PC."""
    return add(*projected(gradients, orders))


def all_orders(tasks: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every combination of orders: (T - 1)!^T of them, 8 for three tasks and 1296 for four."""
    return product(*(permutations([j for j in range(tasks) if j != i]) for i in range(tasks)))


def cyclic_orders(tasks: int) -> tuple[tuple[int, ...], ...]:
    """Task i visits i + 1, i + 2, ... modulo T."""
    return tuple(tuple((i + k) % tasks for k in range(1, tasks)) for i in range(tasks))


def hessian(loss: Callable[..., Any], size: int) -> sp.Matrix:
    """The Hessian of a quadratic from its values alone, exactly: second differences at 0."""

    def at(*steps: int) -> Any:
        place = [Fraction(0)] * size
        for k in steps:
            place[k] += 1
        return loss(*place)

    zero = at()
    entries = [[at(i, k) - at(i) - at(k) + zero for k in range(size)] for i in range(size)]
    return sp.Matrix(size, size, lambda i, k: sp.Rational(str(entries[i][k])))


def convex_and_smooth(
    losses: Sequence[Callable[..., Any]], size: int, constant: Any
) -> dict[str, bool]:
    """Whether quadratics are convex and the gradient of their sum is `constant`-Lipschitz, exactly."""
    hessians = [hessian(loss, size) for loss in losses]
    total = sum(hessians, sp.zeros(size, size))
    ends = total, sp.Rational(str(constant)) * sp.eye(size) - total
    return {
        "convex tasks": all(bool(h.is_positive_semidefinite) for h in hessians),
        f"∇L is Lipschitz with L = {constant}": all(bool(h.is_positive_semidefinite) for h in ends),
    }


def bends_between(
    slope_of: Callable[[Any], Any], points: Sequence[Any], low: Any, high: Any
) -> bool:
    """Whether second differences of a function of one variable stay in [low, high] at the points."""
    step = Fraction(1, 64)
    bends = [(slope_of(x + step) - 2 * slope_of(x) + slope_of(x - step)) / step**2 for x in points]
    return all(low <= bend <= high for bend in bends)


def cosine_above_half(g: Vector, g_pc: Vector) -> bool:
    """Whether cos(g, g^PC) > 1/2, without its square roots: g . g^PC > 0 and 4 (g . g^PC)^2 >
    ||g||^2 ||g^PC||^2.
    """
    inner = dot(g, g_pc)
    return bool(inner > 0 and 4 * inner**2 > dot(g, g) * dot(g_pc, g_pc))
