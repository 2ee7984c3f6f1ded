"""Which hypotheses of Theorem 2 work, one dropped at a time, and how much its conditions ask for.

Exact instances in the plane (`quadratics.py`) on which the guarantee fails, and shares of sampled
quadratics beside them. Two hypotheses are idle: (a), and l <= L, which cannot be broken, as H <= L
||g||^2."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs import identities
from proofs.comparison.quadratics import Quadratic
from proofs.comparison.two_steps import curvature_by_losses, losses, opposed, opposing
from proofs.problems import CONVEX, Problems, aim, look, near_minimizers, rounding
from proofs.sampling import chunks, draw, edges, power, sideways, stream
from proofs.tally import BrokenError

SHORTER = (1.0, 0.9, 0.75, 0.5, 0.25)  # parts of (c)'s step, for dropping (c)
STEPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # t L, for how conservative the conditions are
HALF = Fraction(1, 2)
EXACT = {  # hypothesis -> an instance that breaks it alone
    "b": Quadratic((-2, 1), (1, -1), (1, 1), 1),
    "c": Quadratic((-3, 1), (1, 0), (1, 1), 1),
    "curvature": Quadratic((-3, 1), (1, 0), (HALF, 1), 4, ell=1),
    "lipschitz": Quadratic((-4, 1), (1, -1), (1, 4), 15, constant=1),
}
WORDS = {
    "b": "l >= xi L; where it fails, 2 / (l - xi L) is negative and every step is above it",
    "c": "t >= 2 / (l - xi L)",
    "curvature": "H >= l ||g||^2: l = L claimed, above the true curvature",
    "lipschitz": "grad L is L-Lipschitz on the way to theta^PC: L claimed from the curvature along g alone",
}


def exact_instances() -> dict[str, Any]:
    """Every instance of EXACT; BrokenError where it keeps the guarantee, or breaks another
    hypothesis than its own.
    """
    report = {}
    for name, instance in EXACT.items():
        row = instance.report()
        broken = [
            key
            for key in ("conflict", "l_at_most_L", "curvature", "lipschitz", "a", "b", "c")
            if not row[key]
        ]
        if (
            set(broken) - {name} - ({"c"} if name == "b" else set())
            or name not in broken
            or not row["pcgrad_is_worse"]
        ):
            raise BrokenError(f"theorem2 without {name}: the exact instance breaks {broken}: {row}")
        report[name] = {"hypothesis": WORDS[name], "idle": False, **row}
    return report


def idle(count: int, seed: int) -> dict[str, Any]:
    """(a) and l <= L: what a search for an instance that breaks them alone would have to find, and
    how often it did.
    """
    rng = stream(seed, "theorem2/idle", "pairs", 0)
    without_a = tried = 0
    for size in chunks(count):
        cos, ratio = edges(size, rng)
        near = opposing(
            ratio, torch.from_numpy(1 - power(rng, -8, 0, size))
        )  # xi just below 1, where (a) is tightest
        cos = torch.where(torch.arange(size) % 2 == 0, cos, near)
        gram = torch.stack(
            [ratio**2, ratio * cos, ratio * cos, torch.ones_like(cos)], -1
        ).unflatten(-1, (2, 2))
        allowed = pcgrad.curvature_bounding_measure(gram)[:, 0, 1] <= 1  # (b) with l <= L
        tried += int(allowed.sum())
        without_a += int((allowed & ~pcgrad.condition_a(gram)[:, 0, 1]).sum())
    return {
        "a": {
            "hypothesis": "cos phi <= -Phi", "idle": without_a == 0, "identity": identities.b_implies_a(),
            "instances": tried, "xi_at_most_1_without_a": without_a,
        },
        "l_at_most_L": {
            "hypothesis": "l <= L: with l > L no instance has H >= l ||g||^2, as g' grad^2 L g <= L ||g||^2",
            **_largest_curvature(min(count, 500), seed),
        },
    }  # fmt: skip


def _largest_curvature(count: int, seed: int) -> dict[str, Any]:
    """The largest H / (L ||g||^2) over both weightings and all families: not above 1 beyond
    rounding.
    """
    largest, tried = 0.0, 0
    for family in CONVEX:
        problems = opposed(family, count, stream(seed, "theorem2/l at most L", family, 0))
        point, constant = look(problems, problems.start()), problems.lipschitz()
        for form in ("uniform", "remainder"):
            share = curvature_by_losses(problems, point, 4 / constant, form) / constant
            largest, tried = max(largest, float(share.max())), tried + count
    return {"idle": largest <= 1 + 1e-8, "instances": tried, "largest_l_over_L": largest}


def without_c(trials: int, seed: int) -> list[dict[str, float]]:
    """Drop (c): how often the guarantee fails at a part of the shortest step that (c) allows, on
    quadratics.
    """
    problems = opposed("quadratic", trials, stream(seed, "theorem2/without c", "quadratic", 0))
    point, constant = look(problems, problems.start()), problems.lipschitz()
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    ell = curvature_by_losses(problems, point, 1 / constant, "uniform")
    shortest = 2 / (ell - xi * constant)
    square, inner = (point.g**2).sum(-1), (point.g * point.g_pc).sum(-1)
    needed = (
        2 * (square - inner) / (square * (ell - xi * constant))
    ) / shortest  # identities.tight_step
    rows = []
    for part in SHORTER:
        fails = _worse(problems, part * shortest)
        shares = {
            "guarantee_fails": fails.double().mean().item(),
            "bound_asks_for_more": (needed > part * (1 + 1e-9)).double().mean().item(),
        }
        rows.append({"part_of_step": part, "instances": len(problems), **shares})
    return rows


def without_b(trials: int, seed: int) -> list[dict[str, float]]:
    """Drop (b), keep (a): quadratics with -1 < cos <= -Phi and xi L > l, where (c) has no meaning.

    Counted at t = 2 / L, 8 / L and 32 / L: once xi L > l, PCGrad's step is the one that the bound
    lets overshoot."""
    rng = stream(seed, "theorem2/without b", "quadratic", 0)
    problems = draw("quadratic", trials, rng)
    problems = near_minimizers(
        problems, sideways(problems, rng), torch.ones(trials, dtype=torch.float64)
    )
    ratio, above = (
        torch.from_numpy(10 ** rng.uniform(0.1, 2, trials)),
        torch.from_numpy(1 + rng.random(trials)),
    )
    problems = aim(problems, opposing(ratio, above), ratio, sideways(problems, rng))
    point, constant = look(problems, problems.start()), problems.lipschitz()
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    ell = curvature_by_losses(problems, point, 1 / constant, "uniform")
    which = pcgrad.condition_a(point.gramian)[:, 0, 1] & (ell < xi * constant) & point.conflict
    rows: list[dict[str, float]] = []
    for factor in (2.0, 8.0, 32.0):
        share = _worse(problems, factor / constant)[which].double().mean().item()
        rows.append({"t_times_L": factor, "instances": int(which.sum()), "guarantee_fails": share})
    return rows


def _worse(problems: Problems, step: Tensor) -> Tensor:
    """L(theta^PC) > L(theta^MT) beyond rounding, bool [N]."""
    theta, point = problems.start(), look(problems, problems.start())
    ends = tuple(theta - step.unsqueeze(-1) * d for d in (point.g, point.g_pc))
    surgery, plain = losses(problems, point, step)
    return surgery - plain > rounding(problems, theta, ends, step)


def conservative(count: int, seed: int) -> dict[str, Any]:
    """How much the conditions ask for: shares of generic instances in conflict, not built to
    satisfy them.

    At every t L of STEPS: PCGrad's step is no worse (the exact condition, up to rounding); (a)-(c)
    hold as printed, and with the remainder's H; t >= t* of `identities.tight_step` holds, the
    remainder's l again. `printed_but_worse` are violations of the printed theorem.
    """
    families = {family: _conservative(family, count, seed) for family in CONVEX}
    keys = [key for key in families[CONVEX[0]][0] if key not in ("t_times_L", "instances")]
    rows = []
    for at_step in zip(*families.values(), strict=True):
        means = {key: float(np.mean([row[key] for row in at_step])) for key in keys}
        rows.append(
            {
                "t_times_L": at_step[0]["t_times_L"],
                "instances": sum(r["instances"] for r in at_step),
                **means,
            }
        )
    return {"rows": rows, "families": families}


def _conservative(family: str, count: int, seed: int) -> list[dict[str, float]]:
    sums = np.zeros((len(STEPS), 5))
    for chunk, size in enumerate(chunks(count)):
        rng = stream(seed, "theorem2/conservative", family, chunk)
        problems = draw(family, size, rng, (2, 20))
        cos, ratio = (
            torch.from_numpy(-rng.random(size)),
            torch.from_numpy(10 ** rng.uniform(-1, 1, size)),
        )
        problems = aim(problems, cos, ratio, sideways(problems, rng))
        sums += np.array([[int(x.sum()) for x in _which(problems, factor)] for factor in STEPS])
    keys = ("pcgrad_no_worse", "printed", "repaired", "tight", "printed_but_worse")
    shares = (dict(zip(keys, (row / count).tolist(), strict=True)) for row in sums)
    return [
        {"t_times_L": t, "instances": count, **row} for t, row in zip(STEPS, shares, strict=True)
    ]


def _which(problems: Problems, factor: float) -> tuple[Tensor, ...]:
    """Instances for which each of `conservative`'s conditions holds at t = factor / L, bool [N]
    each.
    """
    point, constant = look(problems, problems.start()), problems.lipschitz()
    step, a = factor / constant, pcgrad.condition_a(point.gramian)[:, 0, 1]
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    printed, repaired = (
        curvature_by_losses(problems, point, step, form) - xi * constant
        for form in ("uniform", "remainder")
    )
    square, inner, worse = (
        (point.g**2).sum(-1),
        (point.g * point.g_pc).sum(-1),
        _worse(problems, step),
    )
    by_definition_3 = a & (printed > 0) & (step * printed >= 2)
    tight = (repaired > 0) & (step * square * repaired >= 2 * (square - inner))
    return (
        ~worse,
        by_definition_3,
        a & (repaired > 0) & (step * repaired >= 2),
        tight,
        by_definition_3 & worse,
    )


def check(count: int, seed: int) -> dict[str, Any]:
    """The sections `dropped`, `without_b`, `without_c` and `conservative` of Theorem 2's report."""
    return {
        "dropped": {**exact_instances(), **idle(count, seed)},
        "without_b": without_b(count, seed),
        "without_c": without_c(count, seed),
        "conservative": conservative(max(1, count // 2), seed),
    }
