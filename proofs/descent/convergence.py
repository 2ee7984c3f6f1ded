"""Limits of Theorem 1 and Proposition 1: trajectories of PCGrad at t = 1 / L, run until a stated
stopping rule.

A trajectory ends as
- `opposite`: 1 + cos phi_12 <= OPPOSITE;
- `optimum` (Theorem 1): L(theta) - L* <= GAP (L(0) - L*), L* from Newton's method, which knows
  nothing of PCGrad;
- `stationary` (Proposition 1): ||g|| <= NEAR ||g_0||; or `product`: m <= NEAR^2 m_0, m as below, at
  neither of the two;
- `unfinished`: none of these within the given number of updates.
It *contradicts* the statement if a step misses the descent bound beyond rounding, or if it is
`stalled`: it stands still (no update changes theta by more than rounding) and yet is at no end.

**What the descent step proves.** Let m = (1 - cos^2 phi) ||g||^2 in conflict and ||g||^2 otherwise.
With t <= 1 / L,
    sum_k m_k <= 2 (L_0 - inf L) / t,
so that m_k -> 0 if inf L > -infinity, convex or not. By continuity, at every cluster point g = 0;
or g_1 = -kappa g_2 with kappa > 0, that is cos = -1; or one task's gradient is 0, with cos -> -1
along the way. If L is convex, g = 0 means L_k -> L*.

**What "converges to a point" needs besides.** Cluster points exist where {L <= L_0} is bounded; an
attained minimum is not enough (`escape.py`). They are a single point in either of these cases:
- t < 1 / L, and the points above with L = lim L_k are isolated: by
  `identities_descent.square_summable` the steps tend to 0, so that the cluster points are a
  connected set (Ostrowski 1966, Theorem 28.1);
- t < 1 / L, convex tasks, and neither task's own loss rises from some step on: as w_i > 0
  (`identities_descent.weights`), g^PC . (theta_k - y) >= 0 for a cluster point y, hence
  ||theta_{k+1} - y||^2 <= ||theta_k - y||^2 + ||step||^2 with summable squares: quasi-Fejer (Grana
  Drummond and Svaiter 2005, J. Comput. Appl. Math. 175, for vector optimization).
`settling` measures how well trajectories settle, `own_rises` how often a task's own loss rises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs.descent.paths import run, starts
from proofs.sampling import chunks, stream
from proofs.tally import BrokenError

KEPT = 100  # trajectories per family whose iterates are kept, to see how they settle
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
FACTORS = (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.1)  # t L


def settling(path: Tensor) -> dict[str, Any]:
    """How the kept trajectories [updates + 1, N, D] settle, against the length that they travel:
    medians and maxima.

    `last_half`: the length of the second half of the updates; `last_quarter`: the largest distance
    of the last quarter of the iterates from the last one. A trajectory that converges to a point
    has both near 0."""
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
    family: str,
    total: int,
    updates: int,
    seed: int,
    *,
    stationary: bool = False,
    statement: str = "theorem1",
) -> dict[str, Any]:
    """Run `total` trajectories of one family from random starts in conflict and count how they end."""
    names = (
        ("stationary", "opposite", "product") if stationary else ("optimum", "opposite", "diverged")
    )
    runs: list[dict[str, Any]] = []
    for chunk, count in enumerate(chunks(total)):
        problems = starts(family, count, stream(seed, f"{statement}/trajectories", family, chunk))
        runs.append(run(problems, updates, stationary=stationary, keep=0 if chunk else KEPT))
    end = np.concatenate([result["end"] for result in runs])
    if len(end) == 0:
        raise BrokenError(f"{statement}: no {family} trajectory starts in conflict")
    ends = {name: int((end == name).sum()) for name in (*names, "stalled", "unfinished")}
    steps, below, conflicts, own = (
        torch.cat([result[name] for result in runs])
        for name in ("updates", "violations", "conflicts", "own_rises")
    )
    made = max(1, int(steps.sum()))
    report = {
        **{"trajectories": len(end), "skipped": total - len(end), "updates": int(steps.sum())},
        **{"ended_at_start": int((steps == 0).sum())},
        **{
            "median_updates": float(steps.double().median()),
            "conflict_share": int(conflicts.sum()) / made,
            **ends,
        },
        **{"steps_below_bound": int(below.sum()), "violations": int(below.sum()) + ends["stalled"]},
        **{"own_loss_rises": int(own.sum()) / made, "settling": settling(runs[0]["path"])},
    }
    return report | (least_product(runs) if stationary else remaining_gap(runs))


def remaining_gap(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """(L - L*) / (L_0 - L*) where trajectories end as `opposite`: how far from the optimum PCGrad
    may stop.

    Those that start there (in one dimension every conflict is one) do not move and are left out.
    """
    gaps = []
    for r in runs:
        which = torch.from_numpy(r["end"] == "opposite") & (r["updates"] > 0)
        gaps.append(((r["loss"] - r["best"]) / (r["first"] - r["best"]))[which])
    return {"gap_at_opposite": quantiles(torch.cat(gaps))}


def least_product(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """min_{k < K} m_k against 2 (L_0 - L_K) / (t K), its largest share; beyond 1 it would
    contradict the sum.
    """
    shares = []
    for r in runs:
        bound = 2 * (r["first"] - r["loss"]) / (r["step"] * r["updates"])
        shares.append((r["least"] / bound)[r["updates"] > 0])
    return {"least_over_bound": quantiles(torch.cat(shares))}


def longer_steps(family: str, count: int, updates: int, seed: int) -> list[dict[str, Any]]:
    """The same trajectories at t = FACTORS / L: on how many the loss rises at least once, and how
    they end.
    """
    problems = starts(family, count, stream(seed, "theorem1/longer steps", family, 0))
    size = len(problems)
    factors = torch.tensor(FACTORS, dtype=torch.float64).repeat_interleave(size)
    result = run(problems[torch.arange(size).repeat(len(FACTORS))], updates, factor=factors)
    rows = []
    for factor in FACTORS:
        which = (factors == factor).numpy()
        below, rises = (
            int((result[name].numpy()[which] > 0).sum()) for name in ("violations", "rises")
        )
        row = {"t_times_L": factor, "trajectories": size, "bound_fails": below, "loss_rises": rises}
        names = ("optimum", "opposite", "diverged", "stalled", "unfinished")
        rows.append(row | {name: int((result["end"][which] == name).sum()) for name in names})
    return rows
