"""Theorem 4's examples in exact rationals, and the method in both kinds of numbers.

| example   | losses                     | step αₖ   | result                  |
|-----------|----------------------------|-----------|-------------------------|
| printed   | L₁ = L₂ = 16θ²             | printed   | αₖ Lₖ = 16: diverges    |
| piecewise | L₁ = L₂ = f/2, no conflict | corrected | a cycle of three points |

The minimizer 0 is common to both tasks in each of them. `piecewise`, which is only drawn, is the
cycle of Lessard, Recht and Packard, SIAM J. Optim. 26 (2016) 57–95, section 4.6. The instance that
refutes the corrected theorem, in conflict at every iterate, is in `three_cycle.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import isqrt
from typing import Any

import mpmath as mp
import torch

from proofs import exact
from proofs.exact import Vector
from proofs.judgement import Counterexample
from proofs.momentum import heavy_ball
from proofs.tally import BrokenError

Matrix = tuple[Any, Any, Any]  # [[a, b], [b, c]] as (a, b, c)
Gradients = Callable[[Vector], list[Vector]]
F = Fraction


def root(x: Any) -> Any:
    """Return the square root of an mpmath number or of the square of a rational.

    Raises:
        BrokenError: A rational is not the square of a rational.
    """
    if not isinstance(x, Fraction):
        return mp.sqrt(x)
    found = Fraction(isqrt(x.numerator), isqrt(x.denominator))
    if found**2 != x:
        raise BrokenError(f"theorem4: {x} is not the square of a rational")
    return found


def coefficients(weights: tuple[Any, Any], mu: Any, top: Any, rule: str) -> tuple[Any, Any]:
    """Return αₖ and βₖ as printed, for rationals and mpmath numbers alike."""
    mu_k, top_k = exact.dot(weights, mu), exact.dot(weights, top)
    if rule == "printed":
        alpha = 4 / (root(top_k) + root(mu_k))
    else:
        alpha = 4 / (top_k + mu_k + 2 * root(top_k * mu_k))
    return alpha, max(abs(1 - root(alpha * mu_k)), abs(1 - root(alpha * top_k))) ** 2


def orbit(
    gradients: Gradients, mu: Any, top: Any, start: Vector, previous: Vector, steps: int, rule: str
) -> list[Vector]:
    """Return θ₀ … θ_steps; exact for Fractions."""
    path = [start]
    for _ in range(steps):
        now = path[-1]
        g = gradients(now)
        s1, s2, p = exact.dot(g[0], g[0]), exact.dot(g[1], g[1]), exact.dot(*g)
        weights = (1 - min(p, 0) / s1, 1 - min(p, 0) / s2)
        alpha, beta = coefficients(weights, mu, top, rule)
        momentum = exact.add(now, exact.scale(-1, previous))
        # Algorithm 1 itself, so that the update does not depend on the formula of the weights.
        pull = exact.update(g)
        previous = now
        path.append(exact.add(now, exact.scale(-alpha, pull), exact.scale(beta, momentum)))
    return path


def through_the_core(
    gradients: Gradients, mu: Any, top: Any, start: Vector, previous: Vector, steps: int, rule: str
) -> list[tuple[float, ...]]:
    """Follow the same path in float64 by `heavy_ball.look` and `heavy_ball.move`."""
    theta, before, low, high = (
        torch.tensor([[float(x) for x in v]], dtype=torch.float64)
        for v in (start, previous, mu, top)
    )
    path = [tuple(theta[0].tolist())]
    for _ in range(steps):
        rows = [[float(x) for x in v] for v in gradients(path[-1])]
        seen = heavy_ball.look(torch.tensor([rows], dtype=torch.float64), low, high)
        theta, before = heavy_ball.move(seen, theta, before, rule), theta
        path.append(tuple(theta[0].tolist()))
    return path


def quadratics(one: Matrix, two: Matrix) -> Gradients:
    """gᵢ = Hᵢ θ."""
    return lambda theta: [
        tuple(exact.dot(row, theta) for row in ((h[0], h[1]), (h[1], h[2]))) for h in (one, two)
    ]


def scalar(slope: Callable[[Any], Any]) -> Gradients:
    """Two identical tasks in one dimension, slope = L₁' = L₂'."""
    return lambda theta: [(slope(theta[0]),), (slope(theta[0]),)]


def close(path: list[Vector], core: list[tuple[float, ...]]) -> bool:
    """Test whether float64 through the core follows the exact path."""
    return all(
        abs(float(x) - y) <= 1e-9 * max(1.0, abs(float(x)))
        for a, b in zip(path, core, strict=True)
        for x, y in zip(a, b, strict=True)
    )


def printed() -> Counterexample:
    """The printed αₖ on L₁ = L₂ = 16θ²: integers that grow."""
    half, start = (F(32), F(32)), (F(1),)
    gradients = scalar(lambda x: 32 * x)
    path = orbit(gradients, half, half, start, start, 6, "printed")
    core = through_the_core(gradients, half, half, start, start, 6, "printed")
    shown = ", ".join(str(theta[0]) for theta in path[:5])
    # The gradients are equal, never in conflict, so that both weights are 1.
    alpha, _ = coefficients((F(1), F(1)), half, half, "printed")
    bend = exact.hessian(lambda x: 16 * x**2, 1)[0]
    return Counterexample(
        "exact example",
        f"L_1 = L_2 = 16θ², μ_k = L_k = 64, α_k L_k = {alpha * 64}: θ = {shown}, …",
        {
            "both tasks 32-strongly convex and 32-smooth": bend == 32,
            "α_k = 4/(√L_k + √μ_k) as printed": alpha == F(1, 4),
        },
        "the iterates grow without bound; cos φ = 1 throughout",
        {
            "rationals": all(abs(b[0]) > abs(a[0]) for a, b in pairwise(path)),
            "the core in float64": close(path, core),
        },
    )


def piecewise_slope(x: Any) -> Any:
    """f'(x), whose slope is between 1 and 25."""
    return 25 * x if x < 1 else (x + 24 if x < 2 else 25 * x - 24)


MU, TOP = (F(1, 2), F(1, 2)), (F(25, 2), F(25, 2))  # of f/2
START, BEFORE = (F(792, 1225),), (F(2592, 1225),)


def piecewise_path() -> list[Vector]:
    """The cycle of Lessard, Recht and Packard as two tasks f/2, in rationals."""
    gradients = scalar(lambda x: piecewise_slope(x) / 2)
    return orbit(gradients, MU, TOP, START, BEFORE, 6, "corrected")
