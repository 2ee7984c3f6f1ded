"""Limits of Theorem 1 and Proposition 1: trajectories of PCGrad at t = 1 / L, run until a stated stopping rule.

A trajectory ends as
- `opposite`: 1 + cos phi_12 <= OPPOSITE;
- `optimum` (Theorem 1): L(theta) - L* <= GAP (L(0) - L*), L* from Newton's method, which knows nothing of PCGrad;
- `stationary` (Proposition 1): ||g|| <= NEAR ||g_0||; or `product`: m <= NEAR^2 m_0, m as below, at neither of the two;
- `unfinished`: none of these within the given number of updates.
It *contradicts* the statement if a step misses the descent bound beyond rounding, or if it is `stalled`: it stands
still (no update changes theta by more than rounding) and yet is at no end.

**What the descent step proves.** Let m = (1 - cos^2 phi) ||g||^2 in conflict and ||g||^2 otherwise. With t <= 1 / L,
    sum_k m_k <= 2 (L_0 - inf L) / t,
so that m_k -> 0 if inf L > -infinity, convex or not. By continuity, at every cluster point g = 0; or g_1 = -kappa g_2
with kappa > 0, that is cos = -1; or one task's gradient is 0, with cos -> -1 along the way. L convex and g = 0: L_k -> L*.

**What "converges to a point" needs besides.** Cluster points exist where {L <= L_0} is bounded; an attained minimum is
not enough (`escape.py`). They are a single point in either of these cases:
- t < 1 / L, and the points above with L = lim L_k are isolated: by `identities_descent.square_summable` the steps tend
  to 0, so that the cluster points are a connected set (Ostrowski 1966, Theorem 28.1);
- t < 1 / L, convex tasks, and neither task's own loss rises from some step on: as w_i >= 1 (`identities_descent.weights`),
  g^PC . (theta_k - y) >= 0 for a cluster point y, hence ||theta_{k+1} - y||^2 <= ||theta_k - y||^2 + ||step||^2 with
  summable squares: quasi-Fejer (Grana Drummond and Svaiter 2005, J. Comput. Appl. Math. 175, for vector optimization).
`settling` measures how well trajectories settle, `own_rises` how often a task's own loss rises.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from proofs.problems import CONSTANT_HESSIAN, EPSILON, Point, Problems, aim, look, rounding
from proofs.sampling import chunks, draw, sideways, stream
from proofs.tally import BrokenError

GAP, OPPOSITE, NEAR = 1e-8, 1e-8, 1e-6
KEPT = 100  # trajectories per family whose iterates are kept, to see how they settle
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MEETING = (*CONSTANT_HESSIAN, "cauchy", "welsch", "wave")
FACTORS = (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.1)  # t L


def optimal_value(problems: Problems, updates: int = 30) -> Tensor:
    """L* of each problem by Newton's method with the Hessian lifted by the gradient's size, and backtracking, [N]."""
    theta, constant = problems.start(), problems.lipschitz()
    identity = torch.eye(theta.shape[-1], dtype=theta.dtype)
    first = problems.gradients(theta).sum(-2).norm(dim=-1)
    value = problems.loss(theta)
    for _ in range(updates):
        g = problems.gradients(theta).sum(-2)
        lift = constant * (1e-3 * g.norm(dim=-1) / first + 1e-12)
        direction = torch.linalg.solve(problems.hessian(theta) + lift[:, None, None] * identity, g)
        step = torch.ones_like(value)
        for _ in range(12):  # backtracking, every problem on its own
            after = problems.loss(theta - step.unsqueeze(-1) * direction)
            worse = after > value
            if not worse.any():
                break
            step = torch.where(worse, step / 2, step)
        theta = torch.where(worse.unsqueeze(-1), theta, theta - step.unsqueeze(-1) * direction)
        value = torch.minimum(value, after)
    return value


def meet(problems: Problems, which: Tensor) -> Problems:
    """Let the two tasks of some problems have one minimizer, so that the optimum is an end they can reach.

    At theta = -v every z is 0, where F of the quadratics, cauchy, welsch and wave has its minimum and F'' = 1. With
    Hessians H_i there, g_i is about H_i v at the start; v is the eigenvector of H_1 H_2 + H_2 H_1 with the smallest
    eigenvalue, so short that z stays within 1. Where that eigenvalue is not negative the tasks could not conflict near
    the minimizer, and the problem stays as it is.
    """
    rows = (problems.s.unsqueeze(-1) * problems.w).unsqueeze(-1) * problems.A
    one, two = (rows.mT @ problems.A).unbind(1)
    both = one @ two
    values, vectors = torch.linalg.eigh(both + both.mT)
    chosen = which & (values[:, 0] < -1e-9 * values[:, -1])
    b = problems.along(vectors[..., 0])
    b = b / b.abs().amax((-1, -2), keepdim=True)
    return replace(problems, b=torch.where(chosen[:, None, None], b, problems.b))


def starts(family: str, count: int, rng: np.random.Generator) -> Problems:
    """Moderately conditioned problems that start in conflict; every second one of MEETING has a common minimizer."""
    problems = draw(family, count, rng, conditioning=0.25)
    cos, ratio = torch.from_numpy(-0.95 * rng.random(count)), torch.from_numpy(10 ** rng.uniform(-0.5, 0.5, count))
    problems = aim(problems, cos, ratio, sideways(problems, rng))
    if family in MEETING:
        problems = meet(problems, torch.arange(count) % 2 == 1)
    return problems[look(problems, problems.start()).conflict]  # one that never conflicts is not counted


def guaranteed(point: Point) -> Tensor:
    """m: (1 - cos^2 phi) ||g||^2 in conflict, ||g||^2 otherwise, [N]."""
    return torch.where(point.conflict, (1 - point.cos) * (1 + point.cos), 1.0) * (point.g**2).sum(-1)


class Origin(NamedTuple):
    """What the stopping rule compares with, each [N]."""

    loss: Tensor
    best: Tensor | None  # L*; None asks for stationary points
    m: Tensor
    g: Tensor  # ||g_0||

    def reached(self, rows: Tensor, point: Point, value: Tensor) -> dict[str, Tensor]:
        """The ends at which some of the trajectories `rows` are, bool [rows] each; the first one counts."""
        opposite = 1 + point.cos <= OPPOSITE
        if self.best is None:
            stationary = point.g.norm(dim=-1) <= NEAR * self.g[rows]
            return {
                **{"stationary": stationary, "opposite": opposite},
                "product": guaranteed(point) <= NEAR**2 * self.m[rows],
            }
        span = self.loss[rows] - self.best[rows]
        above = value - self.best[rows]
        return {"optimum": above <= GAP * span, "opposite": opposite, "diverged": ~(above <= 1e6 * span)}


def run(
    problems: Problems, updates: int, *, stationary: bool = False, factor: float | Tensor = 1.0, keep: int = 0
) -> dict[str, Any]:
    """PCGrad at t = factor / L on every problem at once; finished ones leave the batch."""
    size, theta, step = len(problems), problems.start(), factor / problems.lipschitz()
    first, losses = look(problems, theta), problems.losses(theta)
    best = None if stationary else optimal_value(problems)
    origin = Origin(losses.sum(-1), best, guaranteed(first), first.g.norm(dim=-1))
    end = np.full(size, "unfinished", dtype=object)
    names = ("updates", "conflicts", "violations", "rises", "own_rises")
    counts = {name: torch.zeros(size, dtype=torch.int64) for name in names}
    final, least = origin.loss.clone(), torch.full_like(origin.loss, torch.inf)
    path = theta.new_full((updates + 1, min(keep, size), theta.shape[-1]), torch.nan)
    alive, left = torch.arange(size), problems
    for k in range(updates + 1):
        path[k, alive[alive < path.shape[1]]] = theta[alive < path.shape[1]]
        point = look(left, theta)
        change = step[alive].unsqueeze(-1) * point.g_pc
        running = _end(end, alive, origin.reached(alive, point, losses.sum(-1)), change, theta)
        final[alive] = losses.sum(-1)
        if k == updates or not running.any():
            alive, left, theta = alive[running], left[running], theta[running]
            break
        if not running.all():
            alive, left, theta, change = alive[running], left[running], theta[running], change[running]
            point, losses = Point(*(t[running] for t in point)), losses[running]
        after = left.losses(theta - change)
        m = guaranteed(point)
        least[alive] = torch.minimum(least[alive], m)
        counts["conflicts"][alive] += point.conflict
        for name, seen in _seen(left, theta, change, step[alive] * m / 2, losses, after, step[alive]).items():
            counts[name][alive] += seen
        theta, losses = theta - change, after
    ends = {"end": end, "loss": final, "least": least, "path": path, "theta": theta, "left": alive}
    return {**ends, **counts, "first": origin.loss, "best": origin.best, "step": step}


def _end(end: np.ndarray, alive: Tensor, reached: dict[str, Tensor], change: Tensor, theta: Tensor) -> Tensor:
    """Write down who is at an end, or stalled, and tell who goes on."""
    stalled = change.abs().amax(-1) <= EPSILON * theta.abs().amax(-1)
    running = torch.ones(len(alive), dtype=torch.bool)
    for name, there in {**reached, "stalled": stalled}.items():
        end[alive[running & there].numpy()] = name
        running &= ~there
    return running


def _seen(
    left: Problems, theta: Tensor, change: Tensor, promised: Tensor, losses: Tensor, after: Tensor, step: Tensor
) -> dict[str, Tensor]:
    """What one update shows, bool [N] each; a rounding error is computed only where it decides."""
    before, value = losses.sum(-1), after.sum(-1)
    excess, rise = value - (before - promised), value - before
    own = (after - losses > 1e-12 * losses.abs()).any(-1)
    seen = {"violations": excess > 0, "rises": rise > 0}
    if any(which.any() for which in seen.values()):
        noise = rounding(left, theta, (theta - change,), step)
        seen = {"violations": excess > noise, "rises": rise > noise}
    return {"updates": torch.ones_like(own), "own_rises": own, **seen}


def settling(path: Tensor) -> dict[str, Any]:
    """How the kept trajectories [updates + 1, N, D] settle, against the length that they travel: medians and maxima.

    `last_half`: the length of the second half of the updates; `last_quarter`: the largest distance of the last quarter
    of the iterates from the last one. A trajectory that converges to a point has both near 0.
    """
    halves, quarters = [], []
    for track in path.unbind(1):
        points = track[track.isfinite().all(-1)]
        lengths = (points[1:] - points[:-1]).norm(dim=-1)
        if len(lengths) < 8:
            continue
        count, travelled = len(lengths), lengths.sum()
        halves.append(lengths[count // 2 :].sum() / travelled)
        quarters.append((points[3 * count // 4 :] - points[-1]).norm(dim=-1).max() / travelled)
    found = {"last_half": halves, "last_quarter": quarters}
    rows = {name: {"median": float(torch.stack(x).median()), "largest": float(torch.stack(x).max())}
            for name, x in found.items() if x}  # fmt: skip
    return {"trajectories": len(halves), **rows}


def quantiles(values: Tensor) -> dict[str, float]:
    """Of a sample; empty where there is none."""
    if len(values) == 0:
        return {}
    found = torch.quantile(values, torch.tensor(QUANTILES, dtype=values.dtype))
    return {f"{q:.0%}": float(x) for q, x in zip(QUANTILES, found, strict=True)}


def trajectories(
    family: str, total: int, updates: int, seed: int, *, stationary: bool = False, statement: str = "theorem1"
) -> dict[str, Any]:
    """Run `total` trajectories of one family from random starts in conflict and count how they end."""
    names = ("stationary", "opposite", "product") if stationary else ("optimum", "opposite", "diverged")
    runs: list[dict[str, Any]] = []
    for chunk, count in enumerate(chunks(total)):
        problems = starts(family, count, stream(seed, f"{statement}/trajectories", family, chunk))
        runs.append(run(problems, updates, stationary=stationary, keep=0 if chunk else KEPT))
    end = np.concatenate([result["end"] for result in runs])
    if len(end) == 0:
        raise BrokenError(f"{statement}: no {family} trajectory starts in conflict")
    ends = {name: int((end == name).sum()) for name in (*names, "stalled", "unfinished")}
    steps, below, conflicts, own = (
        torch.cat([result[name] for result in runs]) for name in ("updates", "violations", "conflicts", "own_rises")
    )
    made = max(1, int(steps.sum()))
    report = {
        **{"trajectories": len(end), "skipped": total - len(end), "updates": int(steps.sum())},
        **{"median_updates": float(steps.double().median()), "conflict_share": int(conflicts.sum()) / made, **ends},
        **{"steps_below_bound": int(below.sum()), "violations": int(below.sum()) + ends["stalled"]},
        **{"own_loss_rises": int(own.sum()) / made, "settling": settling(runs[0]["path"])},
    }
    return report | (least_product(runs) if stationary else remaining_gap(runs))


def remaining_gap(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """(L - L*) / (L_0 - L*) where trajectories end as `opposite`: how far from the optimum PCGrad may stop."""
    gaps = [((r["loss"] - r["best"]) / (r["first"] - r["best"]))[torch.from_numpy(r["end"] == "opposite")] for r in runs]
    return {"gap_at_opposite": quantiles(torch.cat(gaps))}


def least_product(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """min_{k < K} m_k against 2 (L_0 - L_K) / (t K), its largest share; beyond 1 it would contradict the sum."""
    shares = []
    for r in runs:
        bound = 2 * (r["first"] - r["loss"]) / (r["step"] * r["updates"])
        shares.append((r["least"] / bound)[r["updates"] > 0])
    return {"least_over_bound": quantiles(torch.cat(shares))}


def longer_steps(family: str, count: int, updates: int, seed: int) -> list[dict[str, Any]]:
    """The same trajectories at t = FACTORS / L: on how many the loss rises at least once, and how they end."""
    problems = starts(family, count, stream(seed, "theorem1/longer steps", family, 0))
    size = len(problems)
    factors = torch.tensor(FACTORS, dtype=torch.float64).repeat_interleave(size)
    result = run(problems[torch.arange(size).repeat(len(FACTORS))], updates, factor=factors)
    rows = []
    for factor in FACTORS:
        which = (factors == factor).numpy()
        below, rises = (int((result[name].numpy()[which] > 0).sum()) for name in ("violations", "rises"))
        row = {"t_times_L": factor, "trajectories": size, "bound_fails": below, "loss_rises": rises}
        names = ("optimum", "opposite", "diverged", "stalled", "unfinished")
        rows.append(row | {name: int((result["end"][which] == name).sum()) for name in names})
    return rows
