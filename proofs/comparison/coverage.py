"""How many steps conditions (a)–(c) of Theorem 2 cover, by family and step length.

The instances are generic conflicts that are not built to satisfy the conditions: cos φ ~ U(−1, 0),
ratio of the lengths 10^U(−1, 1), dimensions 2 to 20. L is an upper bound (on softplus the largest
curvature found is about 0.67 L), so that the conditions cover more where L is known better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs.comparison.two_steps import compared, curvature_by_losses
from proofs.problems import CONVEX, Point, Problems, aim, look
from proofs.sampling import chunks, draw, sideways, stream

STEPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # t L


@dataclass(frozen=True)
class Covered:
    """Shares of a family's instances at one step length."""

    step: float  # t L
    instances: int
    no_worse: float  # L(θ^PC) ≤ L(θ^MT) up to rounding
    printed: float  # (a)–(c) with Definition 3
    theorem_c: float  # with ℓ²/L instead of ℓ, ℓ of Definition 3
    remainder: float  # with the exact remainder


def coverage(count: int, seed: int) -> dict[str, list[Covered]]:
    """Measure the coverage of every family at every step."""
    return {family: _family(family, count, seed) for family in CONVEX}


def largest(rows: dict[str, list[Covered]]) -> dict[str, float]:
    """Return the largest share that the printed conditions cover, over steps, by family."""
    return {family: max(row.printed for row in steps) for family, steps in rows.items()}


def short(rows: dict[str, list[Covered]]) -> float:
    """Return the largest share that they cover at t ≤ 2/L, over families."""
    return max(row.printed for steps in rows.values() for row in steps if row.step <= 2)


def _family(family: str, count: int, seed: int) -> list[Covered]:
    sums = np.zeros((len(STEPS), 4))
    for chunk, size in enumerate(chunks(count)):
        rng = stream(seed, "theorem2/coverage", family, chunk)
        # In one dimension every conflict has cos φ = −1, which is not generic.
        problems = draw(family, size, rng, (2, 20))
        cos, decades = -rng.random(size), rng.uniform(-1, 1, size)
        ratio = torch.from_numpy(10**decades)
        problems = aim(problems, torch.from_numpy(cos), ratio, sideways(problems, rng))
        point = look(problems, problems.start())
        found = [[int(x.sum()) for x in _which(problems, point, factor)] for factor in STEPS]
        sums += np.array(found)
    return [Covered(t, count, *(row / count).tolist()) for t, row in zip(STEPS, sums, strict=True)]


def _which(problems: Problems, point: Point, factor: float) -> tuple[Tensor, ...]:
    """Return the instances in each of `Covered`'s classes at t = factor/L, bool [N] each."""
    constant = problems.lipschitz()
    step, a = factor / constant, pcgrad.condition_a(point.gramian)[:, 0, 1]
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    ell = curvature_by_losses(problems, point, step, "uniform")
    exact = curvature_by_losses(problems, point, step, "remainder")

    def under_c(curvature: Tensor) -> Tensor:
        gap = curvature - xi * constant
        return a & (gap > 0) & (step * gap >= 2)

    margin, noise = compared(problems, point, step)
    worse = margin < -noise
    sharp = ell.clamp(min=0) ** 2 / constant
    return ~worse, under_c(ell), under_c(sharp), under_c(exact)
