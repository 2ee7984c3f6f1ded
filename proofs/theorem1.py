"""Theorem 1 (Yu et al. 2020, Section 2.4, Appendix A.1): PCGrad on two convex tasks.

L = L₁ + L₂ with L₁, L₂ convex and differentiable, ∇L L-Lipschitz, t ≤ 1/L. Then PCGrad converges to
a location with cos φ₁₂ = −1, or to the optimal value. The proof rests on the descent step

    in conflict      L(θ⁺) ≤ L(θ) − t(1 − cos²φ₁₂)‖g‖²/2,
    without conflict L(θ⁺) ≤ L(θ) − t‖g‖²/2.

The step holds and needs no convexity. Read as "a location", the theorem is false
(`descent/escape.py`); read as angle and value, it holds. THEOREMS.md contains the proofs; the
functions below test them on random instances.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from proofs import attack
from proofs.certificates import certified
from proofs.descent import convergence, escape
from proofs.descent.convergence import Paths, trajectories
from proofs.descent.descent_examples import sharp_step
from proofs.descent.rates import Rates, rates
from proofs.judgement import Check, Counterexample, Judgement, judge, sampled
from proofs.problems import CONVEX, Point, Problems, aim, look, rounding
from proofs.sampling import LARGE, draw, edges, shares, sideways
from proofs.settings import Theory
from proofs.tally import BrokenError, Counts, Trial, sample, smallest, total

IN_HIGH_DIMENSION = ("quadratic", "softplus")
ATTACKED = ("quadratic", "softplus", "log_sum_exp")
# Updates of the escape to infinity, and of the walk that is tested with the stopping rule.
WALK, FAR_WALK = 10_000, 500
SHORTEST = 1e-3  # smallest t·L that a search may try
RATES = 100  # trajectories whose rates are compared


@dataclass(frozen=True)
class Report:
    """The results of checking Theorem 1."""

    descent: Counts
    descent_without_conflict: Counts
    large: Counts
    attacks: dict[str, dict[str, attack.Found]]
    paths: Paths
    walk: Paths
    rates: Rates
    escape: dict[str, escape.Walk]
    judgements: list[Judgement] = field(default_factory=list)


def hypotheses(problems: Problems, point: Point, step: Tensor) -> Tensor:
    """Test the theorem's hypotheses, t ≤ 1/L and both gradients nonzero, bool [N].

    Convexity and the Lipschitz constant hold by construction of the families.
    """
    # 1/L is rounded, hence the tolerance at the edge t = 1/L.
    return (step * problems.lipschitz() <= 1 + 1e-15) & (step > 0) & point.cos.isfinite()


def descent(problems: Problems, theta: Tensor, point: Point, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return (measured, bound) of the descent step, each [N].

    Measured is L(θ⁺); the bound is the right-hand side above.
    """
    bound = problems.loss(theta) - step * point.sigma * point.square / 2
    return problems.loss(theta - step.unsqueeze(-1) * point.g_pc), bound


def instances(
    family: str,
    count: int,
    rng: np.random.Generator,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
) -> tuple[Problems, Tensor]:
    """Draw problems that are in conflict (or not) at the start, and a step for each.

    The step is t = 1/L for every second instance, where the bound can be attained, and below 1/L
    for the others.
    """
    problems = draw(family, count, rng, dimensions)
    # The angle and the lengths are set after the draw, so that every family covers the same
    # geometry.
    cos, ratio = edges(count, rng)
    problems = aim(problems, cos if conflict else -cos, ratio, sideways(problems, rng))
    return problems, shares(count, rng) / problems.lipschitz()


def trial(problems: Problems, step: Tensor, *, conflict: bool = True) -> Trial:
    """Test the descent step on instances.

    An instance on the wrong side of conflict is not accepted.
    """
    theta = problems.start()
    point = look(problems, theta)
    measured, bound = descent(problems, theta, point, step)
    after = theta - step.unsqueeze(-1) * point.g_pc
    return Trial(
        accepted=hypotheses(problems, point, step) & (point.conflict == conflict),
        # A search moves towards conflict (or away from it) by the cosine, since t ≤ 1/L holds
        # anyway.
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
) -> Counts:
    """Test the descent step on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        drawn = instances(family, count, rng, conflict=conflict, dimensions=dimensions)
        return trial(*drawn, conflict=conflict)

    purpose = statement if conflict else f"{statement}/no conflict"
    return sample(purpose, family, trials, seed, put, dimensions[1])


def families_of(
    families: tuple[str, ...],
    trials: int,
    seed: int,
    *,
    conflict: bool = True,
    statement: str = "theorem1",
) -> Counts:
    """Test the descent step on every family."""
    rows = {
        family: one_step(family, trials, seed, conflict=conflict, statement=statement)
        for family in families
    }
    return total(rows)


def large(
    families: tuple[str, ...], seed: int, high: list[int], statement: str = "theorem1"
) -> Counts:
    """Test the descent step in high dimensions, on problems with prescribed spectra.

    The families share the instances of each dimension equally.
    """
    rows = {}
    # Each dimension is tested separately, so that a failure names it.
    for dimension, family in product(high, families):
        # Ceiling division: the families together have at least LARGE instances.
        share, span = -(-LARGE[dimension] // len(families)), (dimension, dimension)
        rows[f"{family} {dimension}"] = one_step(
            family, share, seed, dimensions=span, statement=f"{statement}/large"
        )
    return total(rows)


def searched(problems: Problems, u: Tensor) -> Trial:
    """Test the step t = u/L on the instances of a search.

    The indefinite family gets one positive and one negative weight per task.
    """
    if problems.family == "indefinite":
        # The vector x of a search holds no weights, so that the saddle is fixed here.
        signs = torch.tensor([1.0, -1.0], dtype=u.dtype).expand_as(problems.w)
        problems = replace(problems, w=signs)
    # A step of zero would leave the margin without a unit.
    return trial(problems, u.clamp(min=SHORTEST) / problems.lipschitz())


def attacks(
    families: tuple[str, ...], seed: int, rounds: int, statement: str = "theorem1"
) -> dict[str, dict[str, attack.Found]]:
    """Search for violations of the descent step with scipy's optimizers, per family."""
    return {
        family: attack.attack(attack.Search(statement, searched, family), seed, rounds)
        for family in families
    }


def limits(settings: Theory) -> Paths:
    """Run trajectories of every convex family to their ends."""
    count, updates, seed = settings["trajectories"], settings["updates"], settings["seed"]
    paths = {family: trajectories(family, count, updates, seed) for family in CONVEX}
    # Without conflicts PCGrad is gradient descent, and the trajectories would test nothing.
    for family, row in paths.items():
        if row.conflicts < 0.3 * row.updates:
            share = row.conflicts / row.updates
            raise BrokenError(f"theorem1: only {share:.0%} of {family}'s updates are in conflict")
    return convergence.summed(paths)


def walking(walk: escape.Walk, far: Paths, *, attained: str) -> Counterexample:
    """The walk to infinity as a counterexample to the reading "a location"."""
    # The 50-digit walk is quoted, because 1 + cos φ is below the resolution of float64.
    last = walk.mpmath.walk[-1]
    x, above, cos = (float(last[key]) for key in ("x", "loss_above_infimum", "one_plus_cos"))
    return Counterexample(
        "proof",
        f"L_i = huber(r) − x + (y ∓ 1)²/2 outside the unit disk, "
        f"from ({', '.join(walk.premises.start)}), t = {walk.premises.t}: "
        f"after {last['updates']:,} updates x = {x:.1f} and growing, "
        f"L − min L = {above:.3f}, 1 + cos φ = {cos:.1e}",
        {**walk.hypotheses, attained: walk.premises.y_stays_above > 0},
        f"x → ∞, so that no location is reached; "
        f"L → 1 + y∞² ≥ 1 + {walk.premises.y_stays_above:.2g}²",
        {**walk.routes, "the trajectories' stopping rule": far.ends == {"walking": 1}},
    )


def judgements(report: Report) -> list[Judgement]:
    """Return the verdicts on Theorem 1."""
    step, paths, found = report.descent, report.paths, report.rates
    # The bounds are attained by some instances, hence a tolerance for rounding.
    inside = found.of_sublinear <= 1 + 1e-9 and found.of_linear <= 1 + 1e-9
    sharp = sharp_step()
    samples = [
        sampled("in conflict", step),
        sampled("without conflict", report.descent_without_conflict),
        sampled("high dimensions", report.large),
        attack.attacked(report.attacks),
    ]
    return [
        judge(
            "theorem1_descent",
            "Theorem 1",
            "Descent step: L(θ⁺) ≤ L(θ) − t(1 − cos²φ)‖g‖²/2 in conflict, for t ≤ 1/L",
            [*certified("length", "product", "theorem1_descent", "z3:descent"), *samples],
            sentence="The descent lemma with t ≤ 1/L; convexity is not needed, and the bound is "
            "attained where the Hessian is L·1 and t = 1/L.",
            margin=smallest(step, report.descent_without_conflict, report.large),
        ),
        judge(
            "theorem1",
            "Theorem 1",
            "Two convex tasks, t ≤ 1/L: PCGrad converges to a location with cos φ = −1, or to the "
            "optimal value",
            certified("escape_update", "escape_angle", "escape_slopes", "z3:escape_grows",
                      "z3:escape_shrinks", "z3:escape_stays_in_conflict"),
            reading="a location is a point to which the iterates converge",
            sentence="On two convex tasks whose sum attains its minimum the iterates walk off to "
            "infinity while the loss stays above the optimum.",
            counterexample=walking(report.escape["attained"], report.walk,
                                   attained="L attains its minimum 1, which the walk stays above"),
        ),
        judge(
            "theorem1_value",
            "Theorem 1",
            "L convex, t ≤ 1/L: L(θ_k) → inf L, or lim inf cos φ(θ_k) = −1 (Theorem A)",
            [*certified("difference_bound", "sum_bound", "length", "theorem1_descent",
                        "z3:no_longer_than_twice", "z3:descent"), convergence.followed(paths)],
            reading="the limit speaks of the angle and of the value, not of a location",
            sentence="Theorem 1 holds as printed for the angle and the value: no minimizer, no "
            "bounded level sets, and convexity of L alone suffices.",
        ),
        judge(
            "theorem1_bounded",
            "Theorem 1",
            "Bounded level sets: L_k → L*, or Σ sin²φ_k < ∞ and cos φ_k → −1 along the whole "
            "sequence; Δ_k ≤ 2D²/(tΣσ_j), and Δ_k ≤ Δ_0 Π(1 − tμσ_j) if strongly convex "
            "(Theorem B)",
            [*certified("theorem1_descent", "z3:descent", "z3:reciprocal_gap", "z3:linear_rate"),
             Check("samples", "rates", inside,
                   f"{found.trajectories} trajectories use at most {found.of_sublinear:.3g} and "
                   f"{found.of_linear:.6g} of the two bounds")],
            reading="level sets are bounded, which the print does not ask",
            sentence="Then there are cluster points, and the whole sequence decides between the "
            "two alternatives, with rates.",
        ),
        judge(
            "theorem1_sharp",
            "ours",
            "1/L is the largest step for which the descent step, or mere descent, holds for every "
            "pair",
            [*certified("largest_step", "sharpness", "z3:rise_beyond_one_over_l"),
             Check("exact example", "sharp_step", all(sharp.values()),
                   f"the loss rises at t = (1 + δ)/L for δ = {', '.join(map(str, sharp))}")],
            sentence="For every δ > 0 there are quadratics on which the loss rises at (1 + δ)/L.",
        ),
    ]  # fmt: skip


def check(settings: Theory) -> Report:
    """Check Theorem 1: the step, the trajectories, the walk to infinity and the rates."""
    count, seed = settings["instances"], settings["seed"]
    found = Report(
        descent=families_of(CONVEX, count, seed),
        descent_without_conflict=families_of(CONVEX, max(1, count // 4), seed, conflict=False),
        large=large(IN_HIGH_DIMENSION, seed, settings["high_dimensions"]),
        attacks=attacks(ATTACKED, seed, settings["search_rounds"]),
        paths=limits(settings),
        walk=convergence.walk(FAR_WALK),
        rates=rates(RATES, seed),
        escape={"attained": escape.walk(WALK)},
    )
    return replace(found, judgements=judgements(found))
