"""Theorem 3 (Yu et al. 2020, Appendix A.3): when exactly PCGrad's step is no worse than the plain
one.

Problem class: as in Theorem 2: L = L_1 + L_2, grad L Lipschitz with constant L > 0, theta^MT =
theta - t g,
               theta^PC = theta - t g^PC, tasks in conflict, c = cos phi_12, H(L; theta, theta^MT)
               >= l ||g||^2, l <= L.
Statement:     with N = (||g_1||^2 + ||g_2||^2) c^2 + 2 ||g_1|| ||g_2|| c,
               D = ||g||^2 l / 2 - (1 - c^2) ||g_1 - g_2||^2 L / 2 and tau = N / D,
               L(theta^PC) <= L(theta^MT) if and only if
                   case 1: -Phi <= c < 0, l <= xi L, 0 < t <= tau,   or   case 2: c <= -Phi, l >= xi
                   L, t >= tau.

What came out:
- For the proof's lower bound B(t) = t (D t - N) of L(theta^MT) - L(theta^PC) the cases are
  complete, up to a zero
  denominator: B(t) >= 0 iff one holds (`identities_cases.py`, `theorem3_cases.bound_trial`).
  Moreover tau <= 2 / L in case 1, tau >= 2 / L in case 2.
- **If** is false as printed, in both cases, as Definition 3 overrates a late curvature
  (`theorem3_examples.py`, `counterexample.py`), and holds with the weight 2 (1 - a) in H
  (`remainder`).
- **Only if** is false for the losses, quadratics included: B merely bounds their difference from
  below. Where the Hessian of L is L times the identity, B is the difference, and "if and only if"
  holds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs.algebra import identities_cases
from proofs.attack import Search, attack
from proofs.attack import violations as found_violations
from proofs.comparison import counterexample, theorem3_examples
from proofs.comparison.theorem3_cases import Cases, around, bound_trial, cases, short_step
from proofs.comparison.two_steps import curvature, fast_curvature, long_step, losses, opposed
from proofs.problems import CONVEX, ORDERS, Problems, aim, look, near_minimizers, rounding
from proofs.sampling import LARGE, draw, edges, power, sideways
from proofs.tally import BrokenError, Tally, Trial, overview_row, sample, total, verdict

SECTIONS = {"if_printed": "uniform", "if_repaired": "remainder"}
SEARCHED = {
    "if_printed": ("softplus", "huber"),
    "if_repaired": ("softplus", "huber"),
    "only_if": ("softplus", "logistic"),
}
GRID = torch.from_numpy(np.geomspace(0.1, 64, 15))  # t L, of the steps that "only if" is tried at


def hypotheses(problems: Problems, theta: Tensor, step: Tensor, form: str) -> Cases:
    """Which case holds, with l = H / ||g||^2, H in the given form, by quadrature."""
    point = look(problems, theta)
    return cases(point.gramian, problems.lipschitz(), curvature(problems, point, step, form), step)


def instances(
    family: str,
    count: int,
    rng: np.random.Generator,
    form: str,
    case: int,
    dimensions: tuple[int, int] = (2, 20),
) -> tuple[Problems, Tensor]:
    """Problems and steps in the given case by construction; t = tau in every second one.

    Case 2 as for Theorem 2, whose condition (c) is stronger. For case 1 c is drawn between -Phi and
    0, which takes two dimensions, and t up to tau, where t (xi L - l) ||g||^2 / 2 reaches -N."""
    if case == 2:
        problems = opposed(family, count, rng, dimensions)
        point = look(problems, problems.start())
        square = (point.g**2).sum(-1)
        return problems, long_step(
            problems, form, 2 * (1 - (point.g * point.g_pc).sum(-1) / square), rng
        )
    problems = draw(family, count, rng, dimensions)
    if dimensions[0] not in LARGE:  # every second one starts near its tasks' minimizers
        near = near_minimizers(
            problems, sideways(problems, rng), torch.from_numpy(power(rng, -1, 1, count))
        )
        chosen = torch.from_numpy(rng.random((count, 1, 1)) < 0.5)
        problems = replace(problems, b=torch.where(chosen, near.b, problems.b))
    _, ratio = edges(count, rng)
    share = np.where(rng.random(count) < 0.3, power(rng, -6, 0, count), rng.random(count))
    share = np.where(rng.random(count) < 0.2, 1 - power(rng, -6, -1, count), share)
    problems = aim(
        problems, -torch.from_numpy(share) * 2 / (ratio + 1 / ratio), ratio, sideways(problems, rng)
    )
    return problems, short_step(problems, form, rng)


def trial(
    problems: Problems, step: Tensor, form: str, *, only_if: bool = False, fast: bool = False
) -> Trial:
    """Put instances to either direction, l in the given form, `fast` by the losses. Margins are in
    units of t ||g||^2.

    If: a case holds; the margin is L(theta^MT) - L(theta^PC). Only if: L(theta^PC) <= L(theta^MT)
    beyond rounding; the margin is B(t), negative exactly where no case holds.
    """
    theta, point = problems.start(), look(problems, problems.start())
    constant = problems.lipschitz()
    ell = (fast_curvature if fast else curvature)(problems, point, step, form)
    here = cases(point.gramian, constant, ell, step)
    ends = (theta - step.unsqueeze(-1) * point.g, theta - step.unsqueeze(-1) * point.g_pc)
    measured, plain = losses(problems, point, step)
    better, noise = plain - measured, rounding(problems, theta, ends, step)
    unit, bound = step * (point.g**2).sum(-1), here.bound(step)
    details = {"dimension": problems.dimension, "cos": point.cos, "l_over_L": ell / constant}
    details |= {"t_times_L": step * constant, "tau_times_L": here.tau * constant}
    if only_if:
        return Trial(point.conflict & (better > noise), better / unit, bound, unit, noise, details)
    return Trial(here.first | here.second, bound / unit, better, unit, noise, details)


def one_direction(
    family: str, trials: int, seed: int, form: str, case: int, dimensions: tuple[int, int] = (2, 20)
) -> Tally:
    """Test "if" on fresh instances of one family in one case."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        return trial(*instances(family, count, rng, form, case, dimensions), form)

    return sample(f"theorem3/{form}/case {case}", family, trials, seed, put, dimensions[1])


def converse(family: str, trials: int, seed: int) -> Tally:
    """Test "only if" with the repaired H on random instances, at a random step for which PCGrad's
    is no worse.
    """

    def put(count: int, rng: np.random.Generator) -> Trial:
        problems = draw(family, count, rng, (2, 20))
        ratio, share = (
            torch.from_numpy(10 ** rng.uniform(-1, 1, count)),
            torch.from_numpy(rng.random(count)),
        )
        cos = torch.where(
            torch.from_numpy(rng.random(count)) < 0.7, -share * 2 / (ratio + 1 / ratio), -share
        )
        problems = aim(problems, cos, ratio, sideways(problems, rng))
        point, grid = look(problems, problems.start()), GRID[:, None] / problems.lipschitz()
        better = torch.stack([torch.sub(*losses(problems, point, t)) < 0 for t in grid])
        chosen = (better * torch.from_numpy(rng.random(grid.shape))).argmax(0)
        return trial(problems, grid.gather(0, chosen[None])[0], "remainder", only_if=True)

    return sample("theorem3/only if", family, trials, seed, put)


def equal_eigenvalues(trials: int, seed: int) -> Tally:
    """ "If and only if" where the Hessian of L is L times the identity: steps on both sides of tau,
    and at it.

    The margin is |L(theta^MT) - L(theta^PC)|, negative where its sign contradicts the cases.
    """

    def put(count: int, rng: np.random.Generator) -> Trial:
        problems = draw("quadratic", count, rng, (2, 20), conditioning=0.0)
        cos, ratio = edges(count, rng)
        problems = aim(problems, cos, ratio, sideways(problems, rng))
        constant, point = problems.lipschitz(), look(problems, problems.start())
        tau = cases(point.gramian, constant, constant, 1 / constant).tau
        step = around(tau, constant, rng)
        tried = trial(problems, step, "uniform")
        agrees = torch.where(tried.accepted, tried.margin, -tried.margin)
        return tried._replace(accepted=point.conflict, margin=agrees)

    return sample("theorem3/equal eigenvalues", "quadratic", trials, seed, put)


def large(seed: int, high: list[int]) -> dict[str, Any]:
    """The repaired "if" in high dimensions with prescribed spectra, both cases."""
    rows: dict[str, Any] = {}
    for dimension in high:
        count = LARGE[dimension]
        for case in (1, 2):
            tally = one_direction(
                "quadratic", count // 2 + 2, seed, "remainder", case, (dimension, dimension)
            )
            rows[f"quadratic {dimension}, case {case}"] = tally.report()
        if sum(row["accepted"] for row in list(rows.values())[-2:]) < count:
            raise BrokenError(f"theorem3: fewer than {count} instances in dimension {dimension}")
    return {**total(rows), "families": rows}


def searched(seed: int, rounds: int) -> dict[str, dict[str, Any]]:
    """What scipy's optimizers find; l by the losses, which is fast. `if_printed` is case 1, as t <=
    2 / L.

    The printed case 2 is searched by Theorem 2, whose conditions imply it.
    """
    return {
        name: {family: attack(_search(name, family), seed, rounds) for family in of}
        for name, of in SEARCHED.items()
    }


def _search(name: str, family: str) -> Search:
    def put(problems: Problems, u: Tensor) -> Trial:
        share = u if name == "if_printed" else 32 ** (2 * u - 1)
        step = 2 / problems.lipschitz() * share
        return trial(
            problems, step, SECTIONS.get(name, "remainder"), only_if=name == "only_if", fast=True
        )

    return Search(f"theorem3/{name}", put, family)


def direction(form: str, count: int, seed: int) -> dict[str, Any]:
    """Both cases of one form, half of the instances each."""
    parts = {}
    for case in (1, 2):
        dimensions = (3 - case, 20)  # in one dimension c = -1, below -Phi: case 2
        rows = {
            f: one_direction(f, max(1, count // 2), seed, form, case, dimensions).report()
            for f in CONVEX
        }
        parts[f"case_{case}"] = {**total(rows), "families": rows}
    return {**total(parts), **parts}


def bound(count: int, seed: int) -> dict[str, Any]:
    """The statement for the bound: sympy's identities, the table of cases, and random pairs through
    the core.
    """
    tally = sample("theorem3/bound", "pairs", count, seed, bound_trial).report()
    proved = [{"name": f.__name__, "says": f.__doc__, "latex": f()} for f in identities_cases.ALL]
    return {**total({"pairs": tally}), "families": {"pairs": tally}, "identities": proved,
            "case_table": identities_cases.case_table()}  # fmt: skip


def dropped(table: list[dict[str, Any]]) -> dict[str, Any]:
    """Exact instances without one hypothesis each, and the idle ones, by the signs that occur in
    the table of cases.
    """
    signs = {(row["N"], row["D"]) for row in table}
    return {
        **theorem3_examples.dropped(),
        "case 1: l <= xi L": {
            "idle": not any(n == "< 0" and d != "< 0" for n, d in signs),
            "why": "c > -Phi (N < 0) forces l < xi L (D < 0), and so does c = -Phi unless g = 0",
            "identity": identities_cases.denominator_sign(),
        },
        "case 1: c >= -Phi": {
            "idle": ("= 0", "> 0") not in signs,
            "why": "c < -Phi (N > 0) with l < xi L (D < 0) makes tau negative: no t is left",
            "identity": identities_cases.tau_numerator(),
        },
        "case 2: c <= -Phi": {
            "idle": ("< 0", "> 0") not in signs,
            "why": "l > xi L (D > 0) forces c < -Phi (N > 0)",
            "identity": identities_cases.denominator_sign(),
        },
        "case 1: c < 0": {
            "idle": _same_without_conflict(),
            "why": "without conflict both steps are one, so that if holds, and only if fails for every t in no case",
        },
    }


def _same_without_conflict() -> bool:
    """Whether the core leaves gradients with c >= 0 as they are."""
    c = torch.linspace(0, 1, 101, dtype=torch.float64)
    gramian = torch.stack([torch.ones_like(c), c, c, torch.ones_like(c)], -1).unflatten(-1, (2, 2))
    return bool((pcgrad.surgery_coefficients(gramian, ORDERS) == torch.eye(2, dtype=c.dtype)).all())


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Everything about Theorem 3: the bound, either direction sampled and searched, examples,
    dropped hypotheses.
    """
    count, seed = settings["instances"], settings["seed"]
    flat = {"quadratic": equal_eigenvalues(6 * count, seed).report()}
    sections = {
        "bound": bound(6 * count, seed),
        "equal_eigenvalues": {**total(flat), "families": flat},
    }
    for (
        name,
        part,
    ) in (
        sections.items()
    ):  # were both steps one, nothing would contradict, as nothing would be decided
        if part["undecided"] > part["accepted"] / 4:
            raise BrokenError(f"theorem3: rounding hides {part['undecided']} instances of {name}")
    sections |= {name: direction(form, count, seed) for name, form in SECTIONS.items()}
    rows = {family: converse(family, count, seed).report() for family in CONVEX}
    sections["only_if"] = {**total(rows), "families": rows}
    found, high, examples = (
        searched(seed, settings["search_rounds"]),
        large(seed, settings["high_dimensions"]),
        theorem3_examples.check(),
    )
    second = counterexample.refuting(counterexample.check(), "uniform")
    broken = {name: part["violations"] for name, part in sections.items()}
    for name, families in found.items():
        broken[name] += sum(map(found_violations, families.values()))
    broken["if_printed"] += examples["first_case"]["refutes"]["uniform"] + second
    broken["if_repaired"] += examples["first_case"]["refutes"]["remainder"] + high["violations"]
    broken["only_if"] += sum(
        row["refutes"] for name, row in examples.items() if name.startswith("only_if")
    )
    verdicts = {
        f"theorem3_{name}": verdict(number, repaired=name == "if_repaired")
        for name, number in broken.items()
    }
    verdicts["theorem3_if"] = verdicts.pop("theorem3_if_printed")
    return {
        "verdicts": verdicts,
        **sections,
        "large": high,
        "attack": found,
        "counterexamples": {**examples, "second_case": {"examples_of_theorem_2": second}},
        "dropped": dropped(sections["bound"]["case_table"]),
        "overview": _overview(verdicts, sections, examples),
    }


def _overview(
    verdicts: dict[str, str], sections: dict[str, Any], examples: dict[str, Any]
) -> list[dict[str, Any]]:
    first, quadratic = examples["first_case"], examples["only_if_long_step"]
    excess = float(first["mpmath"]["excess_loss_of_pcgrad"])
    late = f"exact, case 1, both convex, cos² φ = {first['cos_squared']}, t = {first['t']}: PCGrad {excess:.4f} worse"
    better = f"exact quadratic, h = ({', '.join(quadratic['h'])}), t = {quadratic['t']}: "
    better += f"L(PC) = {quadratic['loss_after_pcgrad']} < L(MT) = {quadratic['loss_after_plain_step']}, no case holds"
    rows = (
        ("theorem3_bound", "Theorem 3 for the proof's bound", "bound", ""),
        ("theorem3_if", "Theorem 3, if, as printed", "if_printed", late),
        ("theorem3_if_repaired", "Theorem 3, if, with weight 2(1 − a) in H", "if_repaired", ""),
        ("theorem3_only_if", "Theorem 3, only if", "only_if", better),
        ("theorem3_equal_eigenvalues", "Theorem 3, Hessian L·1", "equal_eigenvalues", ""),
    )
    return [
        overview_row(
            *(verdicts, name, statement, f"{sections[section]['accepted']:,} instances"),
            *(sections[section]["smallest_margin"], example),
        )
        for name, statement, section, example in rows
    ]
