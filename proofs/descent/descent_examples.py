"""Sharpness of Theorem 1's step 1/L, on an explicit instance in rationals."""

from __future__ import annotations

from fractions import Fraction

import torch

from proofs import exact
from proofs.problems import Point
from proofs.tally import BrokenError

EXCESS = (Fraction(1, 10), Fraction(1, 1000), Fraction(1, 10**6))  # δ of t = (1 + δ)/L


def changes(centers: list[exact.Vector], steps: tuple[Fraction, ...]) -> list[Fraction]:
    """Return the change of the loss by PCGrad's steps from θ = 0, in conflict.

    The tasks are Lᵢ = ‖θ − cᵢ‖²/2, so that L = 2 and L(θ) − L(0) = g·θ + ‖θ‖².

    Raises:
        BrokenError: The tasks do not conflict, or the core's update in float64 is another.
    """
    pair = [exact.scale(-1, center) for center in centers]  # gradients at 0
    if exact.dot(*pair) >= 0:
        raise BrokenError(f"the targets {centers} do not conflict")
    g, g_pc = exact.add(*pair), exact.update(pair)
    wanted = torch.tensor([float(x) for x in g_pc], dtype=torch.float64)
    rows = torch.tensor([[[float(x) for x in v] for v in pair]], dtype=torch.float64)
    found = Point.of(rows).g_pc[0]
    if (found - wanted).abs().max() > 1e-9 * wanted.abs().max():
        raise BrokenError(f"the core's update {found.tolist()} of {pair} is not {g_pc}")
    return [t**2 * exact.dot(g_pc, g_pc) - t * exact.dot(g, g_pc) for t in steps]


def sharp_step() -> dict[Fraction, bool]:
    """Return for each δ whether the loss rises at t = (1 + δ)/L, and not at 1/L.

    The instance is c₁ = (−1, δ/2), c₂ = (1, δ/2): equal lengths (Φ = 1) and 1 + cos φ < δ²/2
    (identity `sharpness`).
    """
    rows = {}
    for delta in EXCESS:
        centers = exact.rationals([(-1, delta / 2), (1, delta / 2)])
        at_limit, beyond = changes(centers, (Fraction(1, 2), (1 + delta) / 2))
        rows[delta] = beyond > 0 >= at_limit
    return rows
