"""Theorem 3's cases on the core's numbers, steps for which they hold, and a test of the bound.

`theorem3.py` gives the statement.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs.comparison.two_steps import curvature_by_losses, ray
from proofs.problems import EPSILON, Point, Problems
from proofs.sampling import edges, power
from proofs.tally import Trial


class Cases(NamedTuple):
    """The right-hand side of the statement at a step t, each field [N]."""

    n: Tensor
    d: Tensor
    tau: Tensor
    first: Tensor
    second: Tensor

    def bound(self, step: Tensor) -> Tensor:
        """B(t) = t(Dt − N), [N]."""
        return step * (self.d * step - self.n)


def cases(gramian: Tensor, constant: Tensor, ell: Tensor, step: Tensor) -> Cases:
    """Compute τ and the cases from the printed formulas and the core's c, Φ and ξ."""
    measures = (pcgrad.cosine, pcgrad.magnitude_similarity, pcgrad.curvature_bounding_measure)
    c, phi, xi = (measure(gramian)[:, 0, 1] for measure in measures)
    s1, s2, square = gramian[:, 0, 0], gramian[:, 1, 1], gramian.sum((-1, -2))
    n = (s1 + s2) * c**2 + 2 * (s1 * s2).sqrt() * c
    # 1 − c² as a product, which does not cancel near c = −1.
    d = square * ell / 2 - (1 - c) * (1 + c) * (s1 + s2 - 2 * gramian[:, 0, 1]) * constant / 2
    tau, conflict = n / d, pcgrad.conflicting(gramian)[:, 0, 1]
    first = conflict & (c >= -phi) & (ell <= xi * constant) & (step > 0) & (step <= tau)
    second = pcgrad.condition_a(gramian)[:, 0, 1] & (ell >= xi * constant) & (step >= tau) & (d > 0)
    return Cases(n, d, tau, first, second)


def short_step(problems: Problems, point: Point, rng: np.random.Generator) -> Tensor:
    """Return τ of case 1 with the exact remainder, and part of it in every second problem.

    τ is found by bisection on (0, 2/L], which must contain it; nan where case 1 has no step.
    """
    constant = problems.lipschitz()
    line, along = ray(problems, point)
    low, high = torch.zeros_like(constant), 2 / constant
    # D t ≥ N holds below τ and fails above it, as D < 0 in case 1.
    for _ in range(40):
        middle = (low + high) / 2
        ell = torch.minimum(curvature_by_losses(line, along, middle, "remainder"), constant)
        here = cases(point.gramian, constant, ell, middle)
        good = here.d * middle >= here.n
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    # Slightly less than τ, so that the bisection's error cannot leave the case.
    count = len(problems)
    part = torch.from_numpy(np.where(np.arange(count) % 2 == 0, 1 - 1e-9, rng.random(count)))
    return torch.where(low > 0, low * part, torch.nan)


def around(tau: Tensor, constant: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw steps: τ(1 ± 10⁻ᵏ) for two in three, from 0.01/L to 100/L for the others.

    Steps near τ are possible only where τ is positive.
    """
    count = len(tau)
    near = tau * torch.from_numpy(1 + rng.choice([-1, 1], count) * power(rng, -8, -0.1, count))
    free = torch.from_numpy(power(rng, -2, 2, count)) / constant
    return torch.where((tau > 0) & tau.isfinite() & (torch.arange(count) % 3 > 0), near, free)


def bound_trial(count: int, rng: np.random.Generator) -> Trial:
    """Test B(t), computed from the core's updates, against the printed cases.

    The instances are random pairs in conflict with any ℓ ≤ L = 1 and t around τ. The margin is
    |B(t)|, negative where its sign contradicts the cases.
    """
    cos, ratio = edges(count, rng)
    plane = torch.stack([cos, ((1 - cos) * (1 + cos)).sqrt()], -1)
    along = ratio.unsqueeze(-1) * torch.tensor([1.0, 0.0], dtype=torch.float64)
    point, one = Point.of(torch.stack([along, plane], 1)), torch.ones_like(cos)
    gramian, square = point.gramian, point.square
    xi = pcgrad.curvature_bounding_measure(gramian)[:, 0, 1]
    # ℓ ≈ ξL makes D nearly zero, which is where the cases meet.
    near = xi * torch.from_numpy(1 + rng.choice([-1, 1], count) * power(rng, -8, 0, count))
    anything = torch.from_numpy(rng.uniform(-0.5, 1, count))
    ell = torch.where(torch.from_numpy(rng.random(count)) < 0.6, torch.minimum(near, one), anything)
    step = around(cases(gramian, one, ell, one).tau, one, rng)
    here = cases(gramian, one, ell, step)
    # Both changes of the loss as the proof bounds them: ℓ for the plain step, L for PCGrad's.
    plain = -step * square + step**2 / 2 * ell * square
    surgery = -step * point.inner + step**2 / 2 * (point.g_pc**2).sum(-1)
    size, case = (ratio + 1) ** 2, here.first | here.second
    return Trial(
        accepted=(here.d != 0) & (point.g != 0).any(-1),
        slack=here.d.abs(),
        margin=torch.where(case, plain - surgery, surgery - plain),
        unit=step * square,
        noise=128 * EPSILON * size * (step + step**2),
        details={
            "cos": cos,
            "Phi": 2 / (ratio + 1 / ratio),
            "l_over_xi_L": ell / xi,
            "t_over_tau": step / here.tau,
        },
    )
