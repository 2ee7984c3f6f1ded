"""Theorem 4 (Yu et al. 2020, Appendix A.4): PCGrad with heavy-ball momentum, strongly convex tasks.

θₖ₊₁ = θₖ − αₖ g^PC + βₖ(θₖ − θₖ₋₁), Lᵢ μᵢ-strongly convex and Lᵢ-smooth, R = ‖g₁‖/‖g₂‖,
c = cos φ₁₂, μₖ = (1 − c/R)μ₁ + (1 − cR)μ₂, Lₖ likewise, αₖ = 4/(√Lₖ + √μₖ) as printed and
βₖ = max{|1 − √(αₖ μₖ)|, |1 − √(αₖ Lₖ)|}². Then PCGrad converges linearly to a location where
cos φ = −1, or to the optimal value.

αₖ lacks a square, which is a misprint. With the square the theorem is false for iterates in
conflict, for which its formulas are written (`momentum/three_cycle.py`). Distinct minimizers refute
nothing, since settling where cos φ = −1 is the first alternative. `momentum/theorem4_repair.py`
tests what holds instead.

References: Polyak (1964) for the method; Nesterov, Introductory Lectures (2004), theorem 2.1.12.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

from proofs.certificates import certified, identity
from proofs.judgement import Check, Counterexample, Judgement, judge, sampled
from proofs.momentum import theorem4_examples, theorem4_repair, three_cycle
from proofs.momentum.heavy_ball import SLOPES
from proofs.momentum.theorem4_repair import CONDITIONS, Commuting
from proofs.settings import Theory
from proofs.tally import Counts, smallest, total

PAIRS = 400  # quadratics with commuting Hessians


@dataclass(frozen=True)
class Report:
    """The results of checking Theorem 4."""

    contraction: Counts
    large: Counts
    cycle: three_cycle.Cycle
    commuting: Commuting
    judgements: list[Judgement] = field(default_factory=list)


def contraction(count: int, seed: int) -> Counts:
    """Test the step without momentum on every shape and condition, with and without conflict."""
    rows, step = {}, theorem4_repair.one_step
    # The repair also covers iterates without conflict, which the printed formulas do not. There the
    # step is plain gradient descent: a quarter of the instances is enough.
    quarter = max(1, count // 4)
    for shape, condition in product(SLOPES, CONDITIONS):
        name = f"{shape}, {condition}"
        rows[name] = step(shape, condition, count, seed)
        rows[f"{name}, no conflict"] = step(shape, condition, quarter, seed, conflict=False)
    return total(rows)


def growing(cycle: three_cycle.Cycle) -> Counterexample:
    """The three-cycle as a counterexample."""
    # Rounded for the sentence only; the proof uses the enclosures.
    y, u_1, u_2, s = (float(x) for x in cycle.zero)
    proved = identity("corrected_step").equations > 0
    return Counterexample(
        "interval",
        f"H_1 = diag(900, 1), H_2 = [[58, 190], [190, 640]], θ_0 = (1, {y:.5f}), θ_1 = ({u_1:.5f}, "
        f"{u_2:.5f}) within {cycle.radius}: θ_{{k+3}} = s θ_k with s = {s:.6f}",
        {
            "both tasks strongly convex quadratics with the minimizer 0": cycle.strongly_convex,
            "α_k and β_k as printed, with the square (corrected_step)": proved,
            "conflict at every iterate, as intervals": cycle.in_conflict,
        },
        "|s| > 1: the iterates grow without bound, and cos φ repeats with period 3",
        {
            "intervals (Krawczyk)": cycle.contained,
            "the core in float64": cycle.largest_error_of_the_core < 1e-6,
        },
    )


def judgements(found: Report) -> list[Judgement]:
    """Return the verdicts on Theorem 4."""
    steps, high, paths = found.contraction, found.large, found.commuting
    cycle = found.cycle
    return [
        judge(
            "theorem4_step",
            "Theorem 4",
            "α_k = 4/(√L_k + √μ_k), without a square",
            certified("printed_step", "corrected_scale", "corrected_step", "z3:printed_momentum"),
            sentence="Line (8) of the proof needs the square; without it the method is not "
            "scale-invariant and diverges on 16θ².",
            counterexample=theorem4_examples.printed(),
            misprint=True,
        ),
        judge(
            "theorem4",
            "Theorem 4",
            "With α_k = 4/(√L_k + √μ_k)², iterates in conflict: linear convergence to a location "
            "where cos φ = −1 or to the optimal value",
            [*certified("modulus", "corrected_step"),
             Check("interval", "three_cycle", cycle.refutes,
                   f"Krawczyk's test, s in {cycle.growth}")],
            reading="α_k has the square that its proof needs",
            sentence="The lemma bounds spectral radii of matrices that change with k; on two "
            "quadratics with one minimizer, in conflict at every iterate, the method diverges.",
            counterexample=growing(cycle),
        ),
        judge(
            "theorem4_gradient",
            "Theorem 4",
            "No momentum, α_k ≤ 2/(L_k + μ_k), one minimizer: every step contracts by q_k, q_k² = "
            "1 − 2α_k μ_k L_k/(μ_k + L_k)",
            [*certified("coefficients", "coercivity", "contraction", "contraction_rate",
                        "gradient_step", "ratio_of_weights", "z3:weighted_spectrum",
                        "z3:weighted_condition", "z3:contraction"),
             sampled("three shapes", steps), sampled("high dimensions", high)],
            reading="without momentum, and with one minimizer",
            sentence="The weighted loss of a step is μ_k-strongly convex and L_k-smooth with the "
            "common minimizer, and contractions multiply although k changes them.",
            margin=smallest(steps, high),
        ),
        judge(
            "theorem4_commuting",
            "Theorem 4",
            "Quadratics with commuting Hessians and one minimizer: ‖θ_k − θ*‖ ≤ "
            "(1 + k(1 + ρ))ρ^k‖θ_0 − θ*‖",
            [*certified("modulus", "corrected_step", "powers", "chebyshev"),
             Check("samples", "paths", paths.smallest_margin > -1e-9 and paths.conflicts == 0,
                   f"{paths.pairs} paths of {paths.updates} updates, {paths.conflicts} conflicts")],
            reading="the Hessians commute: the tasks never conflict, and PCGrad never acts",
            sentence="The stated rate up to a factor 1 + 2k, for the plain heavy ball, which the "
            "method then is.",
            margin=paths.smallest_margin,
        ),
    ]  # fmt: skip


def check(settings: Theory) -> Report:
    """Check Theorem 4: the misprint, the three-cycle, no momentum, commuting Hessians."""
    count, seed = settings["instances"], settings["seed"]
    found = Report(
        contraction=contraction(count, seed),
        large=theorem4_repair.large(seed, settings["high_dimensions"]),
        cycle=three_cycle.prove(),
        commuting=theorem4_repair.commuting(PAIRS, seed),
    )
    return replace(found, judgements=judgements(found))
