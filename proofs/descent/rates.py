"""Theorem B's rates along trajectories: the bounds at every update, on quadratics.

With Δₖ = L(θₖ) − L* and σₖ = 1 − cos²φₖ in conflict, 1 otherwise:
    Δₖ ≤ 2D²/(t Σ_{j<k} σⱼ)          D the largest distance to a minimizer,
    Δₖ ≤ Δ₀ Π_{j<k}(1 − tμσⱼ)       L μ-strongly convex.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from proofs.descent.paths import starts
from proofs.problems import look
from proofs.sampling import stream

UPDATES = 300


@dataclass(frozen=True)
class Rates:
    """The largest shares of the bounds that trajectories use; 1 means attained."""

    trajectories: int
    updates: int
    of_sublinear: float
    of_linear: float


def rates(count: int, seed: int) -> Rates:
    """Measure both bounds on random strongly convex quadratics, at t = 1/L."""
    problems = starts("quadratic", count, stream(seed, "theorem1/rates", "quadratic", 0))
    inside = torch.arange(problems.A.shape[-1]) < problems.dimension.unsqueeze(-1)
    hessian = problems.hessian(problems.start()) + torch.diag_embed((~inside).double())
    values = torch.linalg.eigvalsh(hessian)
    theta, step = problems.start(), 1 / problems.lipschitz()
    g_0 = problems.gradients(theta).sum(-2)
    best_theta = -torch.linalg.solve(hessian, g_0)
    best = problems.loss(best_theta)
    # A zero column counts as the eigenvalue 1, which can only lower the minimum.
    mu = values[:, 0]
    gap_0 = problems.loss(theta) - best
    radius = (theta - best_theta).norm(dim=-1)
    kept, shrink = torch.zeros_like(step), torch.zeros_like(step)
    worst_sum = worst_product = 0.0
    for _ in range(UPDATES):
        point = look(problems, theta)
        kept = kept + step * point.sigma
        # The product is summed in logarithms, so that it does not underflow.
        shrink = shrink + torch.log1p(-(step * mu * point.sigma).clamp(max=1 - 1e-12))
        theta = theta - step.unsqueeze(-1) * point.g_pc
        radius = torch.maximum(radius, (theta - best_theta).norm(dim=-1))
        gap = problems.loss(theta) - best
        # Smaller gaps consist of rounding errors.
        decided = gap > 1e-9 * gap_0
        if not decided.any():
            break
        worst_sum = max(worst_sum, float((gap * kept / (2 * radius**2))[decided].max()))
        worst_product = max(worst_product, float((gap / gap_0 / shrink.exp())[decided].max()))
    return Rates(len(problems), UPDATES, worst_sum, worst_product)
