"""Minibatch noise at opposite gradients (the remark of Section 2.4).

With independent gradient noise of variance ηᵢ² per coordinate in Rᵈ the mean update along u is,
to second order, (d − 1)(a η₂²/b² − b η₁²/a²); that of plain SGD is a − b. The iterates leave the
set cos φ = −1, drift along the front and come to rest at a/b = (η₁/η₂)^(2/3), which is the optimum
a = b only if the tasks are equally noisy. The losses are those of `opposite_points.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import torch
from torch import Tensor

from proofs import exact
from proofs.judgement import Counterexample
from proofs.problems import Point

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


def pairs(theta: Tensor, centers: Tensor) -> Tensor:
    """gᵢ = (θ − cᵢ)/2, [N, 2, D]."""
    return (theta.unsqueeze(1) - centers) / 2


def drift(a: float, b: float, noise_1: float, noise_2: float, dimension: int, seed: int) -> Drift:
    """Return the mean of u·g^PC over noisy gradients, computed by the core."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.zeros(2, dimension, dtype=torch.float64)
    mean[0, 0], mean[1, 0] = a, -b
    noise = torch.randn(BATCH, 2, dimension, generator=generator, dtype=torch.float64)
    noise = noise * torch.tensor([noise_1, noise_2], dtype=torch.float64)[:, None]
    along = Point.of(mean + noise).g_pc[:, 0]
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
            theta = theta - SMALL_STEP * (
                Point.of(noisy).g_pc if name == "pcgrad" else noisy.sum(1)
            )
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


def to_the_optimum() -> Counterexample:
    """Noise drives the iterates away from the optimum if the tasks are unequally noisy."""
    noise_1, noise_2 = Fraction(1, 20), Fraction(1, 50)
    drifted = exact_drift(noise_1, noise_2)
    rows = [[[float(x) for x in g] for g in pair] for pair in minibatches(noise_1, noise_2)]
    core = float(Point.of(torch.tensor(rows, dtype=torch.float64)).g_pc[:, 0].mean())
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
        {"rationals": drifted != 0, "the core in float64": abs(core - float(drifted)) < 1e-12},
    )
