"""The ablations of Figure 3 (right): PCGrad's direction alone, and its magnitude alone."""

from __future__ import annotations

import torch
from torch import Tensor

from pcgrad._parameters import is_dense, shown
from pcgrad._surgery import check_gramian

ROUNDING = 16 * 2.0**-23
"""Share of (sum_j |w_j| ||g_j||)^2 below which a square of a length is rounding of float32 \
products."""


def _length(gramian: Tensor, weights: Tensor) -> Tensor:
    """Return ||sum_j w_j g_j||, ``[...]`` float64; exactly 0 if it vanishes up to rounding."""
    g, w = gramian.double(), weights.double()
    square = (w.unsqueeze(-2) @ g @ w.unsqueeze(-1)).squeeze((-1, -2))
    norms = g.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    # The triangle inequality bounds the length, and thereby the scale of the rounding.
    largest = (w.abs() * norms).sum(-1).square()
    return square.masked_fill(square < ROUNDING * largest, 0.0).sqrt()


def _lengths(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return ||sum_j w_j g_j|| and ||sum_j g_j||."""
    check_gramian(gramian)
    real = isinstance(weights, Tensor) and is_dense(weights) and not weights.is_complex()
    if not real or weights.shape[-1:] != gramian.shape[-1:]:
        raise ValueError(f"weights must be real and dense [..., T], got {shown(weights)}")
    if weights.device != gramian.device:
        raise ValueError(
            f"weights must be on {gramian.device} as the Gramian, not {weights.device}"
        )
    return _length(gramian, weights), _length(gramian, torch.ones_like(weights))


def _ratio(length: Tensor, by: Tensor) -> Tensor:
    """Return length / by, or 0 if ``by`` is 0: a zero vector has no direction to step along."""
    return (length / by).masked_fill(by == 0, 0.0).unsqueeze(-1)


@torch.no_grad()
def direction_only(gramian: Tensor, weights: Tensor) -> Tensor:
    """Return weights with PCGrad's direction and the plain sum's length: w ||g|| / ||g^PC||.

    The weights are 0 if g^PC vanishes up to the rounding of float32 products, that is, if its
    length is below 1.4e-3 of sum_j |w_j| ||g_j||.

    Args:
        gramian: ``[..., T, T]``.
        weights: ``[..., T]``, those of PCGrad's update.

    Returns:
        ``[..., T]`` float64.
    """
    update, plain = _lengths(gramian, weights)
    return weights.double() * _ratio(plain, update)


@torch.no_grad()
def magnitude_only(gramian: Tensor, weights: Tensor) -> Tensor:
    """Return weights with the plain sum's direction and PCGrad's length: 1 ||g^PC|| / ||g||.

    Args:
        gramian: ``[..., T, T]``.
        weights: ``[..., T]``, those of PCGrad's update.

    Returns:
        ``[..., T]`` float64.
    """
    update, plain = _lengths(gramian, weights)
    return torch.ones_like(weights, dtype=torch.float64) * _ratio(update, plain)
