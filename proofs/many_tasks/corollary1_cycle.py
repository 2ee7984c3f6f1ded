"""Corollary 1 is false, step and limit: exact counterexamples with three convex tasks, all orders.

**Step.** Lᵢ = ‖θ‖²/6 + gᵢ·θ with g₁ = (3, −1, −1), g₂ = (−1, 3, −1), g₃ = (−1, −1, 3) from
θ = 0, where L = 1 and t = 1/L: in each of the 8 combinations of orders cos(g, g^PC) > 1/2 and the
loss rises.

**Limit.** Lᵢ = s²/18 + uᵢ·θ with s = θ₁ + θ₂ + θ₃, u₁ = (8, −4, −4)/3 and its permutations:
the sum is s²/6, L = 1, and the optimal value is 0. Every order maps s to (1 − t(1 − c)²) s
(identity `cycle`). With t = 121/128 < 1/L the iterates alternate between s = 3 and −3 for ever,
with cos(g, g^PC) > 1/2 at every step.
"""

from __future__ import annotations

from collections.abc import Callable
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


def symmetric(x: Any, y: Any) -> list[exact.Vector]:
    """(x, y, y), (y, x, y), (y, y, x)."""
    return [(x, y, y), (y, x, y), (y, y, x)]


SLOPES = symmetric(Fraction(8, 3), Fraction(-4, 3))  # uᵢ


def bowls() -> list[Loss]:
    """Lᵢ = ‖θ‖²/6 + gᵢ·θ."""
    return [
        lambda *theta, row=row: exact.dot(theta, theta) / 6 + exact.dot(row, theta)
        for row in symmetric(*ROW)
    ]


def troughs() -> list[Loss]:
    """Lᵢ = s²/18 + uᵢ·θ."""
    return [lambda *theta, row=row: sum(theta) ** 2 / 18 + exact.dot(row, theta) for row in SLOPES]


def ascent_in_rationals() -> tuple[Fraction, Fraction]:
    """Return the smallest cos²(g, g^PC) and rise of the loss over all 8 orders.

    The step is −g^PC, from 0 at t = 1/L = 1, and L(θ) = ‖θ‖²/2 + g·θ.
    """
    gradients = exact.rationals(symmetric(*ROW))
    g = exact.add(*gradients)
    updates = [exact.update(gradients, orders) for orders in exact.all_orders(3)]
    rise = min(exact.dot(g_pc, g_pc) / 2 - exact.dot(g, g_pc) for g_pc in updates)
    return min(exact.squared_cosine(g, g_pc) for g_pc in updates), rise


def ascent_by_core() -> bool:
    """Test whether the same step in float64 through the core ascends in every order.

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
    beyond = rise > rounding(problems, theta, (after,), step)
    return bool((beyond & (cos > 0.5)).all())


def cycle_in_rationals() -> tuple[bool, Fraction]:
    """Return whether s alternates between 3 and −3 in every order, and the smallest cos²(g, g^PC).

    The gradients are gᵢ = (s/9)(1, 1, 1) + uᵢ.
    """
    after, squares = set(), []
    for s in (START, -START):
        gradients = [tuple(s / 9 + x for x in row) for row in SLOPES]
        g = exact.add(*gradients)
        for orders in exact.all_orders(3):
            g_pc = exact.update(gradients, orders)
            after.add((s, s - STEP * sum(g_pc)))
            squares.append(exact.squared_cosine(g, g_pc))
    return after == {(START, -START), (-START, START)}, min(squares)


def drawn_to_the_cycle() -> bool:
    """Test whether iterates from nearby approach the cycle, in 50 digits.

    The gradients come from the values of the losses alone, by mp.diff.
    """
    with mp.workdps(DIGITS):
        tasks, units = troughs(), symmetric(1, 0)
        theta, distances = (mp.mpf(11) / 10,) * 3, []
        for _ in range(UPDATES):
            gradients = [tuple(mp.diff(loss, theta, unit) for unit in units) for loss in tasks]
            g_pc = exact.update(gradients, exact.cyclic_orders(3))
            theta = exact.add(theta, exact.scale(-exact.in_digits(STEP), g_pc))
            distances.append(abs(abs(sum(theta)) - 3))
        return bool(distances[-1] < distances[0] / 1000)


def ascending() -> Counterexample:
    """The counterexample to the descent step."""
    square, rise = ascent_in_rationals()
    return Counterexample(
        "exact example",
        f"g_i = ({ROW[0]}, {ROW[1]}, {ROW[1]}) and its permutations, L_i = ‖θ‖²/6 + g_i · θ, "
        f"t = 1/L = 1: in all 8 orders cos(g, g^PC) ≥ {float(square) ** 0.5:.3f} and the loss "
        f"rises by {float(rise):.3g} or more",
        {
            **exact.convex_and_smooth(bowls(), 3, 1),
            "cos(g, g^PC) ≥ 1/2 in every order": square >= Fraction(1, 4),
        },
        "L(θ⁺) ≤ L(θ) fails in every order",
        {"rationals": rise > 0, "the core in float64": ascent_by_core()},
    )


def cycling(invariant: str, routes: dict[str, bool]) -> Counterexample:
    """The counterexample to the limit; `routes` are those of the strongly convex case."""
    alternates, square = cycle_in_rationals()
    return Counterexample(
        "exact example",
        f"L_i = s²/18 + u_i · θ, t = {STEP} < 1/L = 1: s alternates between {START} and −{START} "
        f"in every order, at the loss {float(START**2 / 6)} above the optimal value 0; {invariant}",
        {
            **exact.convex_and_smooth(troughs(), 3, 1),
            "t ≤ 1/L": STEP <= 1,
            "cos(g, g^PC) ≥ 1/2 at every step": square >= Fraction(1, 4),
        },
        "the loss never approaches its optimal value, and cos φ = −1 for all pairs is impossible",
        {"rationals": alternates, "50 digits": drawn_to_the_cycle(), **routes},
    )
