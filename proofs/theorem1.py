"""Theorem 1 (Yu et al. 2020, Section 2.5, Appendix A.1): PCGrad on two convex tasks.

Problem class: L = L_1 + L_2 with L_1, L_2 convex and differentiable, grad L Lipschitz with constant
L > 0.
Method:        theta+ = theta - t g^PC, g^PC by Algorithm 1.
Hypothesis:    t <= 1 / L.
Guarantee:     PCGrad converges to a location with cos phi_12 = -1, or to the optimal value. The
step that carries it:
                   in conflict      L(theta+) <= L(theta) - t (1 - cos^2 phi_12) ||g||^2 / 2,
                   without conflict L(theta+) <= L(theta) - t ||g||^2 / 2.

**The step holds** and needs no convexity. It is attained: where the Hessian is L times the identity
and t = 1 / L, both sides agree. 1 / L is the largest step that works for every pair
(`descent_examples.sharp_step`).

**The limit as printed is false**: there need not be a location. On two convex tasks whose sum
attains its minimum the iterates walk off to infinity, where cos -> -1, and the loss stays away from
the optimum (`escape.py`). The printed proof concludes from "the loss decreases strictly" that the
iterates converge.

**Repaired**: let {theta: L(theta) <= L(theta_0)} be bounded as well. Then there are cluster points,
and either the loss tends to the optimal value, or every cluster point has g_1 = -kappa g_2 with
kappa > 0 (cos phi_12 = -1), or a zero task gradient approached with cos -> -1 (`convergence.py`,
which also says what makes it a single point). The set where cos = -1 are the Pareto critical
points: PCGrad may stop far from the optimum (`gap_at_opposite`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs import attack
from proofs.descent import escape
from proofs.descent.convergence import longer_steps, trajectories
from proofs.descent.descent_examples import convex_limit, rising_step, saddle
from proofs.lipschitz import compare
from proofs.problems import CONVEX, Problems, aim, look, rounding
from proofs.sampling import LARGE, draw, edges, sideways, stream
from proofs.tally import BrokenError, Tally, Trial, overview_row, sample, total, verdict

STEPS = (0.5, 1.0, 1.1, 1.5, 2.0, 2.5, 3.0)  # t L, for what happens when t <= 1 / L is dropped
IN_HIGH_DIMENSION = ("quadratic", "softplus")
ATTACKED = ("quadratic", "softplus", "log_sum_exp")
LONGER = ("quadratic", "logistic")
WALK = 10_000  # updates of the escape
SHORTEST = 1e-3  # t L of a search


def hypotheses(problems: Problems, theta: Tensor, step: Tensor) -> Tensor:
    """Whether an instance is in the theorem's class, bool [N]: t <= 1 / L, both gradients nonzero.

    Convexity and the Lipschitz constant hold by construction of the families.
    """
    return (
        (step * problems.lipschitz() <= 1 + 1e-15)
        & (step > 0)
        & look(problems, theta).cos.isfinite()
    )


def descent(problems: Problems, theta: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """(measured, bound): L(theta+) and the right-hand side above, each [N]."""
    point = look(problems, theta)
    kept = torch.where(point.conflict, (1 - point.cos) * (1 + point.cos), 1.0)
    bound = problems.loss(theta) - step * kept * (point.g**2).sum(-1) / 2
    return problems.loss(theta - step.unsqueeze(-1) * point.g_pc), bound


def instances(
    family: str,
    count: int,
    rng: np.random.Generator,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
) -> tuple[Problems, Tensor]:
    """Problems in conflict (or not) at the start by construction; t is 1 / L in every second, below
    in the others.
    """
    problems = draw(family, count, rng, dimensions)
    cos, ratio = edges(count, rng)
    problems = aim(problems, cos if conflict else -cos, ratio, sideways(problems, rng))
    share = np.where(np.arange(count) % 2 == 0, 1.0, 1 - rng.random(count))
    return problems, torch.from_numpy(share) / problems.lipschitz()


def trial(problems: Problems, step: Tensor, *, conflict: bool = True) -> Trial:
    """Put instances to the descent step; one on the other side of conflict is not accepted."""
    theta = problems.start()
    point = look(problems, theta)
    measured, bound = descent(problems, theta, step)
    after = theta - step.unsqueeze(-1) * point.g_pc
    return Trial(
        accepted=hypotheses(problems, theta, step) & (point.conflict == conflict),
        slack=-point.cos if conflict else point.cos,
        margin=bound - measured,
        unit=problems.loss(theta) - bound,  # the guaranteed decrease
        noise=rounding(problems, theta, (after,), step),
        details={
            "dimension": problems.dimension,
            "cos": point.cos,
            "t_times_L": step * problems.lipschitz(),
        },
    )


def one_step(
    family: str,
    trials: int,
    seed: int,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
    statement: str = "theorem1",
) -> Tally:
    """Test the descent step on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        return trial(
            *instances(family, count, rng, conflict=conflict, dimensions=dimensions),
            conflict=conflict,
        )

    purpose = statement if conflict else f"{statement}/no conflict"
    return sample(purpose, family, trials, seed, put, dimensions[1])


def large(
    families: tuple[str, ...], seed: int, high: list[int], statement: str = "theorem1"
) -> dict[str, Any]:
    """The descent step at high dimensions, with prescribed spectra; the families share the
    instances.
    """
    reports = {}
    for dimension in high:
        for family in families:
            share = -(-LARGE[dimension] // len(families))
            tally = one_step(
                family,
                share,
                seed,
                dimensions=(dimension, dimension),
                statement=f"{statement}/large",
            )
            reports[f"{family} {dimension}"] = tally.report()
    return {**total(reports), "families": reports}


def searched(problems: Problems, u: Tensor) -> Trial:
    """What a search puts to the step: t = u / L. A family with indefinite Hessians gets one row of
    negative weight.
    """
    if problems.family == "indefinite":
        signs = torch.tensor([1.0, -1.0], dtype=u.dtype).expand_as(problems.w)
        problems = Problems(
            problems.family, problems.A, problems.b, signs, problems.s, problems.dimension
        )
    return trial(problems, u.clamp(min=SHORTEST) / problems.lipschitz())


def attacks(
    families: tuple[str, ...], seed: int, rounds: int, statement: str = "theorem1"
) -> dict[str, Any]:
    """What scipy's optimizers find against the descent step, per family."""
    return {
        family: attack.attack(attack.Search(statement, searched, family), seed, rounds)
        for family in families
    }


def without_step_bound(trials: int, seed: int) -> list[dict[str, float]]:
    """Drop t <= 1 / L: how often the descent step fails and the loss rises, on quadratics with
    equal eigenvalues.

    There L(theta+) - L(theta) = (1 - cos^2) t (L t ||g_1 - g_2||^2 / 2 - ||g_1||^2 - ||g_2||^2):
    the bound fails for every t > 1 / L, and the loss rises from t = 2 / (L (1 + Phi |cos|)) on,
    which is below 2 / L."""
    problems, step = instances("quadratic", trials, stream(seed, "theorem1/steps", "quadratic", 0))
    eigenvalues = torch.linalg.eigvalsh(problems.hessian(problems.start()))
    width, largest = eigenvalues.shape[-1], eigenvalues[:, -1:]
    inside = (
        torch.arange(width) >= width - problems.dimension[:, None]
    )  # the others belong to columns that fill up
    flat = ((eigenvalues - largest).abs() * inside <= 1e-9 * largest).all(-1) & (
        problems.dimension > 1
    )
    problems = problems[flat]
    theta, constant, point = (
        problems.start(),
        problems.lipschitz(),
        look(problems, problems.start()),
    )
    rows = []
    for factor in STEPS:
        step = factor / constant
        measured, bound = descent(problems, theta, step)
        noise = rounding(problems, theta, (theta - step.unsqueeze(-1) * point.g_pc,), step)
        fails, rises = measured - bound > noise, measured - problems.loss(theta) > noise
        shares = {
            "bound_fails": fails.double().mean().item(),
            "loss_rises": rises.double().mean().item(),
        }
        rows.append({"t_times_L": factor, "instances": len(problems), **shares})
    return rows


def lipschitz(families: tuple[str, ...], count: int, seed: int) -> dict[str, Any]:
    """scipy's opinion on the families' constants."""
    rows = {}
    for family in families:
        problems, _ = instances(family, count, stream(seed, "lipschitz", family, 0))
        rows[family] = compare(problems, seed)
    return rows


def convergence(settings: dict[str, Any]) -> dict[str, Any]:
    """Trajectories of every convex family to their ends."""
    updates, seed = settings["updates"], settings["seed"]
    paths = {
        family: trajectories(family, settings["trajectories"], updates, seed) for family in CONVEX
    }
    for family, row in paths.items():
        if row["conflict_share"] < 0.3:
            raise BrokenError(
                f"theorem1: only {row['conflict_share']:.0%} of {family}'s updates are in conflict"
            )
    names = (
        "trajectories",
        "ended_at_start",
        "optimum",
        "opposite",
        "diverged",
        "stalled",
        "unfinished",
        "violations",
    )
    sums = {name: sum(row[name] for row in paths.values()) for name in names}
    return {**sums, "updates_allowed": updates, "families": paths}


def walked(report: dict[str, Any]) -> tuple[str, str]:
    """What the refuted limit rests on, and where the escape is at its last update."""
    last = report["counterexamples"]["attained"]["mpmath"]["walk"][-1]
    x, above, cos = (float(last[key]) for key in ("x", "loss_above_infimum", "one_plus_cos"))
    where = f"x = {x:.1f} and growing, L − min L = {above:.3f}, 1 + cos φ = {cos:.1e}"
    return f"proof; a walk of {last['updates']:,} updates in 50 digits", where


def stepped(report: dict[str, Any]) -> tuple[str, float | None]:
    """What the descent step rests on, and its smallest margin."""
    parts = [report[key] for key in ("descent", "descent_without_conflict", "large")]
    margins = [part["smallest_margin"] for part in parts if part["smallest_margin"] is not None]
    return f"proof; {sum(part['accepted'] for part in parts):,} instances", min(
        margins, default=None
    )


def overview(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the overview table."""
    verdicts, limit = report["verdicts"], report["convergence"]
    ended = f"{limit['trajectories'] - limit['unfinished']:,} of {limit['trajectories']:,} trajectories ended"
    printed = "Theorem 1, limit as printed: a location with cos φ = −1, or the optimal value"
    repaired = "Theorem 1, limit on bounded level sets: every cluster point, or the optimal value"
    rests, where = walked(report)
    return [
        overview_row(verdicts, "theorem1_descent", "Theorem 1, descent step", *stepped(report)),
        overview_row(verdicts, "theorem1", printed, rests, None, where),
        overview_row(verdicts, "theorem1_repaired", repaired, f"proof; {ended}"),
    ]


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Theorem 1: the step on fresh instances, trajectories to their ends, L by scipy, dropped
    hypotheses.
    """
    count, seed = settings["instances"], settings["seed"]
    descents = {family: one_step(family, count, seed).report() for family in CONVEX}
    plain = {
        family: one_step(family, max(1, count // 4), seed, conflict=False).report()
        for family in CONVEX
    }
    report: dict[str, Any] = {
        "descent": {**total(descents), "families": descents},
        "descent_without_conflict": {**total(plain), "families": plain},
        "large": large(IN_HIGH_DIMENSION, seed, settings["high_dimensions"]),
        "attack": attacks(ATTACKED, seed, settings["search_rounds"]),
        "convergence": convergence(settings),
        "longer_steps": {
            family: longer_steps(
                family,
                max(2, settings["trajectories"] // 4),
                max(2, settings["updates"] // 8),
                seed,
            )
            for family in LONGER
        },
        "lipschitz": lipschitz(CONVEX, settings["lipschitz_instances"], seed),
        "without_step_bound": {
            "example": rising_step(),
            "sampled": without_step_bound(count, seed),
        },
        "without_convexity": saddle(),
        "counterexamples": escape.check(WALK),
    }
    found = sum(attack.violations(rows) for rows in report["attack"].values())
    misses = found + sum(
        report[key]["violations"] for key in ("descent", "descent_without_conflict", "large")
    )
    contradicted = misses + report["convergence"]["violations"]
    escapes = sum(example["refutes"] for example in report["counterexamples"].values())
    report["dropped"] = convex_limit(report["counterexamples"])
    report["verdicts"] = {
        "theorem1_descent": verdict(misses),
        "theorem1": verdict(contradicted + escapes),
        "theorem1_repaired": verdict(contradicted, repaired=True),
    }
    return {**report, "overview": overview(report)}
