"""The scalar functions F of the random problems, with their first and second derivatives.

cauchy, welsch, wave, sigmoid and indefinite are not convex. indefinite, whose weights are ±1, is
also not bounded below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus


class Outer(NamedTuple):
    """F, F' and F'' of one family, elementwise, and max |F''|."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    curvature: Callable[[Tensor], Tensor]
    largest: float


def _sigmoid_curvature(z: Tensor) -> Tensor:
    p = z.sigmoid()
    return p * (1 - p) * (1 - 2 * p)


SQUARE = Outer(lambda z: z**2 / 2, lambda z: z, torch.ones_like, 1.0)
SMOOTH_HINGE = Outer(
    lambda z: softplus(z, threshold=50), torch.sigmoid, lambda z: z.sigmoid() * (-z).sigmoid(), 0.25
)
# log1p, expm1 and 2 sin²(z/2) keep their accuracy near z = 0, where the plain forms cancel.
OUTER = {
    "least_squares": SQUARE,
    "quadratic": SQUARE,
    "logistic": SMOOTH_HINGE,
    "softplus": SMOOTH_HINGE,
    "huber": Outer(
        lambda z: torch.where(z.abs() <= 1, z**2 / 2, z.abs() - 0.5),
        lambda z: z.clamp(-1, 1),
        lambda z: (z.abs() <= 1).to(z.dtype),
        1.0,
    ),
    "cauchy": Outer(
        lambda z: torch.log1p(z**2) / 2,
        lambda z: z / (1 + z**2),
        lambda z: (1 - z**2) / (1 + z**2) ** 2,
        1.0,
    ),
    "welsch": Outer(
        lambda z: -torch.expm1(-(z**2) / 2),
        lambda z: z * (-(z**2) / 2).exp(),
        lambda z: (1 - z**2) * (-(z**2) / 2).exp(),
        1.0,
    ),
    "wave": Outer(lambda z: 2 * (z / 2).sin() ** 2, torch.sin, torch.cos, 1.0),
    "sigmoid": Outer(
        torch.sigmoid, lambda z: z.sigmoid() * (-z).sigmoid(), _sigmoid_curvature, 3**-0.5 / 6
    ),
    "indefinite": SQUARE,
}
