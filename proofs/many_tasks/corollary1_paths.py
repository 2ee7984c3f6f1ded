"""Corollary 1's limit by trajectories: PCGrad on 3 to 10 convex tasks, orders drawn anew at every
step.

A trajectory ends as
- `optimum`: cos(g, g^PC) >= 1/2 held at every step and L(theta) - L* <= GAP (L(0) - L*), L* by
  Newton's method;
- `left`: cos(g, g^PC) < 1/2 at some step (or g^PC = 0): the corollary says nothing, it counts as
  skipped;
- `plain`: no two tasks ever were in conflict, it was gradient descent: skipped too;
- `stalled`: cos >= 1/2 held at every step allowed, and in the last half the gap L(theta) - L* fell
  by less than FALL;
- `cycling`: cos >= 1/2 held at every step allowed, the loss rose at a quarter of the last half's
  steps or more, and the smallest gap of that half is above NEW of the smallest gap before;
- `unfinished`: none of these after all steps.
`stalled` and `cycling` contradict the limit.

Most of the problems let the tasks share a minimizer (`agree`, SHARES). The others are arranged as
in `corollary1_gradients.py`, or (family `quadratic`) have nearly equal angles and Hessian L 1,
where a step can overshoot. Without a shared minimizer few runs keep cos >= 1/2 up to the end: near
the optimum g is small and the g_i are not, so that g^PC depends on the orders and not on g.

Absent tasks have the loss 0: a zero gradient conflicts with nothing, so that one batch serves all
numbers of tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs.descent.paths import optimal_value
from proofs.many_tasks.corollary1_gradients import angle, chosen, draw_orders, equal_angles
from proofs.problems import CONVEX, Problems, aim_at, look
from proofs.sampling import chunks, draw, sideways, stream
from proofs.tally import BrokenError

GAP, FALL, NEW = 1e-8, 1e-6, 0.9
MOST = 10
ROWS = {
    "least_squares": 0.4,
    "quadratic": 0.4,
}  # of a task's rows are kept where it shares its minimizer; others 0.25
DIRECTIONS = 8  # towards a shared minimizer, of which the one with most conflict is taken
DIMENSIONS = (2, 6)
MIRRORED = ("logistic", "softplus")
CONDITIONING = {"agree": 0.3, "arranged": 0.2, "equal": 0.0}
ENDS = ("optimum", "left", "plain", "stalled", "cycling", "unfinished")
SHARES = {"quadratic": {"agree": 0.9, "equal": 0.1}}  # of the kinds of problems
OTHERS = {"agree": 0.96, "arranged": 0.04}


def agree(problems: Problems, v: Tensor) -> Problems:
    """Let all tasks have their minimizer at -v [N, D]: b = A v, and rows of opposite sign where F
    is not even.
    """
    if problems.family in MIRRORED:
        doubled = (
            torch.cat([t, sign * t], 2)
            for t, sign in ((problems.A, -1), (problems.b, -1), (problems.w, 1))
        )
        a, b, w = doubled
        problems = replace(problems, A=a, b=b, w=w)
    along = problems.along(v)
    if problems.family == "log_sum_exp":  # absent planes stay far below
        along = torch.where(problems.b < -100, problems.b, along)
    return replace(problems, b=along)


def most_opposed(candidates: list[Problems], present: Tensor) -> Problems:
    """Of several batches that differ in b alone, instance by instance the one with the smallest
    cosine of two tasks.
    """
    both, lowest = present.unsqueeze(-1) & present.unsqueeze(-2), []
    for problems in candidates:
        gradients = problems.gradients(problems.start())
        lowest.append(
            torch.where(both, pcgrad.cosine(gradients @ gradients.mT).nan_to_num(1), 1).amin(
                (-1, -2)
            )
        )
    best = torch.stack(lowest).argmin(0)
    b = torch.stack([problems.b for problems in candidates])[best, torch.arange(len(best))]
    return replace(candidates[0], b=b)


def starts(family: str, count: int, rng: np.random.Generator, kind: str) -> Problems:
    """Problems of 3 to 10 tasks, the last ones of MOST absent."""
    problems = draw(family, count, rng, DIMENSIONS, CONDITIONING[kind], MOST)
    present = torch.arange(MOST) < torch.from_numpy(rng.integers(3, MOST + 1, count)).unsqueeze(-1)
    if kind == "agree":
        thin = torch.from_numpy(
            rng.random(problems.w.shape) < ROWS.get(family, 0.25)
        )  # few rows each: tasks whose Hessians differ
        problems = replace(problems, w=problems.w * thin)
        problems = most_opposed(
            [agree(problems, sideways(problems, rng)) for _ in range(DIRECTIONS)], present
        )
    else:
        targets = torch.ones(count, MOST, problems.A.shape[-1], dtype=torch.float64)
        for n in range(3, MOST + 1):
            rows = present.sum(-1) == n
            size, width = problems.dimension[rows], problems.A.shape[-1]
            if kind == "equal":
                targets[rows, :n] = equal_angles(n, size, width, rng)
            else:
                targets[rows, :n] = chosen(
                    n, size, width, draw_orders(n, len(size), rng), rng, "printed"
                )
        problems = aim_at(problems, targets)
    return replace(problems, s=problems.s * present)


def run(problems: Problems, updates: int, seed: int, form: str = "printed") -> dict[str, Any]:
    """PCGrad on every problem at once, orders drawn anew at every step; finished ones leave the
    batch.

    t = 1 / L, or in the `repaired` form g . g^PC / (L ||g^PC||^2).
    """
    size, best, theta, left = len(problems), optimal_value(problems), problems.start(), problems
    generator = torch.Generator().manual_seed(seed)
    end = np.full(size, "unfinished", dtype=object)
    steps, rises, conflicts = torch.zeros(3, size, dtype=torch.int64)
    lowest = torch.full(
        (2, size), torch.inf, dtype=torch.float64
    )  # gap in the first and in the last half
    alive, step, value = torch.arange(size), 1 / problems.lipschitz(), problems.loss(theta)
    first = value - best
    middle, last = first.clone(), first.clone()
    for k in range(updates):
        late = int(2 * k >= updates)
        point = look(left, theta, pcgrad.random_orders(MOST, generator, batch=(len(alive),)))
        reached = value - best[alive] <= GAP * first[alive]
        seen = angle(point.g, point.g_pc)
        lost = ~(seen.cos >= 0.5) & ~reached
        end[alive[reached].numpy()], end[alive[lost].numpy()] = "optimum", "left"
        running = ~(reached | lost)
        if not running.all():
            left, alive = left[running], alive[running]
        if len(alive) == 0:
            break
        length = (
            step[alive] * (seen.cos / seen.ratio)[running] if form == "repaired" else step[alive]
        )
        theta = theta[running] - length.unsqueeze(-1) * point.g_pc[running]
        after = left.loss(theta)
        steps[alive] += 1
        conflicts[alive] += (point.gramian[running] < 0).any(-1).any(-1)
        rises[alive] += late * (after > value[running] + 1e-12 * value[running].abs())
        value = after
        last[alive] = value - best[alive]
        lowest[late, alive] = torch.minimum(lowest[late, alive], last[alive])
        if not late:
            middle[alive] = last[alive]
    cycling = (rises >= updates // 8) & (lowest[1] >= NEW * lowest[0]) & (updates >= 8)
    stalled = (middle - last).abs() <= FALL * middle
    for name, which in (("cycling", cycling), ("stalled", stalled)):
        chosen_ones = which[alive].numpy() & (end[alive.numpy()] == "unfinished")
        end[alive.numpy()[chosen_ones]] = name
    end[((conflicts == 0).numpy()) & (end != "left")] = "plain"
    return {"end": end, "updates": steps, "conflicts": conflicts}


def trajectories(
    family: str, total: int, updates: int, seed: int, form: str = "printed"
) -> dict[str, Any]:
    """Run `total` trajectories of one family and count how they end, by kind of problem."""
    shares = SHARES.get(family, OTHERS)
    kinds = {kind: dict.fromkeys(ENDS, 0) for kind in shares}
    lengths = []
    for chunk, count in enumerate(chunks(total)):
        rng = stream(seed, "corollary1/paths", family, chunk)
        cuts = np.round(np.cumsum(list(shares.values())) * count).astype(int)
        for kind, part in zip(shares, np.diff([0, *cuts]).tolist(), strict=True):
            if part == 0:
                continue
            result = run(starts(family, part, rng, kind), updates, int(rng.integers(2**62)), form)
            for name in ENDS:
                kinds[kind][name] += int((result["end"] == name).sum())
            lengths.append(torch.stack([result["updates"], result["conflicts"]]))
    steps, conflicts = torch.cat(lengths, 1)
    sums = {name: sum(row[name] for row in kinds.values()) for name in ENDS}
    if sums["optimum"] == 0:
        raise BrokenError(
            f"corollary1: no {family} trajectory reaches the optimum with its hypotheses kept"
        )
    return {
        "trajectories": total - sums["left"] - sums["plain"],
        "skipped": sums["left"] + sums["plain"],
        "updates": int(steps.sum()),
        "median_updates": float(steps.double().median()),
        "conflict_share": float(conflicts.sum() / steps.sum().clamp(min=1)),
        **sums,
        "violations": sums["stalled"] + sums["cycling"],
        "kinds": kinds,
    }


def limit(settings: dict[str, Any], form: str) -> dict[str, Any]:
    """Trajectories of every convex family to their ends; a tenth more than asked for, as some are
    skipped.
    """
    paths = {
        family: trajectories(
            family, settings["trajectories"] * 11 // 10, settings["updates"], settings["seed"], form
        )
        for family in CONVEX
    }
    names = ("trajectories", "skipped", *ENDS, "violations")
    sums = {name: sum(row[name] for row in paths.values()) for name in names}
    return {**sums, "updates_allowed": settings["updates"], "families": paths}
