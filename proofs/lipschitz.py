"""An independent opinion on L: numpy and scipy alone, one problem at a time, without `problems.py`'s formulas.

1. `scipy.linalg.eigvalsh` (log-sum-exp: `scipy.spatial.distance.pdist`) recomputes the bound; they must agree.
2. `scipy.optimize` (Nelder-Mead from the start and from a random point) maximizes lambda_max of the Hessian over theta;
   what it finds is a lower bound of the true Lipschitz constant and must not exceed L.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.special import expit, softmax

from proofs.problems import CONSTANT_HESSIAN, Problems
from proofs.sampling import stream
from proofs.tally import BrokenError

Array = NDArray[np.float64]
AGREE = 1e-9  # relative
Task = tuple[Array, Array, Array, float]  # A, b, w, s without absent rows and columns


def compare(problems: Problems, seed: int, starts: int = 1) -> dict[str, Any]:
    """Compare L for every problem given; BrokenError if scipy contradicts it."""
    bounds = problems.lipschitz().numpy()
    rng = stream(seed, "lipschitz", problems.family, 0)
    again, found = np.empty(len(bounds)), np.empty(len(bounds))
    for k in range(len(bounds)):
        tasks = _tasks(problems, k)
        again[k] = _bound(problems.family, tasks)
        found[k] = _maximum(problems.family, tasks, rng, starts)
    difference, share = np.abs(again / bounds - 1).max(), found / bounds
    if difference > AGREE or share.max() > 1 + AGREE:
        raise BrokenError(
            f"Lipschitz constants of {problems.family}: scipy differs by {difference:.1e}"
            f" and exceeds them by {share.max() - 1:.1e}"
        )
    return {
        "instances": len(bounds),
        "largest_relative_difference": float(difference),
        "largest_found_over_L": float(share.max()),
        "median_found_over_L": float(np.median(share)),
    }


def _tasks(problems: Problems, k: int) -> list[Task]:
    width, tasks = int(problems.dimension[k]), []
    for i in range(2):
        present = problems.w[k, i].numpy() > 0
        a = problems.A[k, i, :, :width].numpy()[present]
        tasks.append((a, problems.b[k, i].numpy()[present], problems.w[k, i].numpy()[present], float(problems.s[k, i])))
    return tasks


def _largest(matrix: Array) -> float:
    return float(scipy.linalg.eigvalsh(matrix)[-1])  # all of them: the subset driver fails on multiples of the identity


def _bound(family: str, tasks: list[Task]) -> float:
    if family == "log_sum_exp":
        return sum(s * pdist(a).max() ** 2 / 4 for a, _, _, s in tasks)
    quarter = 0.25 if family in ("logistic", "softplus") else 1.0
    return _largest(sum((s * quarter * a.T @ (w[:, None] * a) for a, _, w, s in tasks), np.zeros(())))


def _hessian(family: str, tasks: list[Task], theta: Array) -> Array:
    width = len(theta)
    total = np.zeros((width, width))
    for a, b, w, s in tasks:
        z = a @ theta + b
        if family == "log_sum_exp":
            p = softmax(z)
            middle = np.diag(p) - np.outer(p, p)
        elif family == "huber":
            middle = np.diag(w * (np.abs(z) <= 1))
        else:
            middle = np.diag(w if family in CONSTANT_HESSIAN else w * expit(z) * (1 - expit(z)))
        total += s * a.T @ middle @ a
    return total


def _maximum(family: str, tasks: list[Task], rng: np.random.Generator, starts: int) -> float:
    width = tasks[0][0].shape[1]
    best = _largest(_hessian(family, tasks, np.zeros(width)))
    if family in CONSTANT_HESSIAN:
        return best
    for begin in [np.zeros(width), *rng.normal(size=(starts, width))]:
        result = scipy.optimize.minimize(
            lambda theta: -_largest(_hessian(family, tasks, theta)), begin, method="Nelder-Mead", options={"maxfev": 60}
        )
        best = max(best, -float(result.fun))
    return best
