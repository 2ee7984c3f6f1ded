"""The paper's measures of gradient interference (Definitions 1, 2 and 5).

All are functions of the Gramian G_ij = g_i . g_j, ``[..., T, T]`` of any floating dtype, and return
tensors of its shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcgrad._surgery import check_gramian


def _norms(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Return ||g_i|| ``[..., T, 1]`` and ||g_j|| ``[..., 1, T]``; nan for a zero gradient."""
    # A zero gradient has no direction, and nan carries this into every measure.
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    norms = squares.sqrt().masked_fill(squares == 0, torch.nan)
    return norms.unsqueeze(-1), norms.unsqueeze(-2)


def cosine(gramian: Tensor) -> Tensor:
    """Return the cosines cos phi_ij = g_i . g_j / (||g_i|| ||g_j||) (Definition 1).

    The result is ``[..., T, T]`` as the Gramian, float64 in [-1, 1]; nan for a zero gradient.
    """
    gramian = check_gramian(gramian)
    rows, columns = _norms(gramian)
    return (gramian / rows / columns).clamp(-1, 1)


def conflicting(gramian: Tensor) -> Tensor:
    """Return whether g_i . g_j < 0 (Definition 1).

    The result is ``[..., T, T]`` as the Gramian, bool; False for a zero gradient.
    """
    return check_gramian(gramian) < 0


def magnitude_similarity(gramian: Tensor) -> Tensor:
    """Return Phi_ij = 2 ||g_i|| ||g_j|| / (||g_i||^2 + ||g_j||^2) (Definition 2).

    The result is ``[..., T, T]`` as the Gramian, float64 in [0, 1]; nan for a zero gradient.
    """
    rows, columns = _norms(check_gramian(gramian))
    # Quotients of norms neither overflow nor underflow where products of norms would.
    return 2 / (rows / columns + columns / rows)


def curvature_bounding_measure(gramian: Tensor) -> Tensor:
    """Return xi_ij = (1 - cos^2 phi_ij) ||g_i - g_j||^2 / ||g_i + g_j||^2 (Definition 5).

    For a conflicting pair, xi = ||g^PC||^2 / ||g||^2. Rounding decides the value of nearly opposite
    gradients, with ||g_i + g_j|| below 1e-8 ||g_i|| (below 1e-3 ||g_i|| with float32 products):
    it is then inf or any number. The limit of g_j -> -g_i at a right angle to g_i is 4.

    The result is ``[..., T, T]`` as the Gramian, float64; nan for a zero gradient and inf for
    opposite ones.
    """
    cos = cosine(gramian)
    gramian = check_gramian(gramian)
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    both = squares.unsqueeze(-1) + squares.unsqueeze(-2)
    # ||g_i - g_j||^2 and ||g_i + g_j||^2; rounding may make the latter negative.
    apart = both - 2 * gramian
    together = (both + 2 * gramian).clamp(min=0)
    # Factored, since 1 - cos^2 would cancel for nearly parallel gradients.
    xi = (1 - cos) * (1 + cos) * apart / together
    return xi.masked_fill((together == 0) & (both > 0) & ~cos.isnan(), torch.inf)


def condition_a(gramian: Tensor) -> Tensor:
    """Return condition (a) of Theorem 2, cos phi_ij <= -Phi_ij.

    For a conflicting pair it is equivalent to g . g^PC <= ||g||^2. For nearly opposite gradients,
    as in :func:`curvature_bounding_measure`, both sides are -1 up to rounding, which decides.

    The result is ``[..., T, T]`` as the Gramian, bool; False for a zero gradient.
    """
    gramian = check_gramian(gramian)
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    rows, columns = squares.unsqueeze(-1), squares.unsqueeze(-2)
    # Multiplied out, the condition is exact for g_i = -g_j, where cos = -1 = -Phi. Dividing by the
    # larger square prevents overflow.
    largest = torch.maximum(rows, columns)
    a, b = rows / largest, columns / largest
    return (gramian / largest * (a + b) <= -2 * a * b) & (rows > 0) & (columns > 0)
