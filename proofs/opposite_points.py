"""Where PCGrad stops, and how minibatch noise acts there (the remark of Section 2.4).

At a point with g₁ = a u, g₂ = −b u the update vanishes. With H₁ = H₂ = (L/2)·1 and r = a/b the
point attracts iff r + 1/r < 4/(tL) − 2. At t = 1/L only r = 1 is left, the optimum.

The simulations use Lᵢ = (L/4)‖θ − cᵢ‖² with L = 1; the front is the segment from c₁ to c₂.
`descent/noise.py` has the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import torch

from proofs import exact
from proofs.certificates import certified
from proofs.descent import noise
from proofs.descent.noise import pairs
from proofs.judgement import Check, Counterexample, Judgement, judge
from proofs.problems import Point
from proofs.settings import Theory

STEPS = (1.0, 0.9, 0.75, 0.5, 0.25)  # t L
UPDATES, STARTS, STRIP = 1000, 4000, 0.1  # starts are within STRIP of the segment
PERTURBATION = 1e-6
CENTERS = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)  # c₁, c₂


@dataclass(frozen=True)
class Attraction:
    """The ends of trajectories at one step, compared with the formula."""

    step: float  # t L
    starts: int
    predicted_largest_ratio: float
    observed_largest_ratio: float
    ratios: list[float]  # quantiles of max(a/b, b/a) at the ends, for the picture


@dataclass(frozen=True)
class Report:
    """The results of checking the opposite points."""

    attraction: list[Attraction]
    largest_multiplier_error: float
    drifts: list[noise.Drift]
    rests: list[noise.Rest]
    judgements: list[Judgement] = field(default_factory=list)


def largest_ratio(step: Any) -> Any:
    """Return the largest r with r + 1/r ≤ 4/(tL) − 2, of a number or of an array."""
    both = 4 / step - 2
    return (both + (both**2 - 4) ** 0.5) / 2


def attraction(step: float, count: int, seed: int) -> Attraction:
    """Run trajectories from random starts near the segment to their ends."""
    rng = np.random.default_rng([seed, int(1000 * step)])
    theta = torch.from_numpy(rng.uniform((0, -STRIP), (1, STRIP), (count, 2)))
    for _ in range(UPDATES):
        theta = theta - step * Point.of(pairs(theta, CENTERS)).g_pc
    lengths = pairs(theta, CENTERS).norm(dim=-1)
    # Iterates that still move have no limit, so that their ratio means nothing.
    settled = Point.of(pairs(theta, CENTERS)).g_pc.norm(dim=-1) < 1e-9
    ratio = torch.maximum(lengths[:, 0] / lengths[:, 1], lengths[:, 1] / lengths[:, 0])[settled]
    quantiles = torch.quantile(ratio, torch.linspace(0, 1, 101, dtype=torch.float64))
    return Attraction(
        step, count, largest_ratio(step), float(ratio.max()), [float(x) for x in quantiles]
    )


def multiplier_error() -> float:
    """Return the largest error of 1 − t(L/2)(2 + r + 1/r), the slope across the segment."""
    worst = 0.0
    for step, ratio in product(STEPS, (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)):
        # At this point of the segment a/b = ratio; the perturbation is across it.
        theta = torch.tensor([[ratio / (1 + ratio), PERTURBATION]], dtype=torch.float64)
        after = theta - step * Point.of(pairs(theta, CENTERS)).g_pc
        found = float(after[0, 1]) / PERTURBATION
        worst = max(worst, abs(found - (1 - step / 2 * (2 + ratio + 1 / ratio))))
    return worst


def anywhere(rows: list[Attraction]) -> Counterexample:
    """At t = 1/L the point r = 2 repels, exactly and in simulation."""
    ratio, step = Fraction(2), Fraction(1)
    multiplier = 1 - step / 2 * (2 + ratio + 1 / ratio)
    at_limit = rows[0]
    return Counterexample(
        "exact example",
        f"L_i = ‖θ − c_i‖²/4, t = 1/L = 1, at g_1 = 2u, g_2 = −u: the map across u has the slope "
        f"{multiplier}",
        {
            "g_1 + 2g_2 = 0: Pareto critical with cos φ = −1": (ratio, -1) == (2, -1),
            "t = 1/L": step == 1,
            **exact.convex_and_smooth([lambda x, y: (x * x + y * y) / 4] * 2, 2, 1),
        },
        f"iterates are driven away: of {at_limit.starts:,} starts none stops at a ratio above "
        f"{at_limit.observed_largest_ratio:.4f}",
        {
            "rationals": abs(multiplier) > 1,
            "the core in float64": at_limit.observed_largest_ratio < 1.01,
        },
    )


def judgements(found: Report) -> list[Judgement]:
    """Return the verdicts on the opposite points."""
    rows, drifts, rests = found.attraction, found.drifts, found.rests
    inside = all(
        0.9 * row.predicted_largest_ratio <= row.observed_largest_ratio
        <= 1.001 * row.predicted_largest_ratio for row in rows
    )  # fmt: skip
    observed = ", ".join(
        f"{row.observed_largest_ratio:.3f} ({row.predicted_largest_ratio:.3f})" for row in rows
    )
    worst = max(abs(row.simulated - row.formula) / row.standard_error for row in drifts)
    resting = ", ".join(f"{row.simulated:.3f} ({row.formula:.3f})" for row in rests)
    return [
        judge(
            "attraction",
            "ours",
            "A point with g_1 = au, g_2 = −bu attracts iff t λ_max(P(w_1H_1 + w_2H_2)P) < 2; "
            "r + 1/r < 4/(tL) − 2 for H_1 = H_2 = (L/2)·1",
            [*certified("opposite_derivative", "attraction_limit", "z3:attracts"),
             Check("samples", "trajectories", inside,
                   f"largest ratio of the ends at tL = {', '.join(map(str, STEPS))}: observed "
                   f"(predicted) {observed}"),
             Check("samples", "slopes", found.largest_multiplier_error < 1e-5,
                   f"the core's map across u to {found.largest_multiplier_error:.1e}")],
            sentence="Small steps make PCGrad stop far from the optimum; at the theorem's largest "
            "step it stops only there.",
        ),
        judge(
            "anywhere",
            "Theorem 1",
            "PCGrad stops anywhere on the Pareto front",
            certified("opposite_derivative", "attraction_limit",
                      "z3:attraction_is_worst_at_equality"),
            reading="from generic starts, with t up to 1/L",
            sentence="At t = 1/L only r = 1 attracts, which is the optimum for equal Hessians.",
            counterexample=anywhere(rows),
        ),
        judge(
            "noise_escape",
            "Section 2.4",
            "Minibatch noise takes the iterates away from cos φ = −1",
            [*certified("noise_drift", "rest_point"),
             Check("samples", "drift", all(row.agrees for row in drifts),
                   f"{len(drifts)} settings of {noise.BATCH:,} draws agree with the formula to "
                   f"{worst:.1f} standard errors")],
            reading="the iterates move along the front, at a rate proportional to the noise's "
            "variance",
            sentence="The mean update along the front is (d − 1)(aη_2²/b² − bη_1²/a²): small, and "
            "not that of the loss.",
        ),
        judge(
            "noise_optimum",
            "Section 2.4",
            "Minibatch noise avoids the scenario, so that PCGrad reaches the optimum",
            [*certified("noise_drift", "rest_point"),
             Check("samples", "rest points", all(row.agrees for row in rests),
                   f"a/b at rest for η_1/η_2 = {', '.join(map(str, noise.RATIOS))}: simulated "
                   f"(formula) {resting}")],
            reading="unequally noisy tasks",
            sentence="The iterates come to rest at a/b = (η_1/η_2)^(2/3), not at the optimum "
            "a = b.",
            counterexample=noise.to_the_optimum(),
        ),
    ]  # fmt: skip


def check(settings: Theory) -> Report:
    """Check the attracting points and the noise: formulas against simulations."""
    seed = settings["seed"]
    found = Report(
        attraction=[attraction(step, STARTS, seed) for step in STEPS],
        largest_multiplier_error=multiplier_error(),
        drifts=[noise.drift(*row, seed) for row in noise.DRIFTS],
        rests=noise.rests(seed),
    )
    return replace(found, judgements=judgements(found))
