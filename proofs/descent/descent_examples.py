"""Sharpness of Theorem 1's step 1/L, on an explicit instance in rationals.

The core's update in float64 repeats every step; BrokenError is raised where the two disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

import pcgrad
from proofs.tally import BrokenError

Vector = tuple[Fraction, Fraction]
ZERO = Fraction(0)
EXCESS = (Fraction(1, 10), Fraction(1, 1000), Fraction(1, 10**6))  # δ of t = (1 + δ)/L


@dataclass(frozen=True)
class Rise:
    """Whether the loss of one pair rises beyond the step 1/L."""

    delta: str
    loss_rises: bool  # whether it rises at (1 + δ)/L, and not at 1/L


def agree(exact: Vector, one: Vector, two: Vector) -> None:
    """Compare the update `exact` with the core's update of the gradients `one` and `two`.

    Raises:
        BrokenError: They differ.
    """
    gradients = torch.tensor([[float(x) for x in g] for g in (one, two)], dtype=torch.float64)
    weights = pcgrad.surgery_coefficients(gradients @ gradients.mT, pcgrad.fixed_orders(2)).sum(-2)
    update = (weights @ gradients).tolist()
    scale = max(abs(float(x)) for x in exact)
    if any(abs(a - float(b)) > 1e-9 * scale for a, b in zip(update, exact, strict=True)):
        raise BrokenError(f"the core's update {update} of {one} and {two} is not {exact}")


def changes(c: tuple[Vector, Vector], steps: tuple[Fraction, ...]) -> list[Fraction]:
    """Return the change of the loss by PCGrad's steps from θ = 0, in conflict.

    The tasks are Lᵢ = ‖θ − cᵢ‖²/2, so that L = 2.
    """

    def loss(x: Fraction, y: Fraction) -> Fraction:
        return sum((((x - a) ** 2 + (y - b) ** 2) / 2 for a, b in c), ZERO)

    (a1, b1), (a2, b2) = ((-a, -b) for a, b in c)  # gradients at 0
    product, s1, s2 = a1 * a2 + b1 * b2, a1**2 + b1**2, a2**2 + b2**2
    if product >= 0:
        raise BrokenError(f"the targets {c} do not conflict")
    first, second = 1 - product / s1, 1 - product / s2
    g_pc = (first * a1 + second * a2, first * b1 + second * b2)
    agree(g_pc, (a1, b1), (a2, b2))
    return [loss(-step * g_pc[0], -step * g_pc[1]) - loss(ZERO, ZERO) for step in steps]


def sharp_step() -> list[Rise]:
    """1/L is the largest step that works for every pair: the loss rises at t = (1 + δ)/L.

    The instance is c₁ = (−1, δ/2), c₂ = (1, δ/2): equal lengths (Φ = 1) and 1 + cos φ < δ²/2
    (identity `sharpness`).
    """
    rows = []
    for delta in EXCESS:
        c = ((Fraction(-1), delta / 2), (Fraction(1), delta / 2))
        at_limit, beyond = changes(c, (Fraction(1, 2), (1 + delta) / 2))
        rows.append(Rise(str(delta), beyond > 0 >= at_limit))
    return rows
