"""Corollary 1 is false, step and limit: exact counterexamples with three convex tasks, all orders.

**Step.** Lᵢ = ‖θ‖²/6 + gᵢ·θ with g₁ = (3, −1, −1), g₂ = (−1, 3, −1), g₃ = (−1, −1, 3) from
θ = 0, where L = 1 and t = 1/L: in each of the 8 combinations of orders cos(g, g^PC) > 1/2 and the
loss rises.

**Limit.** Lᵢ = s²/18 + uᵢ·θ with s = θ₁ + θ₂ + θ₃, u₁ = (8, −4, −4)/3 and its permutations:
the sum is s²/6, L = 1, and the optimal value is 0. The gradients depend on s alone, and *every*
order maps s to (1 − tκ(s)) s with κ = (1 − c)² (identity `cycle`). Where tκ = 2 the iterates
alternate between s and −s for ever, at one loss above the optimum, with cos(g, g^PC) > 1/2 at
every step: in rationals s = 3, t = 121/128 < 1/L. Nothing here depends on how the orders are drawn.

Strongly convex tasks have an invariant set instead of a cycle: `invariant.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp
import torch

from proofs import exact
from proofs.judgement import Counterexample
from proofs.problems import look, quadratics, rounding

STEP = Fraction(121, 128)  # step of the rational cycle: 2/κ at s = 3
START = Fraction(3)
ROW = (3, -1)  # g₁ = (x, y, y) of the step's counterexample
DIGITS, UPDATES = 50, 60
Loss = Callable[..., Any]


@dataclass(frozen=True)
class Ascent:
    """The step in all orders, as one route found it."""

    smallest_cos: float
    smallest_rise: float
    refutes: bool


@dataclass(frozen=True)
class Cycle:
    """The two points of the limit's cycle, as one route found them."""

    alternates: bool
    smallest_cos: float
    loss: float


def symmetric(x: Any, y: Any) -> list[exact.Vector]:
    """(x, y, y), (y, x, y), (y, y, x)."""
    return [(x, y, y), (y, x, y), (y, y, x)]


def bowls() -> list[Loss]:
    """Lᵢ = ‖θ‖²/6 + gᵢ·θ."""

    def task(row: exact.Vector) -> Loss:
        return lambda *theta: exact.dot(theta, theta) / 6 + exact.dot(row, theta)

    return [task(row) for row in symmetric(*ROW)]


def troughs() -> list[Loss]:
    """Lᵢ = s²/18 + uᵢ·θ."""

    def task(i: int) -> Loss:
        row = tuple(Fraction(8 if k == i else -4, 3) for k in range(3))
        return lambda *theta: sum(theta) ** 2 / 18 + exact.dot(row, theta)

    return [task(i) for i in range(3)]


def ascent_in_rationals() -> Ascent:
    """Take the step from 0 at t = 1/L = 1 in all 8 orders; L(θ) = ‖θ‖²/2 + g·θ."""
    gradients = exact.rationals(symmetric(*ROW))
    g = exact.add(*gradients)
    rises, half, cosines = [], [], []
    for orders in exact.all_orders(3):
        end = exact.update(gradients, orders)
        rises.append(exact.dot(end, end) / 2 - exact.dot(g, end))
        half.append(exact.cosine_above_half(g, end))
        cosines.append(exact.dot(g, end) ** 2 / (exact.dot(g, g) * exact.dot(end, end)))
    refutes = all(half) and all(rise > 0 for rise in rises)
    return Ascent(float(min(cosines)) ** 0.5, float(min(rises)), refutes)


def ascent_by_core() -> Ascent:
    """Take the same step in float64 through the core.

    A = 1, b = 3gᵢ and s = 1/3 add only the constant 3‖gᵢ‖²/2 to Lᵢ.
    """
    # One problem for each combination of orders.
    orders = torch.tensor(list(exact.all_orders(3)))
    count, gradients = len(orders), torch.tensor(symmetric(*ROW), dtype=torch.float64)
    identity = torch.eye(3, dtype=torch.float64).expand(count, 3, 3, 3)
    problems = quadratics(identity, (3 * gradients).expand(count, 3, 3), 1 / 3)
    theta = problems.start()
    point, step = look(problems, theta, orders), 1 / problems.lipschitz()
    after = theta - step.unsqueeze(-1) * point.g_pc
    rise = problems.loss(after) - problems.loss(theta)
    cos = torch.cosine_similarity(point.g, point.g_pc, dim=-1)
    beyond = (rise > rounding(problems, theta, (after,), step)).all()
    return Ascent(float(cos.min()), float(rise.min()), bool(beyond and (cos > 0.5).all()))


def mp_step(
    tasks: list[Loss], theta: exact.Vector, orders: exact.Orders, step: Any
) -> tuple[exact.Vector, Any]:
    """Return θ⁺ and cos(g, g^PC) from the values of the losses alone, with gradients by mp.diff."""
    units = [tuple(int(i == k) for i in range(len(theta))) for k in range(len(theta))]
    gradients = [tuple(mp.diff(loss, theta, unit) for unit in units) for loss in tasks]
    g, g_pc = exact.add(*gradients), exact.update(gradients, orders)
    cos = exact.dot(g, g_pc) / mp.sqrt(exact.dot(g, g) * exact.dot(g_pc, g_pc))
    return exact.add(theta, exact.scale(-step, g_pc)), cos


def flat_gradients(s: Any) -> list[exact.Vector]:
    """gᵢ = (s/9)(1, 1, 1) + uᵢ."""
    third = Fraction(1, 3)
    return [tuple(s / 9 + third * (8 if k == i else -4) for k in range(3)) for i in range(3)]


def cycle_in_rationals() -> Cycle:
    """Map s = 3 and s = −3 in every order, exactly, and compute the loss there."""
    after, above, cosines = set(), [], []
    for s in (START, -START):
        gradients = flat_gradients(s)
        g = exact.add(*gradients)
        for orders in exact.all_orders(3):
            g_pc = exact.update(gradients, orders)
            after.add((s, s - STEP * sum(g_pc)))
            above.append(exact.cosine_above_half(g, g_pc))
            # Squared cosines stay rational.
            cosines.append(exact.dot(g, g_pc) ** 2 / (exact.dot(g, g) * exact.dot(g_pc, g_pc)))
    alternates = after == {(START, -START), (-START, START)} and all(above)
    return Cycle(alternates, float(min(cosines)) ** 0.5, float(START**2 / 6))


def cycle_by_mpmath() -> Cycle:
    """Approach the rational cycle from nearby, in 50 digits and from the losses alone."""
    with mp.workdps(DIGITS):
        third = mp.mpf(1) / 3

        def task(i: int) -> Loss:
            row = tuple(third * (8 if k == i else -4) for k in range(3))
            return lambda *theta: sum(theta) ** 2 / 18 + exact.dot(row, theta)

        tasks = [task(i) for i in range(3)]
        theta, step = (mp.mpf(11) / 10,) * 3, mp.mpf(STEP.numerator) / STEP.denominator
        lowest, distances = mp.mpf(1), []
        for _ in range(UPDATES):
            theta, cos = mp_step(tasks, theta, exact.cyclic_orders(3), step)
            distances.append(abs(abs(sum(theta)) - 3))
            lowest = min(lowest, cos)
        # The cycle attracts, so that the distance to it must shrink.
        close = bool(distances[-1] < distances[0] / 1000)
        return Cycle(close, float(lowest), float(sum(theta) ** 2 / 6))


def ascending() -> Counterexample:
    """The counterexample to the descent step."""
    rational, core = ascent_in_rationals(), ascent_by_core()
    return Counterexample(
        "exact example",
        f"g_i = ({ROW[0]}, {ROW[1]}, {ROW[1]}) and its permutations, L_i = ‖θ‖²/6 + g_i · θ, "
        f"t = 1/L = 1: in all 8 orders cos(g, g^PC) ≥ {rational.smallest_cos:.3f} and the loss "
        f"rises by {rational.smallest_rise:.3g} or more",
        {
            **exact.convex_and_smooth(bowls(), 3, 1),
            "cos(g, g^PC) ≥ 1/2 in every order": rational.smallest_cos >= 0.5,
        },
        "L(θ⁺) ≤ L(θ) fails in every order",
        {"rationals": rational.refutes, "the core in float64": core.refutes},
    )


def cycling(invariant: str, routes: dict[str, bool]) -> Counterexample:
    """The counterexample to the limit; `routes` are those of the strongly convex case."""
    rational, digits = cycle_in_rationals(), cycle_by_mpmath()
    return Counterexample(
        "exact example",
        f"L_i = s²/18 + u_i · θ, t = {STEP} < 1/L = 1: s alternates between {START} and −{START} "
        f"in every order, at the loss {rational.loss} above the optimal value 0; {invariant}",
        {
            **exact.convex_and_smooth(troughs(), 3, 1),
            "t ≤ 1/L": STEP <= 1,
            "cos(g, g^PC) ≥ 1/2 at every step": rational.smallest_cos >= 0.5,
        },
        "the loss never approaches its optimal value, and cos φ = −1 for all pairs is impossible",
        {"rationals": rational.alternates, "50 digits": digits.alternates, **routes},
    )
