"""One step of PCGrad against one plain step of the same length, for Theorems 2 and 3.

θ^PC = θ − t g^PC, θ^MT = θ − t g. Both theorems assume H(L; θ, θ^MT) ≥ ℓ‖g‖². H has three forms
here, named by how they summarize the curvature gᵀ∇²L(θ − a t g) g for a in [0, 1]:

- `uniform`: its mean, Definition 3 as printed;
- `remainder`: its mean with the weight 2(1 − a), for which Taylor's formula is exact;
- `pointwise`: its smallest value, which is at most either mean.

The means come from the core's quadrature over NODES Gauss-Legendre nodes, and the smallest value
from those nodes and both ends. For Huber, whose curvature jumps, all three are exact.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs.problems import (
    CONSTANT_HESSIAN,
    NODES,
    Point,
    Problems,
    aim,
    look,
    near_minimizers,
    rounding,
)
from proofs.sampling import LARGE, draw, power, sideways

# Steps that are tried, in units of 2/L: below 1 neither (c) nor t ≥ τ can hold.
GRID = np.geomspace(1, 64, 31)
BLOCK = 2_000_000  # numbers in one batch of curvatures


def compared(problems: Problems, point: Point, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return L(θ^MT) − L(θ^PC), and its rounding error, each [N]."""
    theta = problems.start()
    plain, surgery = (theta - step.unsqueeze(-1) * d for d in (point.g, point.g_pc))
    margin = problems.loss(plain) - problems.loss(surgery)
    return margin, rounding(problems, theta, (plain, surgery), step)


def curvature(
    problems: Problems, point: Point, step: Tensor, form: str, *, fast: bool = False
) -> Tensor:
    """Return ℓ = H/‖g‖², the largest that is allowed, at most L, [N].

    It comes from Hessians. If `fast`, as in searches, it comes from the losses where the form has
    such a formula.
    """
    if form == "pointwise":
        found = smallest_curvature(problems, point, step)
    elif fast:
        found = curvature_by_losses(problems, point, step, form)
    else:
        theta = problems.start()
        after = theta - step.unsqueeze(-1) * point.g
        found = problems.curvature(theta, after, point.g, form) / point.square
    # Only rounding can exceed L.
    return torch.minimum(found, problems.lipschitz())


def curvature_by_losses(problems: Problems, point: Point, step: Tensor, weighting: str) -> Tensor:
    """Return H/‖g‖² without Hessians, by the fundamental theorem of calculus, [N].

    This is faster, and also a check of the quadrature:

        uniform:   g·(∇L(θ) − ∇L(θ^MT))/(t‖g‖²),
        remainder: 2(L(θ^MT) − L(θ) + t‖g‖²)/(t²‖g‖²).
    """
    theta, square = problems.start(), point.square
    after = theta - step.unsqueeze(-1) * point.g
    if weighting == "uniform":
        return (point.g * (point.g - problems.gradients(after).sum(-2))).sum(-1) / (step * square)
    return 2 * (problems.loss(after) - problems.loss(theta) + step * square) / (step**2 * square)


def smallest_curvature(problems: Problems, point: Point, step: Tensor) -> Tensor:
    """Return min over a of gᵀ∇²L(θ − a t g) g/‖g‖², [N].

    Huber's curvature is piecewise constant; the minimum is taken over all its pieces.
    """
    z, along = problems.z(problems.start()), problems.along(point.g)
    change = -step[:, None, None] * along
    # A grid would miss short pieces of Huber's piecewise constant curvature.
    places = _pieces(z, change) if problems.family == "huber" else _nodes(problems.family)
    return _curvatures(problems, z, change, along, places).amin(0) / point.square


def _curvatures(
    problems: Problems, z: Tensor, change: Tensor, along: Tensor, places: Tensor
) -> Tensor:
    """(A g)ᵀ∇²F(z + a change)(A g) at every a of `places` [K, 1 or N], [K, N]."""
    # Blocks limit the memory: all places at once would take K copies of z.
    parts = [
        (along * problems.bend(z + a[..., None, None] * change, along)).sum((-1, -2))
        for a in places.split(max(1, BLOCK // z.numel()))
    ]
    return torch.cat(parts)


@cache
def _nodes(family: str) -> Tensor:
    """Return the quadrature's nodes and both ends, [K, 1].

    One node is enough where the Hessian is constant.
    """
    if family in CONSTANT_HESSIAN:
        return torch.zeros(1, 1, dtype=torch.float64)
    nodes = (np.polynomial.legendre.leggauss(NODES)[0] + 1) / 2
    return torch.from_numpy(np.concatenate([[0.0], nodes, [1.0]]))[:, None]


def _pieces(z: Tensor, change: Tensor) -> Tensor:
    """Return a point inside every piece of the segment on which no |zₖ| crosses 1, [K, N]."""
    # Where z does not change, the quotients are infinite or nan and give no piece.
    jumps = torch.stack([(-1 - z) / change, (1 - z) / change]).nan_to_num(0.0).clamp(0, 1)
    ends = jumps.transpose(0, 1).flatten(1).sort(-1).values
    ends = torch.cat([torch.zeros_like(ends[:, :1]), ends, torch.ones_like(ends[:, :1])], -1)
    return ((ends[:, 1:] + ends[:, :-1]) / 2).T


def opposing(ratio: Tensor, xi: Tensor) -> Tensor:
    """Return the cosine in [−1, −Φ] at which ξ(g₁, g₂) has the given value, by bisection.

    On this interval ξ rises from 0 to more than 1.
    """
    both = ratio + 1 / ratio
    low, high = torch.full_like(ratio, -1.0), -2 / both
    for _ in range(60):
        cos = (low + high) / 2
        # ξ > given value, multiplied out so that no denominator can vanish.
        above = (1 - cos) * (1 + cos) * (both - 2 * cos) > xi * (both + 2 * cos)
        low, high = torch.where(above, low, cos), torch.where(above, cos, high)
    return low


def ray(problems: Problems, point: Point) -> tuple[Problems, Point]:
    """Restrict the losses to one dimension, along g, and look at the start there.

    A plain step is the same step there, at the cost of one column of A.
    """
    unit = point.g / point.g.norm(dim=-1, keepdim=True)
    columns = problems.along(unit).unsqueeze(-1)
    line = replace(problems, A=columns, dimension=torch.ones_like(problems.dimension))
    return line, look(line, line.start())


def opposed(
    family: str,
    count: int,
    rng: np.random.Generator,
    dimensions: tuple[int, int] = (1, 20),
    reach: float = 0.5,
) -> Problems:
    """Draw problems whose ξL is a given share of the curvature along g.

    Each task starts near its own minimizer, at most 10^reach from it, where there is curvature, and
    task 2 is turned against task 1. In the high dimensions of LARGE this would take too long: there
    tasks start anywhere, and ξ is small.
    """
    problems = draw(family, count, rng, dimensions)
    side = sideways(problems, rng)
    ratio = torch.from_numpy(10 ** (rng.choice([-1, 1], count) * rng.uniform(0.1, 2, count)))
    if dimensions[0] in LARGE:
        xi = torch.from_numpy(power(rng, -6, -1, count))
        return aim(problems, opposing(ratio, xi), ratio, side)
    distance = torch.from_numpy(power(rng, -2, reach, count))
    problems = near_minimizers(problems, sideways(problems, rng), distance)
    turned = aim(problems, torch.full((count,), -1.0, dtype=torch.float64), ratio, side)
    constant = turned.lipschitz()
    # The curvature along g at cos φ = −1 predicts that of the final problem; steps are checked
    # later.
    line = ray(turned, look(turned, turned.start()))
    ahead = curvature_by_losses(*line, 2 / constant, "remainder") / constant
    # One in five ratios ξL/ℓ is tiny, which is the edge cos φ → −1.
    share = np.where(rng.random(count) < 0.2, power(rng, -8, -1, count), 0.6 * rng.random(count))
    return aim(problems, opposing(ratio, torch.from_numpy(share) * ahead), ratio, side)


def long_step(
    problems: Problems, point: Point, form: str, needed: Tensor, rng: np.random.Generator
) -> Tensor:
    """Return a step with t(ℓ − ξL) ≥ `needed`, where ℓ depends on t, [N].

    The step is nan where the grid has none.

    In every second problem it is the shortest such step, found by bisection (by one Newton step for
    `pointwise`, whose ℓ falls with t). In the others it is any such step of the grid.
    """
    constant = problems.lipschitz()
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    grid = torch.from_numpy(GRID)[:, None] * (2 / constant) * (1 + 1e-9)
    line, along = ray(problems, point)

    def enough(step: Tensor) -> Tensor:
        return step * (curvature_by_losses(line, along, step, form) - xi * constant) >= needed

    if form == "pointwise":
        fits = grid * (_profile(line, along, grid) - xi * constant) >= needed
    else:
        fits = torch.stack([enough(step) for step in grid])
    # argmax of a boolean is the first step that fits; `low` is the last one that does not.
    first = fits.int().argmax(0)
    low, high = grid.gather(0, (first - 1).clamp(min=0)[None])[0], grid.gather(0, first[None])[0]
    if form == "pointwise":
        high = needed / (smallest_curvature(line, along, high) - xi * constant)
    else:
        # Bisection between them keeps `high` a step that fits.
        for _ in range(20):
            middle = (low + high) / 2
            good = enough(middle)
            low, high = torch.where(good, low, middle), torch.where(good, middle, high)
    chosen = (fits * torch.from_numpy(rng.random((len(grid), len(first))))).argmax(0)
    longer = grid.gather(0, chosen[None])[0]
    step = torch.where(torch.arange(len(first)) % 2 == 0, high * (1 + 1e-9), longer)
    return torch.where(fits.any(0) & (step > 0), step, torch.nan)


def _profile(problems: Problems, point: Point, grid: Tensor) -> Tensor:
    """Return the smallest curvature over ‖g‖² up to each step of `grid` [K, N].

    It is evaluated at those steps and at a few before the first one.
    """
    z, along = problems.z(problems.start()), problems.along(point.g)
    before = torch.linspace(0, 0.75, 4, dtype=torch.float64)[:, None] * grid[0]
    steps = torch.cat([before, grid])
    # The minimum over a segment falls with the step, hence a running minimum over all places.
    seen = _curvatures(problems, z, -along, along, steps) / point.square
    return seen.cummin(0).values[len(before) :]
