"""The ablations of Figure 3 (right): PCGrad's direction alone, and its magnitude alone."""

from __future__ import annotations

import torch
from torch import Tensor

from pcgrad._surgery import check_gramian

ROUNDING = 16 * 2.0**-23
"""Share of (sum_j |w_j| ||g_j||)^2 below which a square of a length is rounding of float32 products."""


def _length(gramian: Tensor, weights: Tensor) -> Tensor:
    """||sum_j w_j g_j||, ``[...]`` float64; 0 where it vanishes up to rounding."""
    g, w = gramian.double(), weights.double()
    square = (w.unsqueeze(-2) @ g @ w.unsqueeze(-1)).squeeze((-1, -2))
    norms = g.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    largest = (w.abs() * norms).sum(-1).square()
    return square.masked_fill(square <= ROUNDING * largest, 0.0).sqrt()


def _lengths(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """||sum_j w_j g_j|| and ||sum_j g_j||."""
    check_gramian(gramian)
    return _length(gramian, weights), _length(gramian, torch.ones_like(weights))


def _ratio(length: Tensor, by: Tensor) -> Tensor:
    """length / by, and 0 where the direction's own length is 0: there is no direction, hence no
    step.
    """
    return (length / by).masked_fill(by == 0, 0.0).unsqueeze(-1)


@torch.no_grad()
def direction_only(gramian: Tensor, weights: Tensor) -> Tensor:
    """Weights of the update with PCGrad's direction and the plain sum's length: w ||g|| / ||g^PC||.

    0 where g^PC vanishes up to the rounding of float32 products: below 1.4e-3 of sum_j |w_j|
    ||g_j||.

    ``gramian [..., T, T]``, ``weights [..., T]`` -> ``[..., T]`` float64.
    """
    update, plain = _lengths(gramian, weights)
    return weights.double() * _ratio(plain, update)


@torch.no_grad()
def magnitude_only(gramian: Tensor, weights: Tensor) -> Tensor:
    """Weights of the update with the plain sum's direction and PCGrad's length: 1 ||g^PC|| / ||g||.

    ``gramian [..., T, T]``, ``weights [..., T]`` -> ``[..., T]`` float64.
    """
    update, plain = _lengths(gramian, weights)
    return torch.ones_like(weights, dtype=torch.float64) * _ratio(update, plain)
