"""An independent check of L: numpy and scipy only, one problem at a time.

None of the formulas of `problems.py` is used.

1. `scipy.linalg.eigvalsh` (`scipy.spatial.distance.pdist` for log-sum-exp) recomputes the bound;
   both values must agree. `scipy.optimize.minimize_scalar` recomputes the largest |F''| from
   second derivatives that are written out here.
2. `scipy.optimize` (Nelder-Mead from the start and from a random point) maximizes the largest
   |eigenvalue| of the Hessian over θ. The result is a lower bound of the true Lipschitz constant
   and must not exceed L.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.special import expit, softmax

from proofs.problems import Problems
from proofs.sampling import stream
from proofs.tally import BrokenError

Array = NDArray[np.float64]
AGREE = 1e-9  # relative tolerance
Task = tuple[Array, Array, Array, float]  # A, b, w, s without absent rows and columns
SECOND_DERIVATIVES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("least_squares", "quadratic", "indefinite"), np.ones_like),
    **dict.fromkeys(("logistic", "softplus"), lambda z: expit(z) * expit(-z)),
    "huber": lambda z: (np.abs(z) <= 1).astype(float),
    "cauchy": lambda z: (1 - z**2) / (1 + z**2) ** 2,
    "welsch": lambda z: (1 - z**2) * np.exp(-(z**2) / 2),
    "wave": np.cos,
    "sigmoid": lambda z: -np.tanh(z / 2) / np.cosh(z / 2) ** 2 / 4,
}


def compare(problems: Problems, seed: int, starts: int = 1) -> float:
    """Compare L with scipy's values for every given problem.

    Returns:
        The largest share of L that scipy's search finds.

    Raises:
        BrokenError: scipy contradicts L.
    """
    bounds = problems.lipschitz().numpy()
    rng = stream(seed, "lipschitz", problems.family, 0)
    again, found = np.empty(len(bounds)), np.empty(len(bounds))
    for k in range(len(bounds)):
        tasks = _tasks(problems, k)
        again[k] = _bound(problems.family, tasks)
        found[k] = _maximum(problems.family, tasks, rng, starts)
    # The search gives lower bounds: a share above 1 refutes L, one below 1 refutes nothing.
    difference, share = np.abs(again / bounds - 1).max(), found / bounds
    if difference > AGREE or share.max() > 1 + AGREE:
        raise BrokenError(
            f"Lipschitz constants of {problems.family}: scipy differs by {difference:.1e}"
            f" and exceeds them by {share.max() - 1:.1e}"
        )
    return float(share.max())


def _tasks(problems: Problems, k: int) -> list[Task]:
    width, tasks = int(problems.dimension[k]), []
    for i in range(problems.w.shape[1]):
        present = problems.w[k, i].numpy() != 0
        a = problems.A[k, i, :, :width].numpy()[present]
        b, w = (rows[k, i].numpy()[present] for rows in (problems.b, problems.w))
        tasks.append((a, b, w, float(problems.s[k, i])))
    return tasks


@cache
def _steepest(family: str) -> float:
    """Return max |F''|, by a bounded search around the best point of a grid."""
    grid, bend = np.linspace(-8, 8, 1601), SECOND_DERIVATIVES[family]
    best = float(grid[np.abs(bend(grid)).argmax()])
    found = scipy.optimize.minimize_scalar(
        lambda z: -float(np.abs(bend(np.array(z)))), bounds=(best - 0.02, best + 0.02),
        method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    return max(float(np.abs(bend(np.array(best)))), -float(found.fun))


def _largest(matrix: Array) -> float:
    # All eigenvalues, because LAPACK's subset driver fails on multiples of the identity.
    return float(np.abs(scipy.linalg.eigvalsh(matrix)).max())


def _bound(family: str, tasks: list[Task]) -> float:
    if family == "log_sum_exp":
        return sum(s * pdist(a).max() ** 2 / 4 for a, _, _, s in tasks)
    return _steepest(family) * _largest(
        sum((s * a.T @ (np.abs(w)[:, None] * a) for a, _, w, s in tasks), np.zeros(()))
    )


def _hessian(family: str, tasks: list[Task], theta: Array) -> Array:
    width = len(theta)
    total = np.zeros((width, width))
    for a, b, w, s in tasks:
        z = a @ theta + b
        if family == "log_sum_exp":
            p = softmax(z)
            middle = np.diag(p) - np.outer(p, p)
        else:
            middle = np.diag(w * SECOND_DERIVATIVES[family](z))
        total += s * a.T @ middle @ a
    return total


def _maximum(family: str, tasks: list[Task], rng: np.random.Generator, starts: int) -> float:
    width = tasks[0][0].shape[1]
    best = _largest(_hessian(family, tasks, np.zeros(width)))
    # The Hessian of a quadratic is the same everywhere.
    if family in ("least_squares", "quadratic", "indefinite"):
        return best
    for begin in [np.zeros(width), *rng.normal(size=(starts, width))]:
        result = scipy.optimize.minimize(
            lambda theta: -_largest(_hessian(family, tasks, theta)),
            begin,
            method="Nelder-Mead",
            options={"maxfev": 60},
        )
        best = max(best, -float(result.fun))
    return best
