"""The ablations of Figure 3 (right): PCGrad's direction alone, and its magnitude alone."""

from __future__ import annotations

import torch
from torch import Tensor


def _lengths(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """||sum_j w_j g_j|| and ||sum_j g_j||, each ``[...]`` float64."""
    w = weights.double()
    squares = (
        (w.unsqueeze(-2) @ gramian.double() @ w.unsqueeze(-1)).squeeze((-1, -2)),
        gramian.double().sum((-1, -2)),
    )
    update, plain = (square.clamp(min=0).sqrt() for square in squares)  # rounding may leave -0
    return update, plain


def _ratio(length: Tensor, by: Tensor) -> Tensor:
    """length / by, and 0 where the direction's own length is 0: there is no direction, hence no
    step.
    """
    return (length / by).masked_fill(by == 0, 0.0).unsqueeze(-1)


@torch.no_grad()
def direction_only(gramian: Tensor, weights: Tensor) -> Tensor:
    """Weights of the update with PCGrad's direction and the plain sum's length: w ||g|| / ||g^PC||.

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
