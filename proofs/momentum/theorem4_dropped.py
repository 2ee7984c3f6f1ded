"""Theorem 4 without one hypothesis at a time, in exact rationals: the corrected method and the
repaired one fail alike.

| dropped                     | instance                                    | corrected          |
without momentum  |
|-----------------------------|---------------------------------------------|--------------------|-------------------|
| a common minimizer          | L_1 = (x - 1)^2 / 2, L_2 = (x + 1)^2, x = 0 | stands, cos = -1   |
the same          |
| strong convexity, both      | L_1 = L_2 = x^2 / 2 in the plane, mu_i = 0  | 1, -3, 5, -7, ...  |
1, -1, 1, ...     |
| smoothness                  | L_i' = (x + sign x) / 2, "L = 4"            | +-1/4 for ever     |
+-1/4 for ever    |
| the step, a little longer   | L_1 = L_2 = 25 x^2 / 4, mu = 1, L = 25      | 1, -3, 5, -7, ...  |
1, -1, 1, ...     |

Strong convexity of one task alone is idle: mu_k = w_1 mu_1 + w_2 0 > 0 carries the proof
(`one_task_convex` counts). The longer steps are (1 + sqrt(mu / L))^2 times the corrected alpha and
1 + mu / L times the repaired one: alpha L = 4 and 2. Constant weights, in the repair with momentum:
`theorem4_examples.py`, quadratic_cycle."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch

from proofs.exact import Vector
from proofs.momentum import theorem4_repair
from proofs.momentum.theorem4_examples import Gradients, agree, orbit, through_the_core
from proofs.sampling import stream
from proofs.tally import BrokenError

F = Fraction
ONE, HALF = (F(1),), (F(1, 2), F(1, 2))
STEPS = 8


def _sign(x: Fraction) -> Fraction:
    return x + (1 if x > 0 else -1)


def _apart(theta: Vector) -> list[Vector]:
    return [(theta[0] - 1,), (2 * theta[0] + 2,)]


def _equal(slope: Fraction) -> Gradients:
    return lambda theta: [tuple(slope * x for x in theta)] * 2


def _flat(theta: Vector) -> list[Vector]:
    return [(theta[0], 0 * theta[1])] * 2


INSTANCES: dict[str, dict[str, Any]] = {
    "common_minimizer": {
        "gradients": _apart, "mu": (F(1), F(2)), "L": (F(1), F(2)), "start": (F(0),), "previous": (F(0),),
        "longer": {"corrected": F(1), "gradient": F(1)}, "says": "minimizer of L: -1/3",
    },
    "strong_convexity": {
        "gradients": _flat, "mu": (F(0), F(0)), "L": (F(1), F(1)), "start": (F(1), F(0)), "previous": (F(1), F(0)),
        "longer": {"corrected": F(1), "gradient": F(1)}, "says": "minimizers: x = 0",
    },
    "smoothness": {
        "gradients": lambda theta: [(_sign(theta[0]) / 2,)] * 2, "mu": HALF, "L": (F(2), F(2)),
        "start": (F(1, 4),), "previous": (F(-1, 4),),
        "longer": {"corrected": F(1), "gradient": F(1)}, "says": "minimizer: 0, where L_i' jumps",
    },
    "step": {
        "gradients": _equal(F(25, 2)), "mu": HALF, "L": (F(25, 2), F(25, 2)), "start": ONE, "previous": ONE,
        "longer": {"corrected": F(36, 25), "gradient": F(26, 25)}, "says": "minimizer: 0",
    },
}  # fmt: skip


def instance(name: str) -> dict[str, Any]:
    """One dropped hypothesis, both methods: exact paths, confirmed through the core; whether they
    fail to converge.

    A path fails if it comes back to a state (theta_k, theta_{k-1}) other than the minimizer's, or
    if it never shrinks below its start and the last entries grow.
    """
    data, report = INSTANCES[name], {}
    common = (data["gradients"], data["mu"], data["L"], data["start"], data["previous"], STEPS)
    for rule, longer in data["longer"].items():
        path = orbit(*common, rule, longer)["path"]
        agree(
            f"{name}, {rule}",
            [tuple(map(float, v)) for v in path],
            through_the_core(*common, rule, longer),
        )
        states = [(a[0], b[0]) for a, b in zip(path, [data["previous"], *path], strict=False)]
        away = [abs(v[0] - (F(-1, 3) if name == "common_minimizer" else 0)) for v in path]
        comes_back = min(away) > 0 and len(set(states)) < len(states)
        grows = min(away) == away[0] and all(b > a for a, b in pairwise(away))
        report[rule] = {"path": [str(v[0]) for v in path], "fails": comes_back or grows}
    if not all(row["fails"] for row in report.values()):
        raise BrokenError(f"theorem4: without {name} something converges: {report}")
    return {**report, "says": data["says"]}


def one_task_convex(count: int, seed: int) -> dict[str, Any]:
    """mu_2 = 0 with mu_1 > 0: the repaired contraction still holds on every instance, so mu_2 > 0
    is idle.
    """
    rng = stream(seed, "theorem4/one task convex", "log_cosh", 0)
    pairs, theta, share = theorem4_repair.instances("log_cosh", "condition 10 to 100", count, rng)
    keep = torch.tensor([1.0, 0.0], dtype=torch.float64)
    pairs = replace(
        pairs,
        ridge=pairs.ridge * keep,
        mu=pairs.mu * keep,
        top=pairs.top - pairs.ridge * (1 - keep),
    )
    measured, bound, seen = theorem4_repair.contraction(pairs, theta, share)
    fails = measured - bound > 1e-12 * theta.norm(dim=-1)
    conflict = seen.gramian[:, 0, 1] < 0
    return {"instances": count, "in_conflict": int(conflict.sum()), "violations": int(fails.sum())}


def check(count: int, seed: int) -> dict[str, Any]:
    """Every hypothesis once."""
    rows: dict[str, Any] = {name: instance(name) for name in INSTANCES}
    return {**rows, "strong_convexity_of_one_task": one_task_convex(count, seed)}
