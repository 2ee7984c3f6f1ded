"""Draws random problems: each family's own shapes, then the geometry of the gradients.

Every draw comes from `stream(seed, purpose, family, chunk)`, so that any instance can be drawn
again from the numbers in a report. `edges` reaches cos → −1, cos → 0, Φ = 1 and Φ → 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from proofs.problems import Problems

Array = NDArray[np.float64]
CHUNK = 2000  # instances in one batch, about 30 MB
# Dimension → number of instances with prescribed spectra, the same at every scale.
LARGE = {100: 20, 300: 20, 1000: 20}


def stream(seed: int, purpose: str, family: str, chunk: int) -> np.random.Generator:
    """Return the random generator of one chunk of one family."""
    # A checksum, because Python's hash of a string differs between processes.
    return np.random.default_rng([seed, crc32(f"{purpose}/{family}".encode()), chunk])


def chunks(total: int, dimension: int = 20) -> list[int]:
    """Return the sizes of the batches that make up `total` instances.

    Batches are smaller in high dimensions, where an instance takes D² numbers.
    """
    size = CHUNK if dimension <= 20 else max(1, 4_000_000 // dimension**2)
    return [min(size, total - begin) for begin in range(0, total, size)]


def power(rng: np.random.Generator, low: float, high: float, *shape: int) -> Array:
    """Draw 10^U(low, high)."""
    return 10 ** rng.uniform(low, high, shape)


def shares(count: int, rng: np.random.Generator) -> Tensor:
    """Draw shares of a largest step: 1 for every second instance, U(0, 1) for the others."""
    # Bounds are tightest, and may be attained, at the largest step.
    return torch.from_numpy(np.where(np.arange(count) % 2 == 0, 1.0, 1 - rng.random(count)))


def draw(
    family: str,
    count: int,
    rng: np.random.Generator,
    dimensions: tuple[int, int] = (1, 20),
    conditioning: float = 1.0,
    tasks: int = 2,
) -> Problems:
    """Draw `count` problems of a family; the tasks are not yet related to each other.

    Dimensions are drawn uniformly from a closed range. A dimension of `LARGE` as its lower end
    gives every family A with prescribed singular values (`_spectrum`). `conditioning` scales the
    decades over which eigenvalues and features spread: 1 as described at the families below, 0 not
    at all.
    """
    low, high = dimensions
    dimension = rng.integers(low, high + 1, count)
    # Problems of different dimensions share one batch, filled up with zero columns.
    columns = (np.arange(high) < dimension[:, None]).astype(float)
    shape = Shape(count, tasks, high, dimension, columns, conditioning)
    a, b, w, s = (_spectrum if low in LARGE else _FAMILIES[family])(shape, rng)
    a = a * columns[:, None, None, :]
    # Families may return scalars for weights and scales.
    w = np.broadcast_to(w, b.shape)
    s = np.broadcast_to(s, (count, tasks))
    tensors = (torch.from_numpy(np.array(x, dtype=float)) for x in (a, b, w, s, dimension))
    return Problems(family, *tensors)


@dataclass(frozen=True)
class Shape:
    """The shape that a family has to fill: N problems of T tasks and width D."""

    count: int
    tasks: int
    width: int
    dimension: NDArray[np.int64]
    columns: Array  # [N, D], 1 where a column belongs to the problem, 0 otherwise
    conditioning: float


Drawn = tuple[Array, Array, Array | float, Array | float]  # A, b, w, s


def _features(shape: Shape, rows: int, rng: np.random.Generator) -> Array:
    """Draw rows of normal features.

    In about half of the problems the columns' scales span two decades (ill-conditioned).
    """
    spread = power(rng, -2 * shape.conditioning, 0, shape.count, shape.width)
    scales = np.where(rng.random((shape.count, 1)) < 0.5, 1.0, spread)
    return rng.normal(size=(shape.count, shape.tasks, rows, shape.width)) * scales[:, None, None, :]


def _least_squares(shape: Shape, rng: np.random.Generator) -> Drawn:
    """Between 1 and 2d equations per task: under- and overdetermined systems."""
    rows = 1 + (rng.random((shape.count, shape.tasks)) * 2 * shape.dimension[:, None]).astype(int)
    present = np.arange(2 * shape.width) < rows[..., None]
    a, b = _features(shape, 2 * shape.width, rng), rng.normal(size=present.shape)
    return a, b, present / rows[..., None], 1.0


def _roots(shape: Shape, decades: float, rng: np.random.Generator) -> Array:
    """Draw √λ with λ from 1 to 10^(−decades); in a quarter of the problems all λ are 1."""
    size = (shape.count, shape.tasks)
    flat = rng.random((shape.count, 1, 1)) < 0.25
    spread = (
        decades * shape.conditioning * rng.random((*size, 1)) * rng.random((*size, shape.width))
    )
    return np.where(flat, 1.0, 10 ** (-spread / 2))


def _quadratic(shape: Shape, rng: np.random.Generator) -> Drawn:
    """Quadratics with A = diag(√λ) Qᵀ, λ from 1 to 1/κ with κ up to 1e8."""
    count, tasks, width, columns = shape.count, shape.tasks, shape.width, shape.columns
    roots = _roots(shape, 8, rng)
    # The unit entries in the unused columns keep the matrix regular, and Q block-diagonal.
    used = columns[:, None, :, None] * columns[:, None, None, :]
    inner = rng.normal(size=(count, tasks, width, width)) * used
    rotation = np.linalg.qr(inner + np.eye(width) * (1 - columns)[:, None, :, None])[0]
    a = roots[..., None] * np.swapaxes(rotation, -1, -2)
    target = rng.normal(size=(count, tasks, width, 1)) * columns[:, None, :, None]
    return a, (a @ target)[..., 0], 1.0, 1.0


def _logistic(shape: Shape, rng: np.random.Generator) -> Drawn:
    """Logistic regression on 2D examples, started at random weights.

    Each task draws its labels from its own true weights.
    """
    x = _features(shape, 2 * shape.width, rng)
    truth, begin = rng.normal(size=(2, shape.count, shape.tasks, shape.width, 1)) / np.sqrt(
        shape.width
    )
    # log(1 + exp(−y x·θ)) = softplus(z) with z = −y x·θ, so that labels go into A and b.
    labels = np.where(rng.random(x.shape[:3]) < 1 / (1 + np.exp(-(x @ truth)[..., 0])), 1.0, -1.0)
    return -labels[..., None] * x, -labels * (x @ begin)[..., 0], 1 / (2 * shape.width), 1.0


def _softplus(shape: Shape, rng: np.random.Generator) -> Drawn:
    """Smoothed hinges w softplus(βz)/β of sharpness β from 1 to 10, on 3D random half-spaces."""
    beta = power(rng, 0, 1, shape.count, shape.tasks, 3 * shape.width)
    a = _features(shape, 3 * shape.width, rng)
    b = rng.normal(size=beta.shape) * beta
    return a * beta[..., None], b, rng.random(beta.shape) / beta, 1.0


def _huber(shape: Shape, rng: np.random.Generator) -> Drawn:
    """Robust regression with heavy-tailed residuals.

    The residuals range from all inside to most outside the quadratic zone.
    """
    residuals = rng.standard_t(3, size=(shape.count, shape.tasks, 2 * shape.width)) * power(
        rng, -1, 1, shape.count, 1, 1
    )
    return _features(shape, 2 * shape.width, rng), residuals, 1 / (2 * shape.width), 1.0


def _log_sum_exp(shape: Shape, rng: np.random.Generator) -> Drawn:
    """The smooth maximum τ log Σ exp(z/τ) of d + 2 planes whose slopes sum to 0, τ from 0.1 to 3.

    `conditioning` < 1 leaves out low temperatures τ, whose L (that of a kink) is far above the
    curvature almost everywhere.
    """
    rows, heat = shape.width + 2, power(rng, -shape.conditioning, 0.5, shape.count, shape.tasks)
    present = (np.arange(rows) < shape.dimension[:, None] + 2)[:, None, :, None]
    a = _features(shape, rows, rng) * present
    # Slopes that sum to 0 make the maximum bounded below.
    a = a - a.sum(-2, keepdims=True) / present.sum(-2, keepdims=True)
    b = rng.normal(size=(shape.count, shape.tasks, rows))
    # An absent plane repeats the first one far below it, so that the maximum never sees it.
    a = np.where(present, a, a[..., :1, :])
    b = np.where(present[..., 0], b, -1e3)
    return a / heat[..., None, None], b / heat[..., None], 1.0, heat


def _ridges(shape: Shape, rng: np.random.Generator) -> Drawn:
    """3D random ridges F(a·θ + b), with a from far below to far above one wavelength.

    They are non-convex, and bounded below where F is.
    """
    rows = 3 * shape.width
    steep = power(rng, -1, 1, shape.count, shape.tasks, rows)
    offsets = rng.normal(size=steep.shape) * power(rng, -1, 0.5, shape.count, 1, 1)
    a = _features(shape, rows, rng) * steep[..., None]
    return a, offsets, rng.random(steep.shape) / rows, 1.0


def _indefinite(shape: Shape, rng: np.random.Generator) -> Drawn:
    """The quadratics with random signs of their eigenvalues: saddles, unbounded below."""
    a, b, _, s = _quadratic(shape, rng)
    return a, b, rng.choice([-1.0, 1.0], b.shape), s


def _spectrum(shape: Shape, rng: np.random.Generator) -> Drawn:
    """A = diag(√λ) Qᵀ for high dimensions, λ from 1 to 1/κ with κ up to 1e6.

    Q is a product of three reflections, so that it is dense but costs only O(D²).
    """
    count, tasks, width = shape.count, shape.tasks, shape.width
    a = np.zeros((count, tasks, width, width))
    a[..., np.arange(width), np.arange(width)] = _roots(shape, 6, rng)
    for _ in range(3):
        normal = rng.normal(size=(count, tasks, width, 1))
        normal /= np.linalg.norm(normal, axis=-2, keepdims=True)
        a -= 2 * (a @ normal) * np.swapaxes(normal, -1, -2)
    return a, (a @ rng.normal(size=(count, tasks, width, 1)))[..., 0], 1.0, 1.0


_FAMILIES: dict[str, Callable[[Shape, np.random.Generator], Drawn]] = {
    "least_squares": _least_squares,
    "quadratic": _quadratic,
    "logistic": _logistic,
    "softplus": _softplus,
    "huber": _huber,
    "log_sum_exp": _log_sum_exp,
    **dict.fromkeys(("cauchy", "welsch", "wave", "sigmoid"), _ridges),
    "indefinite": _indefinite,
}


def edges(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw cos φ in (−1, 0) and ‖g₁‖/‖g₂‖ in [1e-3, 1e3], with extra weight near the edges."""
    kind = rng.random(count)
    # Powers of ten reach the edges to 1e-10, where formulas cancel.
    near_opposite, near_orthogonal = power(rng, -10, -1, count) - 1, -power(rng, -8, -1, count)
    cos = np.where(
        kind < 0.25, near_opposite, np.where(kind < 0.5, near_orthogonal, -rng.random(count))
    )
    kind = rng.random(count)
    ratio = np.where(
        kind < 0.2, 1.0, np.where(kind < 0.4, power(rng, -3, 3, count), power(rng, -1, 1, count))
    )
    return torch.from_numpy(cos), torch.from_numpy(ratio)


def sideways(problems: Problems, rng: np.random.Generator) -> Tensor:
    """Draw a random direction inside each problem's dimensions, [N, D]."""
    width = problems.A.shape[-1]
    inside = torch.arange(width) < problems.dimension.unsqueeze(-1)
    return torch.from_numpy(rng.normal(size=(len(problems), width))) * inside
