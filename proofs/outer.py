"""The scalar functions F of the random problems, with their first and second derivatives.

| family        | F(z)                 | F''                    | max abs F'' | convex |
|---------------|----------------------|------------------------|-------------|--------|
| least_squares | z²/2                 | 1                      | 1           | yes    |
| quadratic     | z²/2                 | 1                      | 1           | yes    |
| logistic      | log(1 + e^z)         | σ(z) σ(−z)             | 1/4         | yes    |
| softplus      | log(1 + e^z)         | σ(z) σ(−z)             | 1/4         | yes    |
| huber         | z²/2, or abs z − 1/2 | 1 if abs z ≤ 1, else 0 | 1           | yes    |
| cauchy        | log(1 + z²)/2        | (1 − z²)/(1 + z²)²     | 1           | no     |
| welsch        | 1 − exp(−z²/2)       | (1 − z²) exp(−z²/2)    | 1           | no     |
| wave          | 1 − cos z            | cos z                  | 1           | no     |
| sigmoid       | σ(z)                 | p(1 − p)(1 − 2p)       | 1/(6√3)     | no     |
| indefinite    | z²/2, weights ±1     | 1                      | 1           | no     |

Here σ is the logistic function and p = σ(z). cauchy, welsch, wave and sigmoid are bounded below;
indefinite is not.
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
