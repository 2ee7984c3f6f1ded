"""scipy's optimizers against Theorem 4: the fastest growth on pairs of quadratics, and the repaired
contraction.

A pair in the plane and its start are five numbers in [-1, 1]: both condition numbers up to
10^DECADES, the scale of task 2, the angle between the eigenvectors, and that of the start (from
rest). `growth` iterates many of them at once by the formulas alone (no core) and measures log S per
update over the last of them. What an optimizer finds counts as a violation only once the core, in
`theorem4_paths.follow`, has seen it grow a million times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray

from proofs import attack
from proofs.attack import Search
from proofs.momentum import heavy_ball, theorem4_repair
from proofs.momentum.heavy_ball import Pairs
from proofs.momentum.theorem4_paths import follow
from proofs.sampling import stream
from proofs.tally import Trial

Array = NDArray[np.float64]
DECADES = {
    "condition to 100": 2.0,
    "condition to 1,000": 3.0,
    "condition to 10,000, always in conflict": 4.0,
}
STEPS, WINDOW, NOISE = (
    200,
    80,
    5e-3,
)  # NOISE of a rate measured over the last STEPS - WINDOW updates
CONFIRMED = 10_000  # updates of the confirmation
TINY = 1e-300  # equal eigenvalues arrive at once


def planes(x: Array, decades: float) -> dict[str, Any]:
    """The pairs of [N, 5]: eigenvalues, the entries a, b, c of task 2's Hessian (task 1's is
    diagonal), the start.
    """
    k_1, k_2 = (10 ** (decades * (x[:, i] + 1) / 2) for i in (0, 1))
    scale, angle, begin = 10 ** (2 * x[:, 2]), np.pi * x[:, 3] / 2, np.pi * x[:, 4] / 2
    cos, sin, top, mu = np.cos(angle), np.sin(angle), scale * k_2, scale
    entries = (top * cos**2 + mu * sin**2, (top - mu) * sin * cos, top * sin**2 + mu * cos**2)
    return {
        "top_1": k_1,
        "top": top,
        "mu": mu,
        "entries": entries,
        "start": (np.cos(begin), np.sin(begin)),
    }


def growth(x: Array, decades: float) -> tuple[Array, Array]:
    """(log S per update, share of updates in conflict) each [N]; a single pair in plain floats."""
    drawn = planes(x, decades)
    flat: Any = [drawn["top_1"], drawn["top"], drawn["mu"], *drawn["entries"], *drawn["start"]]
    rate, conflicts = _grow(*([float(v[0]) for v in flat] if len(x) == 1 else flat))
    return np.atleast_1d(rate), np.atleast_1d(conflicts)


def _grow(
    top_1: Any, top_2: Any, mu_2: Any, a: Any, b: Any, c: Any, x: Any, y: Any
) -> tuple[Any, Any]:
    """The iteration in components, for floats and arrays alike."""
    u, v, logs, conflicts, middle = x, y, 0 * x, 0 * x, 0 * x
    for k in range(STEPS):
        g, h, p, q = top_1 * x, y, a * x + b * y, b * x + c * y  # g_1 = (g, h), g_2 = (p, q)
        product = g * p + h * q
        product = (product - abs(product)) / 2
        w_1, w_2 = 1 - product / (g * g + h * h + TINY), 1 - product / (p * p + q * q + TINY)
        root_top, root_mu = (w_1 * top_1 + w_2 * top_2) ** 0.5, (w_1 + w_2 * mu_2) ** 0.5
        alpha, beta = (
            4 / (root_top + root_mu) ** 2,
            ((root_top - root_mu) / (root_top + root_mu)) ** 2,
        )
        x, u = x - alpha * (w_1 * g + w_2 * p) + beta * (x - u), x
        y, v = y - alpha * (w_1 * h + w_2 * q) + beta * (y - v), y
        conflicts = conflicts + (product < 0)
        if k % 10 == 9:  # the method is homogeneous: keep the numbers near 1
            size = (x * x + y * y + u * u + v * v) ** 0.5 + TINY
            x, y, u, v, logs = x / size, y / size, u / size, v / size, logs + np.log(size)
        middle = logs if k == WINDOW - 1 else middle
    return (logs - middle) / (STEPS - WINDOW), conflicts / STEPS


@dataclass
class GrowthSearch(Search):
    """`attack.Search` over pairs of quadratics in the plane."""

    decades: float = 3.0
    always: bool = False

    @property
    def size(self) -> int:
        return 5

    def decode(self, x: Array) -> Any:
        """The trial's arguments: x itself."""
        return np.clip(x, -1, 1), self

    @staticmethod
    def trial(x: Array, search: GrowthSearch) -> Trial:
        """Linear convergence asks for a negative rate: margin = -growth."""
        rate, conflicts = (torch.from_numpy(value) for value in growth(x, search.decades))
        slack = conflicts - 1 if search.always else torch.ones_like(rate)
        noise = torch.full_like(rate, NOISE)
        details = {"growth": rate, "conflict_share": conflicts}
        return Trial(slack >= 0, slack, -rate, torch.ones_like(rate), noise, details)


@dataclass
class StepSearch(Search):
    """`attack.Search` over one step of the repaired method in the plane, quadratic or not."""

    @property
    def size(self) -> int:
        return 8

    def decode(self, x: Array) -> Any:
        """Pairs by eigenvalues, scale and two mirrors; theta; the part of the longest step."""
        x = np.clip(x, -1, 1)
        spread = 10 ** (-1.5 * (x[:, :2] + 1))
        scale = np.stack([np.ones(len(x)), 10 ** (2 * x[:, 2])], 1)
        values = scale[..., None] * np.stack([np.ones_like(spread), spread], -1)
        angles = np.stack([np.zeros(len(x)), np.pi * x[:, 3]], 1)
        mirrors = np.stack([np.cos(angles), np.sin(angles)], -1)[:, :, None]
        ridge = np.zeros((len(x), 2)) if self.family == "quadratic" else values[..., 1]
        mu, top = (
            (values[..., 1], values[..., 0])
            if self.family == "quadratic"
            else (ridge, ridge + values[..., 0])
        )
        parts = (
            np.sqrt(values),
            mirrors,
            ridge,
            np.zeros((len(x), 2, 2)),
            mu,
            top,
            np.full(len(x), 2.0),
        )
        length = 10 ** (2 * x[:, 5])
        theta = length[:, None] * np.stack([np.cos(np.pi * x[:, 4]), np.sin(np.pi * x[:, 4])], -1)
        share = torch.from_numpy((x[:, 6] + 1) / 2).clamp(min=1e-3)
        return Pairs(self.family, *map(torch.from_numpy, parts)), (torch.from_numpy(theta), share)


def _step(pairs: Any, rest: Any) -> Trial:
    return theorem4_repair.trial(pairs, *rest)


def confirm(x: list[float], decades: float) -> dict[str, Any]:
    """What an optimizer found, again through the core and for longer: its label, and log S per
    update.
    """
    drawn = planes(np.clip([x], -1, 1), decades)
    start = torch.tensor([[float(value[0]) for value in drawn["start"]]], dtype=torch.float64)
    one, two = (
        (float(drawn["top_1"][0]), 0.0, 1.0),
        tuple(float(value[0]) for value in drawn["entries"]),
    )
    mu, top = (torch.tensor([first, float(drawn[name][0])], dtype=torch.float64)
               for first, name in ((1.0, "mu"), (one[0], "top")))  # fmt: skip
    went = follow(
        heavy_ball.plane(one, (two[0], two[1], two[2]), mu, top), start, CONFIRMED, "corrected"
    )
    return {
        "end": str(went["end"][0]),
        "updates": int(went["updates"][0]),
        "log_growth": float(went["tail"][0]),
        "conflict_share": float(went["conflicts"][0] / went["updates"][0]),
        "hessians": [[[a, b], [b, c]] for a, b, c in (one, two)],
        "start": start[0].tolist(),
    }


def wide(growing: GrowthSearch, seed: int, rounds: int) -> dict[str, Any]:
    """Differential evolution with a population of 300: five numbers leave time for it."""
    growing.best, growing.evaluations = {}, 0
    scipy.optimize.differential_evolution(
        lambda x: growing.score(x.T)[0], [(-1, 1)] * growing.size, maxiter=rounds, popsize=60, tol=0, polish=False,
        vectorized=True, updating="deferred", rng=stream(seed, "theorem4/wide", growing.family, 0),
    )  # fmt: skip
    return {
        "evaluations": growing.evaluations,
        "violates": False,
        "smallest_margin": None,
        **growing.best,
    }


def search(seed: int, rounds: int) -> dict[str, Any]:
    """All searches, those for growth confirmed."""
    report: dict[str, Any] = {}
    for family, decades in DECADES.items():
        trial: Any = GrowthSearch.trial
        growing = GrowthSearch(
            "theorem4", trial, family, decades=decades, always=family.endswith("conflict")
        )
        found = attack.attack(growing, seed, rounds)
        found["wide_evolution"] = wide(growing, seed, rounds)
        for row in found.values():
            row["violates"] = False
            if row.get("x"):
                row["through_the_core"] = confirm(row["x"], decades)
                row["smallest_margin"] = -row["through_the_core"]["log_growth"]
                row["violates"] = row["through_the_core"]["end"] in ("growing", "standing")
        report[family] = found
    report["repaired"] = {
        shape: attack.attack(StepSearch("theorem4/repaired", _step, shape), seed, rounds)
        for shape in ("quadratic", "log_cosh")
    }
    return report


def violations(report: dict[str, Any]) -> dict[str, int]:
    """Optimizers that found a violation of the corrected and of the repaired statement."""
    corrected = sum(attack.violations(report[family]) for family in DECADES)
    return {
        "corrected": corrected,
        "repaired": sum(map(attack.violations, report["repaired"].values())),
    }
