"""Small batches of each family, and mutants of the core."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import pcgrad
from proofs.problems import CONVEX, Problems
from proofs.sampling import stream
from proofs.theorem1 import instances

CORE = pcgrad.surgery_coefficients


def make(family: str, count: int = 12) -> Problems:
    """Random problems in conflict at their start."""
    return instances(family, count, stream(1, "tests", family, 0))[0]


@pytest.fixture(params=CONVEX)
def problems(request: pytest.FixtureRequest) -> Problems:
    return make(request.param)


def mean(gramian: Tensor, orders: Tensor) -> Tensor:
    """Mean in the place of the sum."""
    return CORE(gramian, orders) / gramian.shape[-1]


def always(gramian: Tensor, orders: Tensor) -> Tensor:
    """Projects without asking for conflict."""
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    coefficients = -gramian / squares.unsqueeze(-2)
    return coefficients - torch.diag_embed(coefficients.diagonal(dim1=-2, dim2=-1)) + torch.eye(2, dtype=gramian.dtype)


def never(gramian: Tensor, orders: Tensor) -> Tensor:
    """The plain sum."""
    return torch.eye(2, dtype=gramian.dtype).expand_as(gramian)


def dropped(gramian: Tensor, orders: Tensor) -> Tensor:
    """Forgets the second task."""
    coefficients = CORE(gramian, orders).clone()
    coefficients[..., 1, :] = 0
    return coefficients


def epsilon(gramian: Tensor, orders: Tensor) -> Tensor:
    """An absolute epsilon in the denominator."""
    coefficients = CORE(gramian, orders)
    squares = gramian.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    off = coefficients * squares / (squares + 1e-3)
    return off - torch.diag_embed(off.diagonal(dim1=-2, dim2=-1)) + torch.eye(2, dtype=gramian.dtype)


MUTANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    function.__name__: function for function in (mean, always, never, dropped, epsilon)
}
