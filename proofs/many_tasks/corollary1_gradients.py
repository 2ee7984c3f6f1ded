"""Gradients of many tasks with g·g^PC > 0, and the angle between g^PC and g."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs.problems import Point
from proofs.sampling import Array, power

# Arrangements drawn for an instance, of which the first that fits is taken.
CANDIDATES = 6


class Angle(NamedTuple):
    """PCGrad's update against the plain one, each field [N]."""

    cos: Tensor  # cos(g, g^PC); nan where either is zero
    ratio: Tensor  # ‖g^PC‖/‖g‖


def angle(point: Point) -> Angle:
    """Compute the geometry of the two updates."""
    plain, surgery = point.g.norm(dim=-1), point.g_pc.norm(dim=-1)
    return Angle(point.inner / (plain * surgery), surgery / plain)


def arrangements(tasks: int, dimension: Tensor, width: int, rng: np.random.Generator) -> Tensor:
    """Draw gradients [N, T, D] about an axis: nearly a simplex, a cone, or opposite pairs.

    In a simplex all pairs have the cosine −1/(n − 1). The part along the axis spans 2.5 decades,
    and some gradients differ in length. In one dimension all point the same way.
    """
    count = len(dimension)
    inside = (np.arange(width) < dimension.numpy()[:, None]).astype(float)[:, None, :]
    axis = rng.normal(size=(count, 1, width)) * inside
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    spread = rng.normal(size=(count, tasks, width)) * inside
    spread -= (spread @ np.swapaxes(axis, -1, -2)) * axis
    lengths = np.where(rng.random((count, 1, 1)) < 0.5, 1.0, power(rng, -0.5, 0.5, count, tasks, 1))
    noise = power(rng, -6, -0.5, count, 1, 1) * spread
    pairs = spread.copy()
    pairs[:, 1::2] = (
        -pairs[:, : tasks - 1 : 2] * (1 + power(rng, -6, 0, count, 1, 1)) + noise[:, 1::2]
    )
    kind = rng.random((count, 1, 1))
    across = np.where(
        kind < 0.5, _simplex(spread) + noise, np.where(kind < 0.8, spread * lengths, pairs)
    )
    size = np.linalg.norm(across, axis=-1, keepdims=True).mean(1, keepdims=True)
    along = axis * power(rng, -1.5, 1, count, 1, 1) * np.where(size > 1e-9, size, 1.0)
    return torch.from_numpy(along + across)


def _simplex(spread: Array) -> Array:
    """Return the polar factor of the centered vectors, whose Gramian is 1 − 1/n: a simplex.

    In a lower dimension it is the projection of a simplex.
    """
    u, values, vt = np.linalg.svd(spread - spread.mean(1, keepdims=True), full_matrices=False)
    return np.asarray((u * (values > 1e-9 * values.max(-1, keepdims=True))[:, None, :]) @ vt)


def chosen(
    tasks: int, dimension: Tensor, width: int, orders: Tensor, rng: np.random.Generator
) -> Tensor:
    """Draw gradients [N, T, D] with g·g^PC > 0.

    The result is the first arrangement with that property, or else a cone.
    """
    found = arrangements(tasks, dimension, width, rng)
    for attempt in range(CANDIDATES):
        missing = ~(angle(Point.of(found, orders)).cos > 0)
        if not missing.any():
            break
        found[missing] = arrangements(tasks, dimension[missing], width, rng)
        # A narrow cone has no conflicts, so that g^PC = g and the search ends.
        if attempt == CANDIDATES - 2:
            center = found[missing].mean(1, keepdim=True)
            length = center.norm(dim=-1, keepdim=True)
            found[missing] = center + 0.1 * (found[missing] - center) * length
    return found


def draw_orders(tasks: int, count: int, rng: np.random.Generator) -> Tensor:
    """Draw Algorithm 1's orders for every instance, [N, T, T−1]."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return pcgrad.random_orders(tasks, generator, batch=(count,))
