"""Theorem 1's limit: trajectories of PCGrad at t = 1 / L, run until a stated stopping rule.

A trajectory ends as
- `optimum`: L(theta) - L* <= GAP (L(0) - L*), L* from Newton's method, which knows nothing of PCGrad;
- `opposite`: 1 + cos phi_12 <= OPPOSITE;
- `unfinished`: neither within the given number of updates.
It *contradicts* the theorem if a step misses the descent bound beyond rounding, or if it is `stalled`: it stands still
(no update changes theta by more than rounding) and yet is at neither end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs.problems import CONSTANT_HESSIAN, EPSILON, Problems, aim, look, rounding
from proofs.sampling import chunks, draw, sideways, stream
from proofs.tally import BrokenError

GAP, OPPOSITE = 1e-8, 1e-8


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
    """Let the two tasks of some quadratic problems have one minimizer, so that the optimum is an end they can reach.

    With Hessians H_i and the minimizer at -v, g_i = H_i v at the start; v is the eigenvector of H_1 H_2 + H_2 H_1 with
    the smallest eigenvalue. Where that is not negative the tasks could not conflict, and the problem stays as it is.
    """
    rows = (problems.s.unsqueeze(-1) * problems.w).unsqueeze(-1) * problems.A
    one, two = (rows.mT @ problems.A).unbind(1)
    both = one @ two
    values, vectors = torch.linalg.eigh(both + both.mT)
    chosen = which & (values[:, 0] < -1e-9 * values[:, -1])
    return replace(problems, b=torch.where(chosen[:, None, None], problems.along(vectors[..., 0]), problems.b))


def trajectories(family: str, total: int, updates: int, seed: int) -> dict[str, Any]:
    """Run `total` trajectories of one family from random starts in conflict and count how they end."""
    ends = {"optimum": 0, "opposite": 0, "stalled": 0, "unfinished": 0}
    started, descended, in_conflict, lengths = 0, 0, 0, []  # type: int, int, int, list[Tensor]
    for chunk, count in enumerate(chunks(total)):
        rng = stream(seed, "theorem1/trajectories", family, chunk)
        problems = draw(family, count, rng, conditioning=0.25)
        cos, ratio = torch.from_numpy(-0.95 * rng.random(count)), torch.from_numpy(10 ** rng.uniform(-0.5, 0.5, count))
        problems = aim(problems, cos, ratio, sideways(problems, rng))
        if family in CONSTANT_HESSIAN:
            problems = meet(problems, torch.arange(count) % 2 == 1)
        problems = problems[look(problems, problems.start()).conflict]  # one that never conflicts is not counted
        started += len(problems)
        result = run(problems, updates)
        for name in ends:
            ends[name] += int((result["end"] == name).sum())
        descended += int(result["violations"].sum())
        in_conflict += int(result["conflicts"].sum())
        lengths.append(result["updates"])
    steps = torch.cat(lengths)
    if started == 0:
        raise BrokenError(f"theorem1: no {family} trajectory starts in conflict")
    return {
        "trajectories": started,
        "skipped": total - started,
        "updates": int(steps.sum()),
        "median_updates": float(steps.double().median()),
        "conflict_share": in_conflict / max(1, int(steps.sum())),
        **ends,
        "steps_below_bound": descended,
        "violations": descended + ends["stalled"],
    }


def run(problems: Problems, updates: int) -> dict[str, Any]:
    """PCGrad at t = 1 / L on every problem at once; finished ones leave the batch."""
    size, best = len(problems), optimal_value(problems)
    end = np.full(size, "unfinished", dtype=object)
    counts = {name: torch.zeros(size, dtype=torch.int64) for name in ("updates", "conflicts", "violations")}
    alive, theta = torch.arange(size), problems.start()
    first, step = problems.loss(theta), 1 / problems.lipschitz()
    left, value = problems, first
    for _ in range(updates):
        point = look(left, theta)
        change = step[alive].unsqueeze(-1) * point.g_pc
        after = theta - change
        done = {
            "optimum": value - best[alive] <= GAP * (first - best)[alive],
            "opposite": 1 + point.cos <= OPPOSITE,
            "stalled": change.abs().amax(-1) <= EPSILON * theta.abs().amax(-1),
        }
        running = torch.ones(len(alive), dtype=torch.bool)
        for name, reached in done.items():
            end[alive[running & reached].numpy()] = name
            running &= ~reached
        kept = torch.where(point.conflict, (1 - point.cos) * (1 + point.cos), 1.0)
        bound = value - step[alive] * kept * (point.g**2).sum(-1) / 2
        reached_value = left.loss(after)
        low = reached_value > bound
        if low.any():
            low &= reached_value - bound > rounding(left, theta, (after,), step[alive])
        counts["updates"][alive] += running
        counts["conflicts"][alive] += running & point.conflict
        counts["violations"][alive] += running & low
        if not running.all():
            left, alive = left[running], alive[running]
            after, reached_value = after[running], reached_value[running]
        theta, value = after, reached_value
        if len(alive) == 0:
            break
    return {"end": end, **counts, "theta": theta, "left": alive}
