"""Proposition 1 (Yu et al. 2020, Appendix A.1): PCGrad on two tasks that need not be convex.

Problem class: L = L_1 + L_2 differentiable, grad L Lipschitz with constant L > 0.
Method:        theta+ = theta - t g^PC, g^PC by Algorithm 1.
Hypothesis:    t <= 1 / L.
Guarantee:     PCGrad reaches cos phi_12 = -1 or a stationary point, g = 0.

**False as stated**, in two ways:
- L need not be bounded below: L_1 = L_2 = x has cos = 1 and g = 2 everywhere
  (`descent_examples.unbounded`);
- bounded below, even attained and convex, the iterates may walk off to infinity (`escape.py`): no
  point is reached, g does not tend to 0, and cos -> -1 only in the limit.

**Repaired**: let inf L > -infinity, and m = (1 - cos^2 phi_12) ||g||^2 in conflict, ||g||^2
otherwise. Then
    step:    L(theta+) <= L(theta) - t m / 2                       (Theorem 1's, whose proof does
    not use convexity), K steps: min_{k < K} m_k <= 2 (L_0 - L_K) / (t K)              (their sum),
so that m_k -> 0: for every eps > 0 there comes a point where ||g|| <= eps, or 1 - cos^2 phi_12 <=
eps with cos < 0. Every cluster point is stationary, or has cos = -1, or a zero task gradient
approached with cos -> -1 (see `convergence.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs import attack, theorem1
from proofs.descent import escape
from proofs.descent.convergence import trajectories
from proofs.descent.descent_examples import general_limit
from proofs.descent.paths import guaranteed
from proofs.problems import NONCONVEX, Problems, look, rounding
from proofs.sampling import sideways, stream
from proofs.tally import BrokenError, Tally, Trial, overview_row, sample, total, verdict

BOUNDED = (
    "cauchy",
    "welsch",
    "wave",
)  # whose trajectories can end; those of `sigmoid` go to infinity
IN_HIGH_DIMENSION = ("cauchy", "wave")
ATTACKED = ("cauchy", "wave", "indefinite")
STEPS = 10  # K
WALK = 1000  # updates of the escape; Theorem 1 has the long one

hypotheses, descent, instances = theorem1.hypotheses, theorem1.descent, theorem1.instances


def one_step(family: str, trials: int, seed: int, *, conflict: bool = True) -> Tally:
    """Test the descent step on fresh instances of one family."""
    return theorem1.one_step(family, trials, seed, conflict=conflict, statement="proposition1")


def least(
    problems: Problems, theta: Tensor, step: Tensor, updates: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(measured, bound) of the K-step form, min_{k < K} m_k and 2 (L_0 - L_K) / (t K), and the
    rounding error, [N].
    """
    first, smallest, noise = (
        problems.loss(theta),
        torch.full_like(step, torch.inf),
        torch.zeros_like(step),
    )
    for _ in range(updates):
        point = look(problems, theta)
        smallest = torch.minimum(smallest, guaranteed(point))
        after = theta - step.unsqueeze(-1) * point.g_pc
        noise += rounding(problems, theta, (after,), step)  # the K inequalities are added
        theta = after
    scale = 2 / (step * updates)
    return smallest, scale * (first - problems.loss(theta)), scale * noise


def several_steps(problems: Problems, step: Tensor, updates: int = STEPS) -> Trial:
    """Put instances to the K-step form. The margin's unit is m_0."""
    theta = problems.start()
    point, (measured, bound, noise) = look(problems, theta), least(problems, theta, step, updates)
    return Trial(
        accepted=hypotheses(problems, theta, step),
        slack=1 - step * problems.lipschitz(),
        margin=bound - measured,
        unit=guaranteed(point),
        noise=noise,
        details={
            "dimension": problems.dimension,
            "cos": point.cos,
            "t_times_L": step * problems.lipschitz(),
        },
    )


def many_steps(family: str, trials: int, seed: int) -> Tally:
    """Test the K-step form on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        return several_steps(*instances(family, count, rng))

    return sample("proposition1/steps", family, trials, seed, put)


def concave_share(family: str, count: int, seed: int) -> float:
    """On what part of the instances the Hessian of L has a negative eigenvalue, at the start or
    three points around.
    """
    rng = stream(seed, "proposition1/concave", family, 0)
    problems, _ = instances(family, count, rng)
    places = [problems.start(), *(sideways(problems, rng) for _ in range(3))]
    lowest = torch.stack(
        [torch.linalg.eigvalsh(problems.hessian(theta))[:, 0] for theta in places]
    ).amin(0)
    return float((lowest < -1e-6 * problems.lipschitz()).double().mean())


def convergence(settings: dict[str, Any]) -> dict[str, Any]:
    """Trajectories of the families that are bounded below to their ends; twice as many per family
    as for Theorem 1.
    """
    updates, count, seed = settings["updates"], 2 * settings["trajectories"], settings["seed"]
    paths = {
        family: trajectories(
            family, count, updates, seed, stationary=True, statement="proposition1"
        )
        for family in BOUNDED
    }
    names = (
        "trajectories",
        "ended_at_start",
        "stationary",
        "opposite",
        "product",
        "stalled",
        "unfinished",
        "violations",
    )
    sums = {name: sum(row[name] for row in paths.values()) for name in names}
    return {**sums, "updates_allowed": updates, "families": paths}


def unattained(settings: dict[str, Any]) -> dict[str, Any]:
    """The same for `sigmoid`, whose infimum lies at infinity: few end, and the K-step form is all
    that is left.
    """
    count = max(1, settings["trajectories"] // 4)
    return trajectories(
        "sigmoid",
        count,
        settings["updates"],
        settings["seed"],
        stationary=True,
        statement="proposition1",
    )


def overview(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the overview table."""
    verdicts, limit, steps = report["verdicts"], report["convergence"], report["several_steps"]
    ended = f"{limit['trajectories'] - limit['unfinished']:,} of {limit['trajectories']:,} trajectories ended"
    line = report["dropped"]["bounded below (not among the printed hypotheses)"]
    _, where = theorem1.walked(report)
    example = f"L₁ = L₂ = x: ∇L = {line['gradient']}, cos φ = {line['cos']} everywhere; bounded below: {where}"
    return [
        overview_row(
            verdicts,
            "proposition1",
            "Proposition 1 as printed",
            "exact counterexample",
            None,
            example,
        ),
        overview_row(
            verdicts,
            "proposition1_descent",
            "Proposition 1, descent step",
            *theorem1.stepped(report),
        ),
        overview_row(
            verdicts,
            "proposition1_repaired",
            "Proposition 1 with L bounded below: (1 − cos²φ)‖g‖² → 0 in conflict, ‖g‖ → 0 otherwise",
            f"proof; {steps['accepted']:,} instances of {STEPS} steps; {ended}",
            steps["smallest_margin"],
        ),
    ]


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Proposition 1: the step, K steps, trajectories to their ends, L by scipy, dropped hypotheses."""
    count, seed = settings["instances"], settings["seed"]
    descents = {family: one_step(family, count, seed).report() for family in NONCONVEX}
    plain = {
        family: one_step(family, max(1, count // 4), seed, conflict=False).report()
        for family in NONCONVEX
    }
    steps = {family: many_steps(family, max(1, count // 10), seed).report() for family in NONCONVEX}
    report: dict[str, Any] = {
        "descent": {**total(descents), "families": descents},
        "descent_without_conflict": {**total(plain), "families": plain},
        "several_steps": {**total(steps), "steps": STEPS, "families": steps},
        "large": theorem1.large(
            IN_HIGH_DIMENSION, seed, settings["high_dimensions"], "proposition1"
        ),
        "attack": theorem1.attacks(ATTACKED, seed, settings["search_rounds"], "proposition1"),
        "convergence": convergence(settings),
        "unattained": unattained(settings),
        "lipschitz": theorem1.lipschitz(NONCONVEX, settings["lipschitz_instances"], seed),
        "concave_share": {
            family: concave_share(family, min(count, 200), seed) for family in NONCONVEX
        },
        "counterexamples": escape.check(WALK),
    }
    if min(report["concave_share"].values()) < 0.5:
        raise BrokenError(
            f"proposition1: too few instances have negative curvature, {report['concave_share']}"
        )
    report["dropped"] = general_limit(report["counterexamples"])
    line = report["dropped"]["bounded below (not among the printed hypotheses)"]
    report["counterexamples"]["unbounded"] = line
    refuted = line["claim_fails"] + report["counterexamples"]["attained"]["refutes"]
    found = sum(attack.violations(rows) for rows in report["attack"].values())
    misses = found + sum(
        report[key]["violations"] for key in ("descent", "descent_without_conflict", "large")
    )
    contradicted = misses + sum(
        report[key]["violations"] for key in ("several_steps", "convergence", "unattained")
    )
    report["verdicts"] = {
        "proposition1_descent": verdict(misses),
        "proposition1": verdict(contradicted + refuted),
        "proposition1_repaired": verdict(contradicted, repaired=True),
    }
    return {**report, "overview": overview(report)}
