"""Corollary 1 (Yu et al. 2020, Appendix A.1): PCGrad on more than two convex tasks.

L = Σ Lᵢ with n > 2 convex tasks, ∇L L-Lipschitz, t ≤ 1/L, and cos(g, g^PC) ≥ 1/2 at every step.
Then PCGrad converges to a point with cos φᵢⱼ = −1 for all pairs, or to the optimal value; by the
step L(θ⁺) ≤ L(θ).

The step is false, because its proof needs ‖g^PC‖ ≤ ‖g‖, which the hypotheses do not give. The limit
is false for convex tasks (an exact cycle) and for strongly convex ones (a set that is never left).
The repaired step, t ≤ g·g^PC/(L‖g^PC‖²), is tested on random instances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from proofs.certificates import certified
from proofs.judgement import Check, Judgement, judge, sampled
from proofs.many_tasks import corollary1_cycle, invariant
from proofs.many_tasks.corollary1_gradients import Angle, angle, chosen, draw_orders
from proofs.problems import CONVEX, Point, Problems, aim_at, look, rounding
from proofs.sampling import LARGE, chunks, draw, shares, stream
from proofs.settings import Theory
from proofs.tally import Counts, Tally, Trial, sample, smallest, total

TASKS = (3, 4, 5, 6, 7, 8, 9, 10)
MANY = 1  # how many of the instances of LARGE have ten tasks


@dataclass(frozen=True)
class Report:
    """The results of checking Corollary 1."""

    judgements: list[Judgement]
    repaired: Counts
    large: Counts
    enclosure: invariant.Enclosure
    walk: invariant.Walk


def longest(problems: Problems, seen: Angle) -> Tensor:
    """The longest repaired step, g·g^PC/(L‖g^PC‖²) = cos(g, g^PC)‖g‖/(L‖g^PC‖), [N]."""
    return seen.cos / seen.ratio / problems.lipschitz()


def instances(
    family: str,
    count: int,
    rng: np.random.Generator,
    *,
    tasks: int,
    dimensions: tuple[int, int] = (1, 20),
) -> tuple[Problems, Point, Tensor]:
    """Draw problems with g·g^PC > 0 at their starts, and steps, every second the longest one."""
    problems = draw(family, count, rng, dimensions, 1.0, tasks)
    orders = draw_orders(tasks, count, rng)
    width = problems.A.shape[-1]
    problems = aim_at(problems, chosen(tasks, problems.dimension, width, orders, rng))
    point = look(problems, problems.start(), orders)
    return problems, point, shares(count, rng) * longest(problems, angle(point))


def trial(problems: Problems, point: Point, step: Tensor) -> Trial:
    """Test the repaired step L(θ⁺) ≤ L(θ) − t g·g^PC/2 on instances; `point` is the start."""
    theta, seen = problems.start(), angle(point)
    after = theta - step.unsqueeze(-1) * point.g_pc
    bound = problems.loss(theta) - step * point.inner / 2
    # The longest step is itself rounded, hence the relative tolerance.
    inside = (seen.cos > 0) & (step > 0) & (step <= longest(problems, seen) * (1 + 1e-15))
    return Trial(
        accepted=inside,
        slack=seen.cos,
        margin=bound - problems.loss(after),
        unit=step * point.inner,
        noise=rounding(problems, theta, (after,), step),
        details={
            "tasks": torch.full_like(step, point.gradients.shape[-2]),
            "dimension": problems.dimension,
            "cos_g_gpc": seen.cos,
            "ratio": seen.ratio,
        },
    )


def joined(trials: list[Trial]) -> Trial:
    """Concatenate several batches."""
    # Batches of different numbers of tasks have tensors of different shapes and run separately.
    *fields, details = zip(*trials, strict=True)
    described = {name: torch.cat([one[name] for one in details]) for name in details[0]}
    accepted, slack, margin, unit, noise = map(torch.cat, fields)
    return Trial(accepted, slack, margin, unit, noise, described)


def one_step(family: str, trials: int, seed: int) -> Counts:
    """Test the repaired step on fresh instances, in equal parts for each number of tasks."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        # Fewer instances than numbers of tasks leave some parts empty.
        parts = [len(part) for part in np.array_split(np.arange(count), len(TASKS))]
        sizes = [(n, part) for n, part in zip(TASKS, parts, strict=True) if part]
        return joined([trial(*instances(family, part, rng, tasks=n)) for n, part in sizes])

    purpose = f"corollary1/repaired/{'-'.join(map(str, TASKS))}"
    return sample(purpose, family, trials, seed, put)


def large(seed: int, high: list[int]) -> Counts:
    """Test the repaired step in high dimensions, mostly with 3 tasks and sometimes with 10."""
    rows = {}
    for dimension in high:
        for n, part in ((3, LARGE[dimension] - MANY), (10, MANY)):
            purpose, span = f"corollary1/large/{n}", (dimension, dimension)
            family = f"quadratic {dimension}"  # as the report names the stream
            tally = Tally(purpose, family, seed)
            for chunk, size in enumerate(chunks(part, dimension)):
                rng = stream(seed, purpose, family, chunk)
                tally.add(trial(*instances("quadratic", size, rng, tasks=n, dimensions=span)))
            rows[f"{family}, {n} tasks"] = tally.report()
    return total(rows)


def judgements(
    repaired: Counts, high: Counts, found: invariant.Enclosure, walk: invariant.Walk
) -> list[Judgement]:
    """Return the verdicts on Corollary 1."""
    enclosed = Check(
        "interval",
        "invariant set",
        found.loss_above_minimum > 0 and found.smallest_cos > 0.5,
        f"{found.boxes:,} boxes, none of which leaves the set; "
        f"cos(g, g^PC) ≥ {found.smallest_cos:.3f}",
    )
    strongly = (
        f"strongly convex tasks: the loss stays {found.loss_above_minimum:g} above its minimum "
        f"({found.boxes:,} boxes)"
    )
    # The routes of the strongly convex set confirm the cycle's conclusion on other tasks.
    routes = {
        "strongly convex, intervals": enclosed.passed,
        "strongly convex, the core in float64": walk.stays and walk.smallest_cos > 0.5,
    }
    return [
        judge(
            "corollary1_descent",
            "Corollary 1",
            "Its step: cos(g, g^PC) ≥ 1/2 and t ≤ 1/L give L(θ⁺) ≤ L(θ)",
            certified("stretch", "stretch_step", "loss_change", "stretch_beyond_two",
                      "hidden_assumption", "z3:printed_step_needs_length"),
            sentence="The proof uses ‖g^PC‖ ≤ ‖g‖, which the hypotheses do not give.",
            counterexample=corollary1_cycle.ascending(),
        ),
        judge(
            "corollary1",
            "Corollary 1",
            "n > 2 convex tasks, cos(g, g^PC) ≥ 1/2, t ≤ 1/L: convergence to cos φ = −1 for all "
            "pairs, or to the optimal value",
            [*certified("cycle", "flat_angles", "attraction", "opposite_to_both",
                        "smallest_cosine"),
             enclosed],
            sentence="Three tasks alternate between two points for ever, in every order; with "
            "strongly convex tasks they never leave a set above the optimum.",
            counterexample=corollary1_cycle.cycling(strongly, routes),
        ),
        judge(
            "corollary1_step",
            "Corollary 1",
            "t ≤ g·g^PC/(L‖g^PC‖²), g·g^PC > 0: L(θ⁺) ≤ L(θ) − t g·g^PC/2",
            [*certified("repaired_step", "z3:repaired_step"), sampled("3 to 10 tasks", repaired),
             sampled("high dimensions", high)],
            reading="the step is bounded by g·g^PC/(L‖g^PC‖²) instead of 1/L",
            sentence="The descent lemma with a step that knows the length of g^PC; neither 1/2 nor "
            "t ≤ 1/L is needed.",
            margin=smallest(repaired, high),
        ),
        judge(
            "corollary1_limit",
            "Corollary 1",
            "t = g·g^PC/(L‖g^PC‖²), cos(g, g^PC) ≥ a > 0, L convex: L(θ_k) → inf L (Theorem A)",
            certified("repaired_step", "repaired_gain", "repaired_length", "z3:repaired_step"),
            reading="the step is g·g^PC/(L‖g^PC‖²) instead of at most 1/L",
            sentence="Every step gains a²‖g‖²/(2L) and is at most ‖g‖/L long: Theorem A's proof, "
            "for any n and any orders, without bounded level sets.",
        ),
    ]  # fmt: skip


def check(settings: Theory) -> Report:
    """Check Corollary 1: both counterexamples, the strongly convex set and the repaired step."""
    count, seed = settings["instances"], settings["seed"]
    repaired = total({family: one_step(family, count, seed) for family in CONVEX})
    high = large(seed, settings["high_dimensions"])
    found, walk = invariant.enclose(), invariant.walk(seed)
    return Report(judgements(repaired, high, found, walk), repaired, high, found, walk)
