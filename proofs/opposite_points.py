"""Where PCGrad stops, and how minibatch noise acts there (the remark of Section 2.4).

At a point with g₁ = a u, g₂ = −b u, ‖u‖ = 1, the update vanishes and its derivative is
P(w₁ H₁ + w₂ H₂), P = 1 − u uᵀ, w₁ = 1 + b/a, w₂ = 1 + a/b (identity `opposite_derivative`).
So the point attracts iff t λ_max(P(w₁ H₁ + w₂ H₂)P) < 2. For H₁ = H₂ = (L/2)·1 and r = a/b
this reads

    r + 1/r < 4/(tL) − 2.

At t = 1/L only r = 1 is left, the optimum: PCGrad then stops nowhere else on the Pareto front.

**Noise.** With independent gradient noise of variance ηᵢ² per coordinate in Rᵈ the mean update
along u is, to second order, (d − 1)(a η₂²/b² − b η₁²/a²); that of plain SGD is a − b. The
iterates leave the set cos φ = −1, drift along the front and come to rest at a/b = (η₁/η₂)^(2/3),
which is the optimum a = b only if the tasks are equally noisy.

The simulations use Lᵢ = (L/4)‖θ − cᵢ‖² with L = 1; the front is the segment from c₁ to c₂.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs import exact
from proofs.certificates import certified
from proofs.judgement import Check, Counterexample, Judgement, judge
from proofs.problems import Point
from proofs.settings import Theory

STEPS = (1.0, 0.9, 0.75, 0.5, 0.25)  # t L
UPDATES, STARTS, STRIP = 1000, 4000, 0.1  # starts are within STRIP of the segment
PERTURBATION = 1e-6
CENTERS = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)  # c₁, c₂
DRIFTS = (  # a, b, η₁, η₂, d
    (1.2, 0.8, 0.02, 0.02, 2),
    (1.0, 1.0, 0.02, 0.01, 2),
    (1.2, 0.8, 0.025, 0.01, 2),
    (0.7, 1.1, 0.01, 0.02, 10),
)
BATCH = 500_000
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)  # η₁ / η₂
SMALL_STEP, CHAINS, BURN_IN, KEPT, NOISE, WIDTH = 0.02, 40, 6000, 6000, 0.05, 10
ERRORS = 4.0  # standard errors by which a simulation may differ from the formula
# Relative error of the rest point that the finite step and noise leave.
SYSTEMATIC = 0.03


@dataclass(frozen=True)
class Attraction:
    """The ends of trajectories at one step, compared with the formula."""

    step: float  # t L
    starts: int
    predicted_largest_ratio: float
    observed_largest_ratio: float
    ratios: list[float]  # quantiles of max(a/b, b/a) at the ends, for the picture


@dataclass(frozen=True)
class Drift:
    """The mean update along u under noise, compared with the formula."""

    a: float
    b: float
    noise_1: float
    noise_2: float
    dimension: int
    formula: float
    simulated: float
    standard_error: float

    @property
    def agrees(self) -> bool:
        """Whether both agree within the Monte Carlo error."""
        return abs(self.simulated - self.formula) <= ERRORS * self.standard_error


@dataclass(frozen=True)
class Rest:
    """The points at which noisy PCGrad and plain SGD come to rest, as ratios a/b."""

    noise_ratio: float  # η₁ / η₂
    formula: float
    simulated: float
    standard_error: float
    plain: float

    @property
    def agrees(self) -> bool:
        """Whether both agree within the Monte Carlo error and the error of the finite step."""
        allowed = ERRORS * self.standard_error + SYSTEMATIC * self.formula
        return abs(self.simulated - self.formula) <= allowed


@dataclass(frozen=True)
class Report:
    """The results of checking the opposite points."""

    attraction: list[Attraction]
    largest_multiplier_error: float
    drifts: list[Drift]
    rests: list[Rest]
    judgements: list[Judgement] = field(default_factory=list)


def largest_ratio(step: Any) -> Any:
    """Return the largest r with r + 1/r ≤ 4/(tL) − 2, of a number or of an array."""
    both = 4 / step - 2
    return (both + (both**2 - 4) ** 0.5) / 2


def update(gradients: Tensor) -> Tensor:
    """g^PC of pairs [N, 2, D] by the core."""
    return Point.of(gradients).g_pc


def pairs(theta: Tensor, centers: Tensor) -> Tensor:
    """gᵢ = (θ − cᵢ)/2, [N, 2, D]."""
    return (theta.unsqueeze(1) - centers) / 2


def attraction(step: float, count: int, seed: int) -> Attraction:
    """Run trajectories from random starts near the segment to their ends."""
    rng = np.random.default_rng([seed, int(1000 * step)])
    theta = torch.from_numpy(rng.uniform((0, -STRIP), (1, STRIP), (count, 2)))
    for _ in range(UPDATES):
        theta = theta - step * update(pairs(theta, CENTERS))
    lengths = pairs(theta, CENTERS).norm(dim=-1)
    # Iterates that still move have no limit, so that their ratio means nothing.
    settled = update(pairs(theta, CENTERS)).norm(dim=-1) < 1e-9
    ratio = torch.maximum(lengths[:, 0] / lengths[:, 1], lengths[:, 1] / lengths[:, 0])[settled]
    quantiles = torch.quantile(ratio, torch.linspace(0, 1, 101, dtype=torch.float64))
    return Attraction(
        step, count, largest_ratio(step), float(ratio.max()), [float(x) for x in quantiles]
    )


def multiplier_error() -> float:
    """Compare the core's map across the segment with 1 − t(L/2)(2 + r + 1/r).

    Returns:
        The largest difference of the slopes.
    """
    worst = 0.0
    for step, ratio in product(STEPS, (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)):
        # At this point of the segment a/b = ratio; the perturbation is across it.
        theta = torch.tensor([[ratio / (1 + ratio), PERTURBATION]], dtype=torch.float64)
        after = theta - step * update(pairs(theta, CENTERS))
        found = float(after[0, 1]) / PERTURBATION
        worst = max(worst, abs(found - (1 - step / 2 * (2 + ratio + 1 / ratio))))
    return worst


def drift(a: float, b: float, noise_1: float, noise_2: float, dimension: int, seed: int) -> Drift:
    """Return the mean of u·g^PC over noisy gradients, computed by the core."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.zeros(2, dimension, dtype=torch.float64)
    mean[0, 0], mean[1, 0] = a, -b
    noise = torch.randn(BATCH, 2, dimension, generator=generator, dtype=torch.float64)
    noise = noise * torch.tensor([noise_1, noise_2], dtype=torch.float64)[:, None]
    along = update(mean + noise)[:, 0]
    formula = (dimension - 1) * (a * noise_2**2 / b**2 - b * noise_1**2 / a**2)
    error = float(along.std()) / BATCH**0.5
    return Drift(a, b, noise_1, noise_2, dimension, formula, float(along.mean()), error)


def rests(seed: int) -> list[Rest]:
    """Run chains of noisy PCGrad and of plain SGD from the optimum at a small step.

    The rest point is the mean of a divided by the mean of b after the burn-in.
    """
    generator = torch.Generator().manual_seed(seed)
    ratio = torch.tensor(RATIOS, dtype=torch.float64).repeat_interleave(CHAINS)
    # The product of both noise levels is the same for every ratio.
    noise = NOISE * torch.stack([ratio.sqrt(), 1 / ratio.sqrt()], -1).unsqueeze(-1)
    centers = torch.zeros(2, WIDTH, dtype=torch.float64)
    centers[1, 0] = 4.0
    begin = torch.zeros(len(ratio), WIDTH, dtype=torch.float64)
    begin[:, 0] = 2.0
    means = []
    for name in ("pcgrad", "plain"):
        theta, sums = begin.clone(), torch.zeros(len(ratio), 2, dtype=torch.float64)
        for k in range(BURN_IN + KEPT):
            gradients = pairs(theta, centers)
            if k >= BURN_IN:
                sums += gradients[:, :, 0].abs()
            drawn = torch.randn(gradients.shape, generator=generator, dtype=torch.float64)
            noisy = gradients + noise * drawn
            theta = theta - SMALL_STEP * (update(noisy) if name == "pcgrad" else noisy.sum(1))
        means.append((sums[:, 0] / sums[:, 1]).view(len(RATIOS), CHAINS))
    found, plain = means
    errors = found.std(-1) / CHAINS**0.5
    return [
        Rest(r, r ** (2 / 3), float(found[k].mean()), float(errors[k]), float(plain[k].mean()))
        for k, r in enumerate(RATIOS)
    ]


def minibatches(noise_1: Fraction, noise_2: Fraction) -> list[list[exact.Vector]]:
    """Return four equally likely pairs at the optimum a = b = 1: the noise is ±ηᵢ across u."""
    signs = product((1, -1), repeat=2)
    return [exact.rationals([(1, s * noise_1), (-1, t * noise_2)]) for s, t in signs]


def exact_drift(noise_1: Fraction, noise_2: Fraction) -> Fraction:
    """Return E[u·g^PC] over these pairs, exactly."""
    return sum(exact.update(pair)[0] for pair in minibatches(noise_1, noise_2)) / Fraction(4)


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


def to_the_optimum() -> Counterexample:
    """Noise drives the iterates away from the optimum if the tasks are unequally noisy."""
    noise_1, noise_2 = Fraction(1, 20), Fraction(1, 50)
    drifted = exact_drift(noise_1, noise_2)
    rows = [[[float(x) for x in g] for g in pair] for pair in minibatches(noise_1, noise_2)]
    core = float(update(torch.tensor(rows, dtype=torch.float64))[:, 0].mean())
    return Counterexample(
        "exact example",
        f"g_1 = (1, ±1/20), g_2 = (−1, ±1/50), signs independent, at the optimum a = b = 1: "
        f"E[u · g^PC] = {float(drifted):.6f}, plain SGD has 0",
        {
            "unbiased noise": sum(sign * noise_1 for sign in (1, -1)) == 0,
            "cos φ > −1 for every minibatch": noise_1 != noise_2,
            "the optimum of L_1 + L_2, g = 0": exact.add((1, 0), (-1, 0)) == (0, 0),
        },
        "the mean update at the optimum is not zero: PCGrad leaves it along the front",
        {
            "rationals": drifted != 0,
            "the core in float64": abs(core - float(drifted)) < 1e-12,
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
                   f"{len(drifts)} settings of {BATCH:,} draws agree with the formula to "
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
                   f"a/b at rest for η_1/η_2 = {', '.join(map(str, RATIOS))}: simulated (formula) "
                   f"{resting}")],
            reading="unequally noisy tasks",
            sentence="The iterates come to rest at a/b = (η_1/η_2)^(2/3), not at the optimum "
            "a = b.",
            counterexample=to_the_optimum(),
        ),
    ]  # fmt: skip


def check(settings: Theory) -> Report:
    """Check the attracting points and the noise: formulas against simulations."""
    seed = settings["seed"]
    found = Report(
        attraction=[attraction(step, STARTS, seed) for step in STEPS],
        largest_multiplier_error=multiplier_error(),
        drifts=[drift(*row, seed) for row in DRIFTS],
        rests=rests(seed),
    )
    return replace(found, judgements=judgements(found))
