"""Runs batches of trajectories of PCGrad on two tasks up to a stopping rule.

`convergence.py` defines the rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from proofs.problems import CONSTANT_HESSIAN, EPSILON, Point, Problems, aim, look, rounding
from proofs.sampling import draw, sideways

GAP, OPPOSITE, NEAR = 1e-8, 1e-8, 1e-6
LOCATED = 1e-3  # largest remaining way of a located trajectory, relative to its way so far
MEETING = (*CONSTANT_HESSIAN, "cauchy", "welsch", "wave")


def optimal_value(problems: Problems) -> Tensor:
    """Return L* of each problem by 30 updates of Newton's method with backtracking, [N].

    The Hessian is lifted in proportion to the gradient's length, so that it is regular.
    """
    theta, constant = problems.start(), problems.lipschitz()
    identity = torch.eye(theta.shape[-1], dtype=theta.dtype)
    first = problems.gradients(theta).sum(-2).norm(dim=-1)
    value = problems.loss(theta)
    for _ in range(30):
        g = problems.gradients(theta).sum(-2)
        # The lift shrinks with the gradient, so that Newton's method still converges fast.
        lift = constant * (1e-3 * g.norm(dim=-1) / first + 1e-12)
        direction = torch.linalg.solve(problems.hessian(theta) + lift[:, None, None] * identity, g)
        step = torch.ones_like(value)
        # Every problem halves its own step until its loss no longer rises.
        for _ in range(12):
            after = problems.loss(theta - step.unsqueeze(-1) * direction)
            worse = after > value
            if not worse.any():
                break
            step = torch.where(worse, step / 2, step)
        theta = torch.where(worse.unsqueeze(-1), theta, theta - step.unsqueeze(-1) * direction)
        value = torch.minimum(value, after)
    return value


def meet(problems: Problems, which: Tensor) -> Problems:
    """Give the two tasks of the problems `which` (bool [N]) one minimizer.

    The optimum is then an end that trajectories can reach.

    At θ = −v every z is 0, where F of the quadratics, cauchy, welsch and wave has its minimum and
    F'' = 1. With Hessians Hᵢ there, gᵢ ≈ Hᵢ v at the start. v is the eigenvector of H₁ H₂ +
    H₂ H₁ with the smallest eigenvalue, scaled so that |z| ≤ 1. If that eigenvalue is not negative
    the tasks could not conflict near the minimizer, and the problem is left unchanged.
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
    """Draw moderately conditioned problems that start in conflict.

    Every second problem of the MEETING families has a common minimizer.
    """
    problems = draw(family, count, rng, conditioning=0.25)
    cos = torch.from_numpy(-0.95 * rng.random(count))
    ratio = torch.from_numpy(10 ** rng.uniform(-0.5, 0.5, count))
    problems = aim(problems, cos, ratio, sideways(problems, rng))
    if family in MEETING:
        problems = meet(problems, torch.arange(count) % 2 == 1)
    # A problem that does not start in conflict is not counted.
    return problems[look(problems, problems.start()).conflict]


def guaranteed(point: Point) -> Tensor:
    """m = σ‖g‖², [N]."""
    return point.sigma * point.square


def remaining(length: Tensor, previous: Tensor) -> Tensor:
    """Return the remaining way if steps keep shrinking by the present ratio, [N].

    It is ‖step‖ q/(1 − q) with q = ‖step_k‖/‖step_{k−1}‖, and infinite where steps do not shrink.
    Steps that shrink geometrically have a small remainder. On a walk to infinity q → 1 like 1 −
    1/k, so that the remainder grows with k: there 1 + cos φ → 0 does not indicate a location.
    """
    ratio = torch.where(previous > 0, length / previous, 0.0)
    rest = length * ratio / (1 - ratio)
    return torch.where(ratio < 1, rest, torch.where(length > 0, torch.inf, 0.0))


class Progress:
    """The steps and ways of a batch of trajectories, to decide whether they have a location."""

    def __init__(self, size: int) -> None:
        self.previous = torch.zeros(size, dtype=torch.float64)
        self.travelled = torch.zeros(size, dtype=torch.float64)

    def located(self, rows: Tensor, change: Tensor) -> Tensor:
        """Test whether the trajectories `rows` have nearly arrived, and record their step.

        Returns:
            bool [rows].
        """
        length = change.norm(dim=-1)
        rest = remaining(length, self.previous[rows])
        # The first step has no predecessor, hence no ratio.
        first = (self.previous[rows] == 0) & (length > 0)
        self.travelled[rows] += length
        self.previous[rows] = length
        return ~first & (rest <= LOCATED * self.travelled[rows])


class Origin(NamedTuple):
    """The values that the stopping rule compares with, each [N]."""

    loss: Tensor
    best: Tensor | None  # L*; None to look for stationary points
    m: Tensor
    g: Tensor  # ‖g₀‖

    def reached(
        self, rows: Tensor, point: Point, value: Tensor, located: Tensor
    ) -> dict[str, Tensor]:
        """Return the ends that the trajectories `rows` have reached, bool [rows] each.

        The first end in the dictionary counts.
        """
        opposite = (1 + point.cos <= OPPOSITE) & located
        if self.best is None:
            stationary = point.g.norm(dim=-1) <= NEAR * self.g[rows]
            product = guaranteed(point) <= NEAR**2 * self.m[rows]
            return {"stationary": stationary, "opposite": opposite, "product": product}
        span = self.loss[rows] - self.best[rows]
        above = value - self.best[rows]
        return {
            "optimum": above <= GAP * span,
            "opposite": opposite,
            "diverged": ~(above <= 1e6 * span),
        }


class Run(NamedTuple):
    """How a batch of trajectories ended, each field [N]."""

    end: np.ndarray  # a name of `convergence.ENDS`
    gap: Tensor | None  # (L − L*)/(L₀ − L*); None if the run looked for stationary points
    updates: Tensor
    conflicts: Tensor  # updates at which the tasks are in conflict
    violations: Tensor  # updates that miss the descent step's bound


def run(problems: Problems, updates: int, *, stationary: bool = False) -> Run:
    """Run PCGrad at t = 1/L on every problem at once; finished problems leave the batch.

    If `stationary`, the runs end at stationary points instead of the optimum.
    """
    size, theta, step = len(problems), problems.start(), 1 / problems.lipschitz()
    point, loss = look(problems, theta), problems.loss(theta)
    best = None if stationary else optimal_value(problems)
    origin = Origin(loss, best, guaranteed(point), point.g.norm(dim=-1))
    end = np.full(size, "unfinished", dtype=object)
    made, conflicts, violations = (torch.zeros(size, dtype=torch.int64) for _ in range(3))
    final = loss.clone()
    alive, left, progress = torch.arange(size), problems, Progress(size)
    # The iterate after the last update is tested as well, hence the additional round.
    for k in range(updates + 1):
        change = step[alive].unsqueeze(-1) * point.g_pc
        located = progress.located(alive, change)
        reached = origin.reached(alive, point, loss, located)
        running = _end(end, alive, reached, change, theta)
        final[alive] = loss
        if k == updates or not running.any():
            walking = running & (1 + point.cos <= OPPOSITE)
            end[alive[walking].numpy()] = "walking"
            break
        if not running.all():
            alive, left, theta = alive[running], left[running], theta[running]
            point, change = Point(*(t[running] for t in point)), change[running]
            loss = loss[running]
        after, promised = theta - change, loss - step[alive] * guaranteed(point) / 2
        reached_loss = left.loss(after)
        excess = reached_loss - promised
        missed = excess > 0
        # The rounding error takes most of the time, and decides only where the bound is exceeded.
        if missed.any():
            missed = excess > rounding(left, theta, (after,), step[alive])
        made[alive] += 1
        conflicts[alive] += point.conflict
        violations[alive] += missed
        theta, loss, point = after, reached_loss, look(left, after)
    gap = None if best is None else (final - best) / (origin.loss - best)
    return Run(end, gap, made, conflicts, violations)


def _end(
    end: np.ndarray, alive: Tensor, reached: dict[str, Tensor], change: Tensor, theta: Tensor
) -> Tensor:
    """Record which trajectories are at an end or stalled; return which ones go on."""
    # A step below one unit in the last place of θ changes nothing any more.
    stalled = change.abs().amax(-1) <= EPSILON * theta.abs().amax(-1)
    running = torch.ones(len(alive), dtype=torch.bool)
    for name, there in {**reached, "stalled": stalled}.items():
        end[alive[running & there].numpy()] = name
        running &= ~there
    return running
