"""Dropped hypotheses of Theorem 1 and Proposition 1, each an explicit instance in exact rationals.

The core's update in float64 goes every step again; BrokenError where the two disagree.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

import pcgrad
from proofs.tally import BrokenError

Vector = tuple[Fraction, Fraction]
ZERO = Fraction(0)
EXCESS = (Fraction(1, 10), Fraction(1, 1000), Fraction(1, 10**6))  # delta of t = (1 + delta) / L


def agree(exact: Vector, one: Vector, two: Vector) -> None:
    """BrokenError unless the core makes the update `exact` of the gradients `one` and `two`."""
    gradients = torch.tensor([[float(x) for x in g] for g in (one, two)], dtype=torch.float64)
    weights = pcgrad.surgery_coefficients(gradients @ gradients.mT, pcgrad.fixed_orders(2)).sum(-2)
    update = (weights @ gradients).tolist()
    scale = max(abs(float(x)) for x in exact)
    if any(abs(a - float(b)) > 1e-9 * scale for a, b in zip(update, exact, strict=True)):
        raise BrokenError(f"the core's update {update} of {one} and {two} is not {exact}")


def quadratic_step(c: tuple[Vector, Vector], steps: tuple[Fraction, ...]) -> dict[str, Fraction]:
    """L_i = ||theta - c_i||^2 / 2 from theta = 0 (so L = 2): losses and bounds of PCGrad's step, in
    conflict.
    """

    def loss(x: Fraction, y: Fraction) -> Fraction:
        return sum((((x - a) ** 2 + (y - b) ** 2) / 2 for a, b in c), ZERO)

    (a1, b1), (a2, b2) = ((-a, -b) for a, b in c)  # gradients at 0
    product, s1, s2 = a1 * a2 + b1 * b2, a1**2 + b1**2, a2**2 + b2**2
    if product >= 0:
        raise BrokenError(f"the targets {c} do not conflict")
    weights = (1 - product / s1, 1 - product / s2)
    g_pc = (weights[0] * a1 + weights[1] * a2, weights[0] * b1 + weights[1] * b2)
    agree(g_pc, (a1, b1), (a2, b2))
    kept = (1 - product**2 / (s1 * s2)) * ((a1 + a2) ** 2 + (b1 + b2) ** 2)
    rows = {"loss at start": loss(ZERO, ZERO)}
    for step in steps:
        rows[f"loss after t = {step}"] = loss(-step * g_pc[0], -step * g_pc[1])
        rows[f"bound at t = {step}"] = loss(ZERO, ZERO) - step * kept / 2
    return rows


def rising_step() -> dict[str, str]:
    """Drop t <= 1 / L once: c_1 = (-1, 1), c_2 = (2, 1), L = 2, t = 2 / L; g_1 = (1, -1), g_2 =
    (-2, -1).
    """
    c = ((Fraction(-1), Fraction(1)), (Fraction(2), Fraction(1)))
    rows = quadratic_step(c, (Fraction(1, 2), Fraction(1)))
    return {name: str(value) for name, value in rows.items()}


def sharp_step() -> list[dict[str, Any]]:
    """1 / L is the largest step that works for every pair: for each delta > 0 the loss rises at t =
    (1 + delta) / L.

    c_1 = (-1, delta / 2), c_2 = (1, delta / 2): equal lengths (Phi = 1), 1 + cos < delta^2 / 2
    (`identities_descent.sharpness`, and `identities.largest_step` as c -> -1).
    """
    rows = []
    for delta in EXCESS:
        c = ((Fraction(-1), delta / 2), (Fraction(1), delta / 2))
        allowed, step = Fraction(1, 2), (1 + delta) / 2
        found = quadratic_step(c, (allowed, step))
        before, at_limit, after = (
            found[key]
            for key in ("loss at start", f"loss after t = {allowed}", f"loss after t = {step}")
        )
        rows.append(
            {
                **{"delta": str(delta), "t_times_L": str(1 + delta), "rise": str(after - before)},
                **{
                    "rise_at_1_over_L": str(at_limit - before),
                    "loss_rises": after > before >= at_limit,
                },
            }
        )
    return rows


def saddle() -> dict[str, Any]:
    """Drop convexity once: L_1 = L_2 = (x^2 - y^2) / 2 from (1, 0), t = 1 / L = 1/2.

    One step ends at the saddle (0, 0) and stays: neither cos phi = -1 nor the optimal value
    (-infinity). The descent step itself holds, so that convexity is idle there and needed for the
    limit alone."""
    x, y, step = 1.0, 0.0, 0.5
    for _ in range(10):
        x, y = x - step * 2 * x, y + step * 2 * y
    return {"x": x, "y": y, "loss": x**2 - y**2, "loss_at_0_1": -1.0}


def walk(slope: Any, x: Fraction, step: Fraction, updates: int) -> list[Fraction]:
    """PCGrad on L_1 = L_2 in one dimension, where the gradients agree: x -> x - t (L_1' + L_2')(x)."""
    points = [x]
    for _ in range(updates):
        g = slope(points[-1])
        agree((2 * g, ZERO), (g, ZERO), (g, ZERO))
        points.append(points[-1] - step * 2 * g)
    return points


def long_step() -> dict[str, Any]:
    """Drop t <= 1 / L in the limit: L_1 = L_2 = x^2 / 2, L = 2, t = 2 / L = 1: x -> -x for ever,
    with cos phi = 1.
    """
    points = walk(lambda x: x, Fraction(1), Fraction(1), 4)
    return {"t": "1", "walk": [str(x) for x in points], "claim_fails": points[2] == points[0] != 0}


def rough() -> dict[str, Any]:
    """Drop the Lipschitz gradient: L_1 = L_2 = |x|^(3/2), for which every t has a 2-cycle
    (`two_cycle`).

    It starts at x = 9 t^2 / 4; L_i' = 3/2 sign(x) sqrt(|x|) is rational there. cos phi = 1, the
    optimum is 0."""
    rows, fails = {}, True
    for step in (Fraction(1), Fraction(1, 10), Fraction(1, 1000)):
        root = 3 * step / 2  # sqrt |x|

        def slope(x: Fraction, root: Fraction = root) -> Fraction:
            if root**2 != abs(x):
                raise BrokenError(f"{root} is not the square root of |{x}|")
            return Fraction(3, 2) * root * (1 if x > 0 else -1)

        points = walk(slope, root**2, step, 4)
        rows[f"t = {step}"] = [str(x) for x in points]
        fails &= points[2] == points[0] == -points[1] != 0
    return {"walks": rows, "claim_fails": fails}


def unbounded() -> dict[str, Any]:
    """Proposition 1 as printed: L_1 = L_2 = x has grad L = 2 (Lipschitz with every L > 0), cos phi
    = 1 everywhere.

    No point is stationary and none has cos phi = -1, so that no sequence of points reaches either;
    here t = L = 1."""
    gradients = (Fraction(1), Fraction(1))  # the same at every x: the losses are linear
    points = walk(lambda x: gradients[0], ZERO, Fraction(1), 4)
    stationary, opposite = (
        sum(gradients) == 0,
        gradients[0] * gradients[1] < 0,
    )  # in 1-D cos = -1 is a negative product
    rows = {
        "walk": [str(x) for x in points],
        "losses": [str(2 * x) for x in points],
        "cos": "1",
        "gradient": "2",
    }
    return {**rows, "claim_fails": not stationary and not opposite}


def convex_limit(examples: dict[str, Any]) -> dict[str, Any]:
    """Theorem 1's hypotheses left out once each, and whether the limit (or, where named, the step)
    then fails.
    """
    sharp, rising, hollow = sharp_step(), rising_step(), saddle()
    return {
        "t <= 1 / L, step": {
            "example": rising,
            "sharp": sharp,
            "claim_fails": all(row["loss_rises"] for row in sharp),
        },
        "t <= 1 / L, limit": long_step(),
        "convex": {**hollow, "claim_fails": hollow["loss"] > hollow["loss_at_0_1"]},
        "Lipschitz gradient": rough(),
        "bounded level sets (not among the printed hypotheses)": {
            "example": "escape.attained",
            "claim_fails": examples["attained"]["refutes"],
        },
        "attained minimum (implied by theta*)": {
            "example": "escape.not_attained",
            "claim_fails": examples["not_attained"]["refutes"],
        },
    }


def general_limit(examples: dict[str, Any]) -> dict[str, Any]:
    """Proposition 1's hypotheses left out once each; its instances may be convex, too."""
    sharp = sharp_step()
    return {
        "t <= 1 / L, step": {
            "sharp": sharp,
            "claim_fails": all(row["loss_rises"] for row in sharp),
        },
        "t <= 1 / L": long_step(),
        "Lipschitz gradient": rough(),
        "bounded below (not among the printed hypotheses)": unbounded(),
        "bounded level sets (not among the printed hypotheses)": {
            "example": "escape.attained",
            "claim_fails": examples["attained"]["refutes"],
        },
    }
