"""Corollary 1 is false for strongly convex tasks: a set that PCGrad never leaves, by intervals.

    Lᵢ = s²/18 + (λ/6)‖θ⊥‖² + uᵢ·θ,   λ = 19/20,   t = 1/L = 1,

s = θ₁ + θ₂ + θ₃, θ⊥ = θ − (s/3)(1, 1, 1), u₁ = (8, −4, −4)/3 and its permutations. L is
λ-strongly convex with L = 1 and the minimum 0. The set 3 ≤ |s| ≤ 5, ‖θ⊥‖ ≤ 11/5, where L ≥ 3/2, is
mapped into itself in each of the 8 orders, with cos(g, g^PC) > 1/2.

The set is covered by boxes in the coordinates s and (x, y), where (x, y) are those of θ⊥ in an
orthonormal basis with u₁ along x. A box is done when interval arithmetic shows that its image is
inside the set in all orders; otherwise it is halved in every direction. As a second route `walk`
runs the core's update in float64, with random orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

import pcgrad
from proofs.intervals import Array, Interval, dot
from proofs.problems import Point
from proofs.tally import BrokenError

CURVATURE = Fraction(19, 20)  # λ
LOW, HIGH, RADIUS = 3.0, 5.0, 2.2
# ‖θ⊥‖² of images must stay below this: (11/5)² = 4.84, less more than float64 can err.
SQUARED_RADIUS = 4.84 - 1e-9
# cos² must exceed this: 1/4, plus more than float64 can err.
COS_SQUARED = 0.25 + 1e-9
# Width of the first boxes: their corners and those of all halves are exact in float64.
WIDTH = 0.25
HALVINGS = 8
CORNERS = np.array(list(product((0.0, 1.0), repeat=3)))


@dataclass(frozen=True)
class Image:
    """The image of a batch of boxes in one combination of orders."""

    s: Interval  # s⁺
    radius2: Interval  # ‖θ⊥⁺‖²
    inner: Interval  # g · g^PC
    length2: Interval  # ‖g^PC‖²


@dataclass(frozen=True)
class Enclosure:
    """The results of covering the set."""

    boxes: int
    halvings: int
    smallest_cos: float
    loss_above_minimum: float


@dataclass(frozen=True)
class Walk:
    """Runs of the core from random points of the set."""

    runs: int
    updates: int
    smallest_cos: float
    smallest_loss: float
    stays: bool


def slopes() -> list[list[Interval]]:
    """Return uᵢ in the coordinates x and y."""
    length = Interval.of(Fraction(32, 3)).sqrt()
    half, root = length * Fraction(1, 2), Interval.of(8).sqrt()
    return [[length, Interval.of(0)], [-half, root], [-half, -root]]


def images(s: Interval, x: Interval, y: Interval) -> list[Image]:
    """Return the images of boxes in each of the 8 combinations of orders."""
    u, third = slopes(), CURVATURE / 3
    along = s / Interval.of(27).sqrt()
    gradients = [[along, x * third + a, y * third + b] for a, b in u]
    squares = [dot(g, g) for g in gradients]
    inner = [[dot(one, two) for two in gradients] for one in gradients]
    g = [s / Interval.of(3).sqrt(), x * CURVATURE, y * CURVATURE]
    found = []
    # Two orders for each of three tasks.
    for flips in product((False, True), repeat=3):
        weights = [Interval.of(1)] * 3
        for i, flip in enumerate(flips):
            j, k = sorted({0, 1, 2} - {i}, reverse=flip)
            first = -(inner[i][j].negative_part()) / squares[j]
            second = -((inner[i][k] + first * inner[j][k]).negative_part()) / squares[k]
            weights[j], weights[k] = weights[j] + first, weights[k] + second
        # The part that all gⱼ share is taken out of Σ wⱼ gⱼ, which keeps the intervals narrow.
        total = weights[0] + weights[1] + weights[2]
        pull_x, pull_y = (dot(weights, [row[k] for row in u]) for k in range(2))
        update = [
            s * total / Interval.of(27).sqrt(),
            x * third * total + pull_x,
            y * third * total + pull_y,
        ]
        shrink = Interval.of(1) - total * third
        after = [x * shrink - pull_x, y * shrink - pull_y]
        next_s = s * (Interval.of(1) - total * Fraction(1, 3))
        found.append(Image(next_s, dot(after, after), dot(g, update), dot(update, update)))
    return found


def cover() -> Array:
    """Return the lower corners of the first boxes, [N, 3]."""
    s = np.arange(LOW, HIGH, WIDTH)
    side = np.arange(-2.25, 2.25, WIDTH)
    return np.array(list(product(np.concatenate([s, -s - WIDTH]), side, side)))


def settled(corners: Array, width: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Test a batch of boxes.

    Returns:
        Which boxes meet the set, which of those stay inside, and the smallest cosine of the latter.
    """
    s, x, y = (Interval(corners[:, k], corners[:, k] + width) for k in range(3))
    meets = dot([x, y], [x, y]).low <= RADIUS**2 + 1e-9
    s, x, y = (Interval(v.low[meets], v.high[meets]) for v in (s, x, y))
    square = s.square() * Fraction(1, 3) + (x.square() + y.square()) * CURVATURE**2
    inside = np.ones(int(meets.sum()), dtype=bool)
    lowest = np.ones(len(inside))
    for image in images(s, x, y):
        # A step changes the sign of s; images are reflected to positive s for the comparison.
        low = np.where(s.low > 0, (-image.s).low, image.s.low)
        high = np.where(s.low > 0, (-image.s).high, image.s.high)
        cos2 = np.where(image.inner.low > 0, image.inner.low**2, 0) / (square * image.length2).high
        inside &= (low >= LOW) & (high <= HIGH) & (image.radius2.high <= SQUARED_RADIUS)
        inside &= cos2 >= COS_SQUARED
        lowest = np.minimum(lowest, cos2)
    return meets, inside, float(np.sqrt(lowest[inside].min(initial=1.0)))


def enclose() -> Enclosure:
    """Cover the set and show that no box leaves it.

    Raises:
        BrokenError: Some box may leave the set after all halvings.
    """
    corners, width, boxes, smallest = cover(), WIDTH, 0, 1.0
    for halvings in range(HALVINGS + 1):
        meets, inside, cos = settled(corners, width)
        corners = corners[meets][~inside]
        boxes, smallest = boxes + int(inside.sum()), min(smallest, cos)
        if not len(corners):
            return Enclosure(boxes, halvings, smallest, LOW**2 / 6)
        width /= 2
        corners = (corners[:, None] + CORNERS * width).reshape(-1, 3)
    raise BrokenError(f"corollary1: {len(corners)} boxes may leave the set")


def walk(seed: int, runs: int = 100, updates: int = 500) -> Walk:
    """Run the core's update in float64 from random points of the set."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    u = torch.tensor([[8.0, -4, -4], [-4, 8, -4], [-4, -4, 8]], dtype=torch.float64) / 3
    across = torch.from_numpy(rng.normal(size=(runs, 3)))
    across -= across.mean(-1, keepdim=True)
    across *= RADIUS / across.norm(dim=-1, keepdim=True) * torch.from_numpy(rng.random((runs, 1)))
    theta = across + torch.from_numpy(rng.uniform(LOW, HIGH, (runs, 1))) / 3
    cos, loss, stays = 1.0, np.inf, True
    for _ in range(updates):
        s = theta.sum(-1, keepdim=True)
        across = theta - s / 3
        gradients = (s / 9 + float(CURVATURE) / 3 * across).unsqueeze(1) + u
        point = Point.of(gradients, pcgrad.random_orders(3, generator, batch=(runs,)))
        cos = min(cos, float(torch.cosine_similarity(point.g, point.g_pc, dim=-1).min()))
        value = s[:, 0] ** 2 / 6 + float(CURVATURE) / 2 * (across**2).sum(-1)
        loss = min(loss, float(value.min()))
        stays &= bool(((s.abs() >= LOW) & (s.abs() <= HIGH)).all())
        stays &= bool((across.norm(dim=-1) <= RADIUS).all())
        theta = theta - point.g_pc
    return Walk(runs, updates, cos, loss, stays)
