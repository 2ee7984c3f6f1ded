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
    """Return ||sum_j w_j g_j|| ``[..., 1]``; exactly 0 if it vanishes up to rounding."""
    square = (weights.unsqueeze(-2) @ gramian @ weights.unsqueeze(-1)).squeeze((-1, -2))
    norms = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    # The triangle inequality bounds the length, and thereby the scale of the rounding.
    largest = (weights.abs() * norms).sum(-1).square()
    return square.masked_fill(square < ROUNDING * largest, 0.0).sqrt().unsqueeze(-1)


def _rescaled(gramian: Tensor, direction: Tensor, magnitude: Tensor) -> Tensor:
    """Return weights with the direction of some and the length of others; 0 without direction."""
    length = _length(gramian, direction)
    ratio = _length(gramian, magnitude) / length
    return direction * ratio.masked_fill(length == 0, 0.0)


def _checked(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return both arguments in float64, or raise."""
    gramian = check_gramian(gramian)
    real = isinstance(weights, Tensor) and is_dense(weights) and not weights.is_complex()
    if not real or weights.shape[-1:] != gramian.shape[-1:]:
        raise ValueError(f"weights must be real and dense [..., T], got {shown(weights)}")
    if weights.device != gramian.device:
        raise ValueError(
            f"weights must be on {gramian.device} as the Gramian, not {weights.device}"
        )
    return gramian, weights.double()


@torch.no_grad()
def direction_only(gramian: Tensor, weights: Tensor) -> Tensor:
    """Return weights with PCGrad's direction and the plain sum's length: w ||g|| / ||g^PC||.

    The weights are 0 if g^PC vanishes up to the rounding of float32 products, that is, if its
    length is below 1.4e-3 of sum_j |w_j| ||g_j||.

    Weights are ``[..., T]``, those of PCGrad's update; the result is float64.
    """
    gramian, weights = _checked(gramian, weights)
    return _rescaled(gramian, weights, torch.ones_like(weights))


@torch.no_grad()
def magnitude_only(gramian: Tensor, weights: Tensor) -> Tensor:
    """Return weights with the plain sum's direction and PCGrad's length: 1 ||g^PC|| / ||g||.

    Arguments and result are those of :func:`direction_only`.
    """
    gramian, weights = _checked(gramian, weights)
    return _rescaled(gramian, torch.ones_like(weights), weights)
