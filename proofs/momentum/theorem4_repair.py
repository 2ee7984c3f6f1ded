"""Theorem 4 repaired, twice: what holds instead, put to fresh instances and along trajectories.

- `gradient`, no momentum: theta_{k+1} = theta_k - alpha_k g^PC with 0 < alpha_k <= 2 / (L_k +
  mu_k); L_1, L_2 strongly convex and smooth with one minimizer theta*. Then ||theta_{k+1} -
  theta*|| <= q_k ||theta_k - theta*||,
      q_k^2 = 1 - 2 alpha_k mu_k L_k / (mu_k + L_k),   q_k = (L_k - mu_k) / (L_k + mu_k) at the
      longest step.
  For w_1 L_1 + w_2 L_2, with the weights of this one step, is mu_k-strongly convex and L_k-smooth
  with the minimizer theta* (`identities_momentum.weights_exceed_1`, `coercivity`, `contraction`);
  and L_k / mu_k never exceeds the larger L_i / mu_i (`ratio_of_weights`), so that the convergence
  is linear, at the larger of the two tasks' own rates.
- `momentum`, constant weights: quadratics with one minimizer whose Hessians commute are nowhere in
  conflict, so that the weights stay 1; with the corrected alpha, from rest,
      ||theta_k - theta*|| <= (1 + k (1 + rho)) rho^k ||theta_0 - theta*||,   rho = sqrt(beta)
  (`identities_momentum.powers`, `identities_momentum.chebyshev`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from proofs.momentum import heavy_ball
from proofs.momentum.heavy_ball import Pairs
from proofs.momentum.theorem4_paths import CLASSES, follow
from proofs.problems import EPSILON
from proofs.sampling import LARGE, chunks, stream
from proofs.tally import BrokenError, Tally, Trial, sample

CONDITIONS = {"condition 10 to 100": (1.0, 2.0), "condition 100 to 10,000": (2.0, 4.0)}
UPDATES = 200  # of the trajectories that are held against their bound at every update


def hypotheses(pairs: Pairs, theta: Tensor) -> Tensor:
    """What an instance must satisfy at theta, bool [N]: 0 < mu_i <= L_i, one minimizer, and the
    bounds of the class.

    mu_i ||x||^2 <= g_i . x <= L_i ||x||^2 with x the distance to the minimizer, where both
    gradients vanish."""
    x = theta - pairs.center[:, 0]
    along, square = (
        (pairs.gradients(theta) * x.unsqueeze(1)).sum(-1),
        x.square().sum(-1, keepdim=True),
    )
    slack = 1e-9 * pairs.top * square
    inside = (along >= pairs.mu * square - slack) & (along <= pairs.top * square + slack)
    flat = (pairs.gradients(pairs.center[:, 0]) == 0).all(-1)
    return ((pairs.mu > 0) & (pairs.mu <= pairs.top) & inside & flat).all(-1) & (square[:, 0] > 0)


def contraction(
    pairs: Pairs, theta: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, heavy_ball.Seen]:
    """(measured, bound): the distance to the minimizer after one step of `share` times 2 / (L_k +
    mu_k), and q_k's.
    """
    seen = heavy_ball.look(pairs.gradients(theta), pairs.mu, pairs.top)
    alpha, x = share * heavy_ball.RULES["gradient"](seen.mu, seen.top), theta - pairs.center[:, 0]
    square = (seen.top - seen.mu) ** 2 + 4 * (
        1 - share
    ) * seen.mu * seen.top  # q_k^2 (L_k + mu_k)^2 without cancellation
    measured = (x - alpha.unsqueeze(-1) * seen.g_pc).norm(dim=-1)
    return measured, square.sqrt() / (seen.top + seen.mu) * x.norm(dim=-1), seen


def instances(
    shape: str,
    condition: str,
    count: int,
    rng: np.random.Generator,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
) -> tuple[Pairs, Tensor, Tensor]:
    """Pairs, thetas in conflict (or anywhere), and the part of the longest step: all of it in every
    second instance.
    """
    dimensions = (
        (max(2, dimensions[0]), dimensions[1]) if conflict else dimensions
    )  # in one there is no conflict
    pairs = heavy_ball.draw(shape, count, rng, dimensions, CONDITIONS[condition])
    theta, _ = heavy_ball.begin(pairs, rng)
    if not conflict:
        inside = torch.arange(theta.shape[-1]) < pairs.dimension.unsqueeze(-1)
        theta = (
            torch.from_numpy(rng.normal(size=theta.shape) * 10 ** rng.uniform(-1, 1, (count, 1)))
            * inside
        )
    share = np.where(np.arange(count) % 2 == 0, 1.0, 1 - rng.random(count))
    return pairs, theta, torch.from_numpy(share)


def trial(pairs: Pairs, theta: Tensor, share: Tensor, *, conflict: bool | None = None) -> Trial:
    """Put instances to the contraction; with `conflict` only those on that side of it."""
    measured, bound, seen = contraction(pairs, theta, share)
    distance, product = (theta - pairs.center[:, 0]).norm(dim=-1), seen.gramian[:, 0, 1]
    side = (
        torch.ones_like(product, dtype=torch.bool)
        if conflict is None
        else (product < 0) == conflict
    )
    cos = torch.where(seen.gramian.diagonal(dim1=-2, dim2=-1).amin(-1) > 0, seen.cos, 0)
    details = {
        "dimension": pairs.dimension,
        "cos": cos,
        "condition": seen.top / seen.mu,
        "share_of_step": share,
    }
    return Trial(
        accepted=hypotheses(pairs, theta) & side,
        slack=share,
        margin=bound - measured,
        unit=(distance - bound).clamp(min=1e-300),  # the guaranteed decrease
        noise=1024 * EPSILON * distance,
        details=details,
    )


def one_step(
    shape: str,
    condition: str,
    total: int,
    seed: int,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
) -> Tally:
    """Test the contraction on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        drawn = instances(shape, condition, count, rng, conflict=conflict, dimensions=dimensions)
        return trial(*drawn, conflict=conflict)

    purpose = f"theorem4/{condition}" if conflict else f"theorem4/{condition}/no conflict"
    return sample(purpose, shape, total, seed, put, 20)


def bounded(pairs: Pairs, start: Tensor, found: Tensor, rule: str) -> Trial:
    """Trajectories against their bound at every update: the margin is the smallest log(bound /
    measured).

    With `gradient` the bound is the product of q_k; with `corrected` (constant weights) it is (1 +
    k (1 + rho)) rho^k."""
    theta, previous, first = start, start, start.norm(dim=-1)
    promised, margin = torch.zeros_like(first), torch.full_like(first, torch.inf)
    constant = torch.ones_like(found)
    for k in range(1, UPDATES + 1):
        seen = heavy_ball.look(pairs.gradients(theta), pairs.mu, pairs.top)
        theta, previous = heavy_ball.move(seen, theta, previous, rule), theta
        if rule == "gradient":
            promised = promised + ((seen.top - seen.mu) / (seen.top + seen.mu)).log()
            bound = promised
        else:
            constant &= (seen.weights == 1).all(-1)
            rho = heavy_ball.rates(seen, rule)[1].sqrt()
            bound = (1 + k * (1 + rho)).log() + k * rho.log()
        measured = (theta.norm(dim=-1) / first).log()
        margin = torch.where(
            measured > np.log(1e-100), torch.minimum(margin, bound - measured), margin
        )
    noise = torch.full_like(
        margin, 1e-9
    )  # 200 updates, each to a few hundred epsilon of the distance
    return Trial(found & constant & hypotheses(pairs, start), margin, margin, torch.ones_like(margin), noise,
                 {"dimension": pairs.dimension})  # fmt: skip


def paths(name: str, total: int, seed: int, rule: str) -> Tally:
    """Trajectories of one class of `theorem4_paths.CLASSES` against their bound."""
    dimensions, decades = CLASSES[name]

    def put(count: int, rng: np.random.Generator) -> Trial:
        pairs = heavy_ball.draw("quadratic", count, rng, dimensions, decades)
        if rule == "gradient":
            return bounded(pairs, *heavy_ball.begin(pairs, rng), rule)
        inside = torch.arange(dimensions[1]) < pairs.dimension.unsqueeze(-1)
        start = torch.from_numpy(rng.normal(size=inside.shape)) * inside
        return bounded(
            heavy_ball.commuting(pairs), start, torch.ones(count, dtype=torch.bool), rule
        )

    return sample(f"theorem4/paths/{rule}", name, total, seed, put, dimensions[1])


def large(seed: int, updates: int, dimensions: list[int]) -> dict[str, Any]:
    """High dimensions: the contraction on three shapes, and trajectories of the corrected method."""
    report: dict[str, Any] = {}
    for dimension in dimensions:
        count = LARGE[dimension]
        tallies = {
            shape: one_step(
                shape, "condition 100 to 10,000", count, seed, dimensions=(dimension, dimension)
            ).report()
            for shape in heavy_ball.SLOPES
        }
        rng = stream(seed, "theorem4/large", "quadratic", dimension)
        pairs = heavy_ball.draw("quadratic", count, rng, (dimension, dimension), (1.5, 2.5))
        start, found = heavy_ball.begin(pairs, rng)
        went = follow(pairs[found], start[found], updates, "corrected")
        ends = {
            end: int((went["end"] == end).sum())
            for end in ("converged", "growing", "standing", "unfinished")
        }
        report[str(dimension)] = {
            "instances": sum(row["accepted"] for row in tallies.values()),
            "violations": sum(row["violations"] for row in tallies.values()),
            "smallest_margin": min(row["smallest_margin"] for row in tallies.values()),
            "trajectories": {
                "accepted": int(found.sum()),
                **ends,
                "slower": int(went["slower"].sum()),
            },
        }
    return report


def spectra(shape: str, count: int, seed: int) -> dict[str, Any]:
    """scipy's eigenvalues of the largest Hessians against mu_i and L_i; BrokenError where they
    disagree.
    """
    worst, total = 0.0, 0
    for chunk, size in enumerate(chunks(count)):
        pairs = heavy_ball.draw(
            shape, size, stream(seed, "theorem4/spectra", shape, chunk), (1, 20), (1.0, 3.0)
        )
        hessians = pairs.hessians().numpy()
        for k, width in enumerate(pairs.dimension.int().tolist()):
            for i in range(2):
                values = scipy.linalg.eigvalsh(hessians[k, i, :width, :width])
                bottom, top = float(pairs.mu[k, i]), float(pairs.top[k, i])
                low = (
                    abs(values[0] / bottom - 1)
                    if shape == "quadratic"
                    else max(0.0, 1 - values[0] / bottom)
                )
                worst, total = max(worst, low, abs(values[-1] / top - 1)), total + 1
    if worst > 1e-9:
        raise BrokenError(f"theorem4: scipy's eigenvalues of {shape} miss mu or L by {worst:.1e}")
    return {"instances": count, "hessians": total, "largest_relative_difference": float(worst)}
