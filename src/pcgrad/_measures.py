"""The paper's measures of gradient interference, all from the Gramian G_ij = g_i . g_j (Definitions
1, 2, 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcgrad._surgery import check_gramian


def _checked(gramian: Tensor) -> Tensor:
    """The Gramian in float64."""
    check_gramian(gramian)
    return gramian.detach().double()


def _norms(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """||g_i|| and ||g_j|| as ``[..., T, 1]`` and ``[..., 1, T]``, nan for a zero gradient: it has
    no direction.
    """
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    norms = squares.sqrt().masked_fill(squares == 0, torch.nan)
    return norms.unsqueeze(-1), norms.unsqueeze(-2)


def cosine(gramian: Tensor) -> Tensor:
    """cos phi_ij = g_i . g_j / (||g_i|| ||g_j||) (Definition 1), ``[..., T, T]``; nan for a zero
    gradient.
    """
    gramian = _checked(gramian)
    rows, columns = _norms(gramian)
    return (gramian / rows / columns).clamp(-1, 1)


def conflicting(gramian: Tensor) -> Tensor:
    """Whether g_i . g_j < 0 (Definition 1), bool ``[..., T, T]``; False for a zero gradient."""
    return _checked(gramian) < 0


def magnitude_similarity(gramian: Tensor) -> Tensor:
    """Phi_ij = 2 ||g_i|| ||g_j|| / (||g_i||^2 + ||g_j||^2) (Definition 2), ``[..., T, T]``; nan for
    a zero gradient.
    """
    rows, columns = _norms(_checked(gramian))
    return 2 / (rows / columns + columns / rows)


def curvature_bounding_measure(gramian: Tensor) -> Tensor:
    """xi_ij = (1 - cos^2 phi_ij) ||g_i - g_j||^2 / ||g_i + g_j||^2 (Definition 5), ``[..., T, T]``.

    In conflict xi = ||g^PC||^2 / ||g||^2 of the pair. nan for a zero gradient, inf where g_i =
    -g_j.

    Limit: a Gramian does not tell near opposites from exact ones. Where ||g_i + g_j|| is below 1e-8
    ||g_i|| (below 1e-3 ||g_i|| with products of float32) xi is decided by rounding: inf, or any
    number. It is 4 in the limit g_j -> -g_i at a right angle to g_i."""
    cos, gramian = cosine(gramian), _checked(gramian)
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    both = squares.unsqueeze(-1) + squares.unsqueeze(-2)
    apart, together = (
        both - 2 * gramian,
        (both + 2 * gramian).clamp(min=0),
    )  # rounding may leave less than 0
    xi = (1 - cos) * (1 + cos) * apart / together
    return xi.masked_fill((together == 0) & (both > 0) & ~cos.isnan(), torch.inf)


def condition_a(gramian: Tensor) -> Tensor:
    """Condition (a) of Theorem 2: cos phi_ij <= -Phi_ij, bool ``[..., T, T]``; False for a zero
    gradient.

    In conflict it says g . g^PC <= ||g||^2 for the pair. Limit: for near opposites, as in
    :func:`curvature_bounding_measure`, both sides are -1 up to rounding, which decides.
    """
    gramian = _checked(gramian)
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    rows, columns = squares.unsqueeze(-1), squares.unsqueeze(-2)
    largest = torch.maximum(
        rows, columns
    )  # multiplied out, and exact where g_i = -g_j: cos = -1 = -Phi
    a, b = rows / largest, columns / largest
    return (gramian / largest * (a + b) <= -2 * a * b) & (rows > 0) & (columns > 0)
