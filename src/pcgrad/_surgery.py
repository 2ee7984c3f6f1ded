"""Gradient surgery (Yu et al. 2020, Algorithm 1) on the T x T Gramian.

Every projected gradient is a combination of the original ones, g_i^PC = sum_j C_ij g_j, and every
dot product that Algorithm 1 needs is a combination of entries of G = (g_i . g_j). So nothing here
has the size of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pcgrad._many_tasks import CROWD, in_blocks
from pcgrad._orders import FEW, check_orders
from pcgrad._parameters import check_option
from pcgrad._precision import full_precision, working_dtype

Weighting = Callable[[Tensor], Tensor]
"""Gramian [..., T, T] -> weights [..., T] of the original gradients; torchjd's ``*Weighting`` classes fit."""

Reduction = Literal["sum", "mean"]
REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class Surgery:
    """What one surgery did: detached, O(T^2), no graph and nothing of the size of the parameters.

    Attributes:
        gramian: ``[..., T, T]`` float64, g_i . g_j.
        orders: ``[..., T, T-1]`` int64, the visiting order of every task; ``[T, 0]`` where a
            :data:`Weighting` took the place of Algorithm 1.
        coefficients: ``[..., T, T]`` float64; row i is g_i^PC in the original gradients, under a
            weighting w_i g_i.
        weights: ``[..., T]`` float64; the update is sum_j weights_j g_j.
    """

    gramian: Tensor
    orders: Tensor
    coefficients: Tensor
    weights: Tensor


def algorithm_1(
    gramian: Sequence[Sequence[float]], orders: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Algorithm 1 in coordinates of the original gradients, number by number: the definition.

    ``g_i^PC = sum_m C_im g_m`` starts as ``g_i`` and meets the other tasks in its order. Where it
    conflicts with ``g_j``, its component along ``g_j`` is removed: ``C_ij -= g_i^PC . g_j / G_jj``.

    Args:
        gramian: ``[T][T]``, the products ``G_mj = g_m . g_j``.
        orders: ``[T][T-1]``, the tasks that every task meets.

    Returns:
        C ``[T][T]``; row i is ``g_i^PC``.
    """
    coefficients = []
    for i, order in enumerate(orders):
        row = [0.0] * len(gramian)
        row[i] = 1.0
        for j in order:
            product = 0.0  # g_i^PC . g_j
            for coefficient, g_m_j in zip(row, gramian[j], strict=True):
                product += coefficient * g_m_j
            no_conflict = product >= 0 or gramian[j][j] <= 0  # nan is never taken for "no conflict"
            if not no_conflict:
                row[j] -= product / gramian[j][j]
        coefficients.append(row)
    return coefficients


def check_gramian(gramian: Tensor) -> None:
    """Refuse what is no Gramian ``[..., T, T]``."""
    if not isinstance(gramian, Tensor):
        raise TypeError(
            f"a Gramian is a tensor [..., T, T], got a {type(gramian).__name__}; see pcgrad.gramian"
        )
    square = gramian.dim() >= 2 and gramian.shape[-1] == gramian.shape[-2]
    if not gramian.is_floating_point() or not square:
        raise ValueError(
            f"a Gramian is a floating-point [..., T, T], got {gramian.dtype} {list(gramian.shape)}; "
            "pcgrad.gramian makes it from task gradients"
        )


@torch.no_grad()
def surgery_coefficients(gramian: Tensor, orders: Tensor) -> Tensor:
    """Run Algorithm 1 for all tasks (and all batch dimensions) at once, in coordinates of the
    original gradients.

    :func:`algorithm_1` states it for one instance. A zero gradient (G_jj = 0) conflicts with
    nothing. There is no epsilon, so the result is scale-equivariant. A product that is not a number makes its row not a number: it is never taken
    for "no conflict".

    Args:
        gramian: ``[..., T, T]``, any floating dtype; the algebra is float64.
        orders: ``[..., T, T-1]`` int64; batch dimensions broadcast against the Gramian's.

    Returns:
        C ``[..., T, T]`` float64 with g^PC = C @ G; the update is ``C.sum(-2) @ G``.
    """
    check_gramian(gramian)
    tasks = gramian.shape[-1]
    if tasks == 0:
        raise ValueError("there are no tasks: the Gramian is empty")
    check_orders(orders, tasks)
    gramian = gramian.detach().double()
    if (
        tasks <= FEW
        and gramian.dim() == orders.dim() == 2
        and gramian.device.type == orders.device.type == "cpu"
    ):
        found = algorithm_1(gramian.tolist(), orders.tolist())
        return torch.tensor(found, dtype=torch.float64, device="cpu")
    if tasks >= CROWD and gramian.dim() == orders.dim() == 2 and gramian.device.type == "cpu":
        return in_blocks(gramian, orders.cpu())
    visited, full = orders.to(gramian.device, non_blocking=True), gramian
    if orders.dim() > 2 or gramian.dim() > 2:
        batch = torch.broadcast_shapes(gramian.shape[:-2], orders.shape[:-2])
        visited, full = (
            visited.expand(*batch, tasks, tasks - 1),
            gramian.expand(*batch, tasks, tasks),
        )
    squares = full.diagonal(dim1=-2, dim2=-1).unsqueeze(-2).expand(full.shape).gather(-1, visited)
    # No projection onto a zero gradient's plane.
    squares = squares.masked_fill_(squares <= 0, torch.inf).neg_()
    unit = torch.eye(tasks, dtype=torch.float64, device=gramian.device)
    coefficients = unit.expand(full.shape).contiguous()
    for k in range(tasks - 1):
        j = visited[..., k : k + 1]  # [..., T, 1]: whom each task meets at position k
        g_j = full.gather(-2, j.expand(full.shape))  # row i: the products of g_j with all gradients
        product = g_j.mul_(coefficients).sum(-1, keepdim=True)  # g_i^PC . g_j
        step = product.clamp_(max=0).div_(squares[..., k : k + 1])  # clamp and quotient keep nan
        coefficients.scatter_add_(-1, j, step)
    return coefficients


def surgery(gramian: Tensor, orders: Tensor, *, reduction: Reduction = "sum") -> Surgery:
    """Algorithm 1 from a Gramian: coefficients C and the weights of the update.

    ``reduction="sum"`` (Algorithm 1): weights_j = sum_i C_ij. ``"mean"`` (popular ports): 1/T of
    that."""
    check_option("reduction", reduction, REDUCTIONS)
    coefficients = surgery_coefficients(gramian, orders)
    weights = coefficients.sum(-2) if reduction == "sum" else coefficients.mean(-2)
    return Surgery(gramian.detach().double(), orders, coefficients, weights)


def weighted(gramian: Tensor, weighting: Weighting) -> Surgery:
    """The weights that a weighting gives a Gramian ``[T, T]``, or each of ``[n, T, T]``."""
    gramian = gramian.detach().double()
    stacked = gramian.view(-1, *gramian.shape[-2:])
    found = [weighting(matrix) for matrix in stacked]
    tasks = gramian.shape[-1]
    for weights in found:
        if not isinstance(weights, Tensor) or weights.shape != (tasks,):
            got = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise ValueError(f"a weighting must return weights [{tasks}] of a Gramian, got {got}")
    weights = torch.stack([w.detach().to(gramian) for w in found]).view(gramian.shape[:-1])
    none = torch.empty(tasks, 0, dtype=torch.int64, device="cpu")
    return Surgery(gramian, none, torch.diag_embed(weights), weights)


@torch.no_grad()
def project_conflicting(gradients: Tensor, orders: Tensor) -> Tensor:
    """The projected gradients g_i^PC of Algorithm 1.

    Args:
        gradients: ``[..., T, P]``; half precision is computed in float32.
        orders: ``[..., T, T-1]``.

    Returns:
        g^PC ``[..., T, P]`` in the dtype of the gradients.
    """
    if gradients.dim() < 2 or not gradients.is_floating_point():
        raise ValueError(
            f"gradients must be floating-point [..., T, P], got {gradients.dtype} {list(gradients.shape)}"
        )
    with full_precision(gradients.device):
        g = gradients.detach().to(working_dtype(gradients.dtype))
        coefficients = surgery_coefficients(g @ g.transpose(-1, -2), orders)
        return (coefficients.to(g.dtype) @ g).to(gradients.dtype)
