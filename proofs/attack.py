"""Searches for violations with scipy's optimizers, over the parameters of small instances.

An instance is a vector x in [−1, 1]ᵖ: Aᵢ, bᵢ and log10 sᵢ of every task, and a number u in
[0, 1] from which the statement makes its step. Three optimizers minimize the margin: differential
evolution, basin hopping with Nelder-Mead, and SLSQP from both results, with the hypotheses' slack
as its constraint. An instance outside the hypotheses costs 1 plus the amount by which it misses
them.

If a statement holds, they end at its edge (margin 0 up to rounding). If it is false, they are
expected to find a violation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from proofs.judgement import Check
from proofs.problems import Problems
from proofs.sampling import Array, stream
from proofs.tally import Trial

Put = Callable[[Problems, Tensor], Trial]  # instances and u, [N]
CLIP = 10.0  # limit of margin / unit, because an optimizer needs finite numbers
DIFFERENCE = 1e-7  # step of the forward differences


@dataclass(frozen=True)
class Found:
    """The smallest margin that one optimizer found against a statement."""

    evaluations: int
    violates: bool
    smallest_margin: float | None
    details: dict[str, float]
    x: list[float]  # the instance


@dataclass
class Search:
    """The instances of one shape, and the best one that an optimizer has seen."""

    statement: str
    put: Put
    family: str
    tasks: int = 2
    rows: int = 2
    dimension: int = 2
    evaluations: int = 0
    best: Found | None = None

    @property
    def size(self) -> int:
        """The number p of an instance's parameters."""
        return self.tasks * (self.rows * self.dimension + self.rows + 1) + 1

    def decode(self, x: Array) -> tuple[Problems, Tensor]:
        """Turn vectors [N, p] into N problems and u [N]."""
        count, shape = len(x), (self.tasks, self.rows, self.dimension)
        values = torch.from_numpy(np.clip(x, -1, 1))
        a, b, s, u = values.split(
            [int(np.prod(shape)), self.tasks * self.rows, self.tasks, 1], dim=-1
        )
        ones = torch.ones(count, self.tasks, self.rows, dtype=values.dtype)
        problems = Problems(
            self.family,
            3 * a.reshape(count, *shape),
            3 * b.reshape(count, *shape[:2]),
            ones,
            10**s,
            torch.full((count,), float(self.dimension), dtype=values.dtype),
        )
        return problems, (u[:, 0] + 1) / 2

    def score(self, x: Array) -> tuple[Array, Array, Array]:
        """Return (cost, margin / unit, slack) of vectors [N, p].

        The smallest accepted margin is remembered.
        """
        trial = self.put(*self.decode(x))
        finite = (
            trial.margin.isfinite()
            & trial.unit.isfinite()
            & (trial.unit > 0)
            & trial.slack.isfinite()
        )
        relative = torch.where(finite, trial.margin / trial.unit, torch.inf).clamp(-CLIP, CLIP)
        slack = trial.slack.nan_to_num(-CLIP).clamp(-CLIP, CLIP)
        counted = trial.accepted & finite
        # Instances outside the hypotheses cost at least as much as any accepted one, and less the
        # nearer they are to the edge.
        cost = torch.where(counted, relative.clamp(max=1), 1 + (-slack).clamp(min=0))
        self.evaluations += len(x)
        self._remember(x, trial, counted, relative)
        return cost.numpy(), relative.numpy(), slack.numpy()

    def _remember(self, x: Array, trial: Trial, counted: Tensor, relative: Tensor) -> None:
        # Margins within the rounding error decide nothing and are not remembered.
        beyond = torch.where(counted & (trial.margin.abs() > trial.noise), relative, torch.inf)
        index = int(beyond.argmin())
        margin = float(beyond[index])
        least = np.inf if self.best is None else self.best.smallest_margin
        if margin < (np.inf if least is None else least):
            details = {name: float(value[index]) for name, value in trial.details.items()}
            violates = bool(trial.violated[index])
            self.best = Found(0, violates, margin, details, [float(value) for value in x[index]])


def attack(search: Search, seed: int, rounds: int) -> dict[str, Found]:
    """Return the smallest margin that each optimizer finds.

    `rounds` are generations of differential evolution; the others work in proportion.
    """
    found: dict[str, Found] = {}
    starts: list[Array] = []
    optimizers = {"differential_evolution": _evolution, "basin_hopping": _hopping, "slsqp": _slsqp}
    for number, (name, run) in enumerate(optimizers.items()):
        search.best, search.evaluations = None, 0
        rng = stream(seed, search.statement, f"attack/{search.family}", number)
        starts.append(run(search, rng, rounds, starts))
        best = search.best or Found(0, False, None, {}, [])
        found[name] = replace(best, evaluations=search.evaluations)
    return found


def attacked(found: dict[str, dict[str, Found]]) -> Check:
    """Report searches as a check."""
    rows = [row for families in found.values() for row in families.values()]
    says = f"{sum(row.evaluations for row in rows):,} evaluations of {len(rows)} searches"
    return Check("samples", "searches", not any(row.violates for row in rows), says)


def _evolution(search: Search, rng: np.random.Generator, rounds: int, starts: list[Array]) -> Array:
    result = scipy.optimize.differential_evolution(
        lambda x: search.score(x.T)[0], [(-1, 1)] * search.size, maxiter=rounds, popsize=10,
        tol=0, polish=False, vectorized=True, updating="deferred", rng=rng,
    )  # fmt: skip
    return np.asarray(result.x)


def _hopping(search: Search, rng: np.random.Generator, rounds: int, starts: list[Array]) -> Array:
    sample = rng.uniform(-1, 1, (500, search.size))
    begin = sample[search.score(sample)[0].argmin()]
    result = scipy.optimize.basinhopping(
        lambda x: float(search.score(x[None])[0][0]), begin, niter=max(1, rounds // 10),
        stepsize=0.3, rng=rng,
        minimizer_kwargs={"method": "Nelder-Mead", "options": {"maxfev": 200}},
    )  # fmt: skip
    return np.asarray(result.x)


def _slsqp(search: Search, rng: np.random.Generator, rounds: int, starts: list[Array]) -> Array:
    best, lowest = starts[0], np.inf
    for begin in [*starts, *rng.uniform(-1, 1, (max(1, rounds // 20), search.size))]:
        result = scipy.optimize.minimize(
            lambda x: float(search.score(x[None])[1][0]), begin,
            jac=lambda x: _slope(search, x, 1), method="SLSQP",
            bounds=[(-1, 1)] * search.size, options={"maxiter": 30},
            constraints={"type": "ineq", "fun": lambda x: search.score(x[None])[2][0],
                         "jac": lambda x: _slope(search, x, 2)},
        )  # fmt: skip
        if search.score(result.x[None])[0][0] < lowest:
            best, lowest = result.x, search.score(result.x[None])[0][0]
    return np.asarray(best)


def _slope(search: Search, x: Array, which: int) -> Array:
    """Forward differences of the relative margin (1) or the slack (2), in one batch."""
    values = search.score(np.vstack([x, x + DIFFERENCE * np.eye(search.size)]))[which]
    return np.asarray((values[1:] - values[0]) / DIFFERENCE)
