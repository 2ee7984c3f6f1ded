"""Gradients of many tasks that satisfy what Corollary 1 and its repairs ask of g^PC, and how g^PC
lies to g.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs.sampling import Array, power, stream

FORMS = ("printed", "short", "repaired")
CANDIDATES = (
    6  # arrangements of gradients drawn for an instance, of which the first that fits is taken
)


class Angle(NamedTuple):
    """How the update lies to the plain one, each [N]."""

    inner: Tensor  # g . g^PC
    cos: Tensor  # cos(g, g^PC); nan where either is zero
    ratio: Tensor  # ||g^PC|| / ||g||


def angle(g: Tensor, g_pc: Tensor) -> Angle:
    """The geometry of two updates [N, D]."""
    inner, lengths = (g * g_pc).sum(-1), (g.norm(dim=-1), g_pc.norm(dim=-1))
    return Angle(inner, inner / (lengths[0] * lengths[1]), lengths[1] / lengths[0])


def slack(seen: Angle, form: str) -> Tensor:
    """By how much the condition on g^PC holds, [N]: printed cos - 1/2, short also 1 - ratio,
    repaired cos.
    """
    if form == "repaired":
        return seen.cos
    return seen.cos - 0.5 if form == "printed" else torch.minimum(seen.cos - 0.5, 1 - seen.ratio)


def arrangements(tasks: int, dimension: Tensor, width: int, rng: np.random.Generator) -> Tensor:
    """Gradients [N, T, D] about an axis: nearly a simplex (cos -1/(n-1) for all pairs), a cone, or
    opposite pairs.

    The part along the axis spans 2.5 decades; some differ in length. In one dimension all point the
    same way."""
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
    """The polar factor of the centered vectors: Gramian 1 - 1/n, a simplex; its shadow where the
    dimension is lower.
    """
    u, values, vt = np.linalg.svd(spread - spread.mean(1, keepdims=True), full_matrices=False)
    return np.asarray((u * (values > 1e-9 * values.max(-1, keepdims=True))[:, None, :]) @ vt)


def chosen(
    tasks: int, dimension: Tensor, width: int, orders: Tensor, rng: np.random.Generator, form: str
) -> Tensor:
    """Gradients [N, T, D] that satisfy a form's condition on g^PC: the first arrangement that does,
    or a cone.
    """
    found = arrangements(tasks, dimension, width, rng)
    for attempt in range(CANDIDATES):
        missing = ~(slack(angle(found.sum(1), updates(found, orders)), form) >= 0)
        if not missing.any():
            break
        found[missing] = arrangements(tasks, dimension[missing], width, rng)
        if attempt == CANDIDATES - 2:
            center = found[missing].mean(1, keepdim=True)
            found[missing] = center + 0.1 * (found[missing] - center) * center.norm(
                dim=-1, keepdim=True
            )
    return found


def equal_angles(tasks: int, dimension: Tensor, width: int, rng: np.random.Generator) -> Tensor:
    """Gradients [N, T, D] of one length, with one cosine in (-1/(n-1), 0) for all pairs where the
    dimension allows.
    """
    inside = (np.arange(width) < dimension.numpy()[:, None]).astype(float)[:, None, :]
    axis = rng.normal(size=(len(dimension), 1, width)) * inside
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    spread = rng.normal(size=(len(dimension), tasks, width)) * inside
    spread -= (spread @ np.swapaxes(axis, -1, -2)) * axis
    return torch.from_numpy(
        _simplex(spread) + axis * power(rng, -0.8, -0.05, len(dimension), 1, 1) / tasks**0.5
    )


def updates(gradients: Tensor, orders: Tensor) -> Tensor:
    """g^PC of gradients [N, T, D] by the core, [N, D]."""
    weights = pcgrad.surgery_coefficients(gradients @ gradients.mT, orders).sum(-2)
    return (weights.unsqueeze(-2) @ gradients).squeeze(-2)


def draw_orders(tasks: int, count: int, rng: np.random.Generator) -> Tensor:
    """Algorithm 1's orders for every instance, [N, T, T-1]."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return pcgrad.random_orders(tasks, generator, batch=(count,))


def lengths(tasks: tuple[int, ...], count: int, seed: int) -> dict[str, dict[str, float]]:
    """How often ||g^PC|| <= ||g||, which the printed proof uses, holds where the printed hypotheses
    do.
    """
    shares = {}
    for n in tasks:
        rng = stream(seed, "corollary1/assumption", f"{n} tasks", 0)
        dimension = torch.from_numpy(rng.integers(2, 21, count))
        orders = draw_orders(n, count, rng)
        gradients = chosen(n, dimension, 20, orders, rng, "printed")
        seen = angle(gradients.sum(1), updates(gradients, orders))
        inside = seen.cos >= 0.5
        bounds = {
            "longer": seen.ratio > 1 + 1e-12,
            "too_long_for_descent": seen.ratio > 2 * seen.cos * (1 + 1e-12),
        }
        shares[str(n)] = {
            name: float(which[inside].double().mean()) for name, which in bounds.items()
        }
        shares[str(n)]["largest_ratio"] = float(seen.ratio[inside].max())
    return shares
