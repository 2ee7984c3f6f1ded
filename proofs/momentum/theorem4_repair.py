"""Theorem 4 without momentum: one step contracts the distance to a common minimizer.

θₖ₊₁ = θₖ − αₖ g^PC with 0 < αₖ ≤ 2/(Lₖ + μₖ); L₁, L₂ strongly convex and smooth with one
minimizer θ*. Then ‖θₖ₊₁ − θ*‖ ≤ qₖ‖θₖ − θ*‖ with qₖ² = 1 − 2α_k μₖ Lₖ/(μₖ + Lₖ).

Quadratics whose Hessians commute are nowhere in conflict: there PCGrad never acts, and the method
is the plain heavy ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from proofs.momentum import heavy_ball
from proofs.momentum.heavy_ball import Pairs
from proofs.problems import EPSILON
from proofs.sampling import LARGE, shares, stream
from proofs.tally import Counts, Trial, sample, total

CONDITIONS = {"condition 10 to 100": (1.0, 2.0), "condition 100 to 10,000": (2.0, 4.0)}
UPDATES = 200  # updates of the paths that are compared with their bound


@dataclass(frozen=True)
class Commuting:
    """Paths on quadratics with commuting Hessians."""

    pairs: int
    updates: int
    conflicts: int
    smallest_margin: float  # smallest log(bound/distance)


def hypotheses(pairs: Pairs, theta: Tensor, gradients: Tensor) -> Tensor:
    """Test whether instances satisfy the hypotheses at θ, where they have `gradients`, bool [N].

    The hypotheses are 0 < μᵢ ≤ Lᵢ and μᵢ‖θ‖² ≤ gᵢ·θ ≤ Lᵢ‖θ‖². Both tasks have the minimizer 0 by
    construction.
    """
    along = (gradients * theta.unsqueeze(1)).sum(-1)
    square = theta.square().sum(-1, keepdim=True)
    slack = 1e-9 * pairs.top * square
    inside = (along >= pairs.mu * square - slack) & (along <= pairs.top * square + slack)
    return ((pairs.mu > 0) & (pairs.mu <= pairs.top) & inside).all(-1) & (square[:, 0] > 0)


def contraction(
    pairs: Pairs, theta: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, heavy_ball.Seen]:
    """Return (measured, bound) of the distance to the minimizer after one step, and the geometry.

    The step is `share` times 2/(Lₖ + μₖ).
    """
    seen = heavy_ball.look(pairs.gradients(theta), pairs.mu, pairs.top)
    alpha = share * heavy_ball.RULES["gradient"](seen.mu, seen.top)
    # qₖ²(Lₖ + μₖ)², as a sum of positive terms that do not cancel.
    square = (seen.top - seen.mu) ** 2 + 4 * (1 - share) * seen.mu * seen.top
    measured = (theta - alpha.unsqueeze(-1) * seen.point.g_pc).norm(dim=-1)
    return measured, square.sqrt() / (seen.top + seen.mu) * theta.norm(dim=-1), seen


def instances(
    shape: str,
    condition: str,
    count: int,
    rng: np.random.Generator,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
) -> tuple[Pairs, Tensor, Tensor]:
    """Draw pairs, points θ in conflict (or anywhere), and the share of the longest step.

    The share is 1 in every second instance.
    """
    # In one dimension tasks with one minimizer are never in conflict.
    dimensions = (max(2, dimensions[0]), dimensions[1]) if conflict else dimensions
    pairs = heavy_ball.draw(shape, count, rng, dimensions, CONDITIONS[condition])
    theta = heavy_ball.begin(pairs, rng)
    if not conflict:
        inside = torch.arange(theta.shape[-1]) < pairs.dimension.unsqueeze(-1)
        anywhere = rng.normal(size=theta.shape) * 10 ** rng.uniform(-1, 1, (count, 1))
        theta = torch.from_numpy(anywhere) * inside
    return pairs, theta, shares(count, rng)


def trial(pairs: Pairs, theta: Tensor, share: Tensor, *, conflict: bool) -> Trial:
    """Test the contraction on those instances that are in conflict, or on those that are not."""
    measured, bound, seen = contraction(pairs, theta, share)
    gramian, distance = seen.point.gramian, theta.norm(dim=-1)
    cos = torch.where(gramian.diagonal(dim1=-2, dim2=-1).amin(-1) > 0, seen.point.cos, 0)
    details = {
        "dimension": pairs.dimension,
        "cos": cos,
        "condition": seen.top / seen.mu,
        "share_of_step": share,
    }
    return Trial(
        accepted=hypotheses(pairs, theta, seen.point.gradients)
        & ((gramian[:, 0, 1] < 0) == conflict),
        slack=share,
        margin=bound - measured,
        unit=(distance - bound).clamp(min=1e-300),  # the guaranteed decrease
        noise=1024 * EPSILON * distance,
        details=details,
    )


def one_step(
    shape: str,
    condition: str,
    trials: int,
    seed: int,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
) -> Counts:
    """Test the contraction on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        drawn = instances(shape, condition, count, rng, conflict=conflict, dimensions=dimensions)
        return trial(*drawn, conflict=conflict)

    purpose = f"theorem4/{condition}" if conflict else f"theorem4/{condition}/no conflict"
    return sample(purpose, shape, trials, seed, put)


def large(seed: int, dimensions: list[int]) -> Counts:
    """Test the contraction in high dimensions, on three shapes."""
    rows = {}
    for dimension, shape in product(dimensions, heavy_ball.SLOPES):
        condition, span = "condition 100 to 10,000", (dimension, dimension)
        rows[f"{shape} {dimension}"] = one_step(
            shape, condition, LARGE[dimension], seed, dimensions=span
        )
    return total(rows)


def commuting(total_pairs: int, seed: int) -> Commuting:
    """Test the stated rate along paths on quadratics with common eigenvectors.

    There is no conflict anywhere. From rest ‖θₖ − θ*‖ ≤ (1 + k(1 + ρ)) ρᵏ ‖θ₀ − θ*‖ with ρ = √β
    (identities `powers`, `chebyshev`).
    """
    rng = stream(seed, "theorem4/commuting", "quadratic", 0)
    pairs = heavy_ball.commuting(heavy_ball.draw("quadratic", total_pairs, rng, (2, 20)))
    inside = torch.arange(20) < pairs.dimension.unsqueeze(-1)
    theta = torch.from_numpy(rng.normal(size=inside.shape)) * inside
    first, previous, conflicts, margin = theta.norm(dim=-1), theta, 0, np.inf
    for k in range(1, UPDATES + 1):
        seen = heavy_ball.look(pairs.gradients(theta), pairs.mu, pairs.top)
        conflicts += int((seen.point.gramian[:, 0, 1] < 0).sum())
        rho = heavy_ball.rates(seen, "corrected")[1].sqrt()
        theta, previous = heavy_ball.move(seen, theta, previous, "corrected"), theta
        bound = (1 + k * (1 + rho)).log() + k * rho.log()
        measured = (theta.norm(dim=-1) / first).log()
        # Smaller distances are close to underflow.
        decided = measured > np.log(1e-100)
        if decided.any():
            margin = min(margin, float((bound - measured)[decided].min()))
    return Commuting(total_pairs, UPDATES, conflicts, margin)
