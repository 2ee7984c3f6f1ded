"""Proposition 1 (Yu et al. 2020, Appendix A.1): PCGrad on two tasks that need not be convex.

L = L₁ + L₂ is differentiable and bounded below, ∇L L-Lipschitz, t ≤ 1/L. Then PCGrad converges to a
location where cos φ₁₂ = −1, or finds an iterate that is almost stationary: while cos φ ≥ α > −1,

    min_{k<K} ‖gₖ‖² ≤ 2(L₀ − L*)/(K(1 − α²)t).

Read as angle and iterate, it holds; read as "a location", it is false (`descent/escape.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from proofs import attack, theorem1
from proofs.certificates import certified
from proofs.descent import convergence, escape
from proofs.descent.convergence import Paths, trajectories
from proofs.descent.paths import guaranteed
from proofs.judgement import Judgement, judge, sampled
from proofs.problems import NONCONVEX, Point, Problems, look, rounding
from proofs.settings import Theory
from proofs.tally import Counts, Trial, sample, smallest, total

# Families whose trajectories can end; those of `sigmoid` go to infinity.
BOUNDED = ("cauchy", "welsch", "wave")
IN_HIGH_DIMENSION = ("cauchy", "wave")
ATTACKED = ("cauchy", "wave", "indefinite")
STEPS = 10  # K
WALK, FAR_WALK = 1000, 500  # updates of the escape; Theorem 1 runs the long one


@dataclass(frozen=True)
class Report:
    """The results of checking Proposition 1."""

    descent: Counts
    descent_without_conflict: Counts
    several_steps: Counts
    large: Counts
    attacks: dict[str, dict[str, attack.Found]]
    paths: Paths
    escape: dict[str, escape.Walk]
    judgements: list[Judgement] = field(default_factory=list)


def least(
    problems: Problems, point: Point, step: Tensor, updates: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return min_{k<K} mₖ (measured), 2(L₀ − L_K)/(tK) (bound), its rounding error, m₀, each [N].

    `point` is the start. m is defined in `descent/convergence.py`.
    """
    theta = problems.start()
    first, noise = problems.loss(theta), torch.zeros_like(step)
    values = []
    for k in range(updates):
        point = look(problems, theta) if k else point
        values.append(guaranteed(point))
        after = theta - step.unsqueeze(-1) * point.g_pc
        # The bound adds K inequalities, hence their rounding errors add up as well.
        noise += rounding(problems, theta, (after,), step)
        theta = after
    # L_K replaces L*, which only tightens the bound and needs no knowledge of the minimum.
    scale = 2 / (step * updates)
    bound = scale * (first - problems.loss(theta))
    return torch.stack(values).amin(0), bound, scale * noise, values[0]


def several_steps(problems: Problems, step: Tensor, updates: int = STEPS) -> Trial:
    """Test the K-step form on instances. The margin's unit is m₀."""
    point = look(problems, problems.start())
    measured, bound, noise, unit = least(problems, point, step, updates)
    return Trial(
        accepted=theorem1.hypotheses(problems, point, step),
        slack=1 - step * problems.lipschitz(),
        margin=bound - measured,
        unit=unit,
        noise=noise,
        details={"dimension": problems.dimension, "cos": point.cos},
    )


def many_steps(family: str, trials: int, seed: int) -> Counts:
    """Test the K-step form on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        return several_steps(*theorem1.instances(family, count, rng))

    return sample("proposition1/steps", family, trials, seed, put)


def limits(settings: Theory) -> Paths:
    """Run trajectories of the families that are bounded below, twice as many as for Theorem 1."""
    updates, count, seed = settings["updates"], 2 * settings["trajectories"], settings["seed"]

    def run(family: str) -> Paths:
        return trajectories(family, count, updates, seed, stationary=True, statement="proposition1")

    return convergence.summed({family: run(family) for family in BOUNDED})


def judgements(found: Report, far: Paths) -> list[Judgement]:
    """Return the verdicts on Proposition 1."""
    steps = found.several_steps
    samples = [
        sampled("in conflict", found.descent),
        sampled("without conflict", found.descent_without_conflict),
        sampled("high dimensions", found.large),
        attack.attacked(found.attacks),
    ]
    # The instance is Theorem 1's; only the violated conclusion differs.
    walk = found.escape["attained"]
    counterexample = replace(
        theorem1.walking(walk, far, attained="L is bounded below, even attained"),
        violated="no location is reached, and ‖g‖ ≥ 2y∞ > 0: no iterate is almost stationary",
    )
    return [
        judge(
            "proposition1_descent",
            "Proposition 1",
            "The descent step without convexity",
            [*certified("theorem1_descent", "z3:descent"), *samples],
            sentence="The proof of Theorem 1's step does not use convexity.",
            margin=smallest(found.descent, found.descent_without_conflict, found.large),
        ),
        judge(
            "proposition1_angle",
            "Proposition 1",
            "L bounded below, t ≤ 1/L: while cos φ ≥ α > −1, "
            "min ‖g_k‖² ≤ 2(L_0 − L*)/(K(1 − α²)t); so lim inf cos φ = −1, or iterates are almost "
            "stationary",
            [*certified("theorem1_descent", "z3:descent"),
             sampled(f"{STEPS} steps", steps), convergence.followed(found.paths)],
            reading="the alternatives are an angle that tends to −1 and an almost stationary "
            "iterate",
            sentence="The descent steps add up; L bounded below is implicit in the proof, which "
            "names L*.",
            margin=steps.smallest_margin,
        ),
        judge(
            "proposition1",
            "Proposition 1",
            "PCGrad converges to a location where cos φ = −1, or finds an almost stationary "
            "iterate",
            certified("escape_update", "escape_angle", "escape_slopes"),
            reading="a location is a point to which the iterates converge",
            sentence="The walk to infinity reaches no location, and its gradient stays away "
            "from 0.",
            counterexample=counterexample,
        ),
    ]  # fmt: skip


def check(settings: Theory) -> Report:
    """Check Proposition 1: the step, K steps, trajectories and the walk to infinity."""
    count, seed = settings["instances"], settings["seed"]
    step = theorem1.families_of
    many = {family: many_steps(family, max(1, count // 10), seed) for family in NONCONVEX}
    quarter = max(1, count // 4)
    name = "proposition1"
    found = Report(
        descent=step(NONCONVEX, count, seed, statement=name),
        descent_without_conflict=step(NONCONVEX, quarter, seed, conflict=False, statement=name),
        several_steps=total(many),
        large=theorem1.large(IN_HIGH_DIMENSION, seed, settings["high_dimensions"], name),
        attacks=theorem1.attacks(ATTACKED, seed, settings["search_rounds"], name),
        paths=limits(settings),
        escape={"attained": escape.walk(WALK)},
    )
    return replace(found, judgements=judgements(found, convergence.walk(FAR_WALK)))
