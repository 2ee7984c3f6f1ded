"""Gradient surgery (Yu et al. 2020, Algorithm 1) on the Gramian G = (g_i . g_j), ``[T, T]``.

Each projected gradient is a linear combination of the original ones, g_i^PC = sum_j C_ij g_j, so
every dot product that Algorithm 1 needs is one of entries of the Gramian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pcgrad._many_tasks import CROWD, in_blocks
from pcgrad._orders import FEW, check_orders
from pcgrad._parameters import check_option, is_dense, shown
from pcgrad._precision import full_precision, working_dtype

Weighting = Callable[[Tensor], Tensor]
"""Gramian [T, T] -> weights [T] of the original gradients; torchjd's ``*Weighting`` classes fit."""

Reduction = Literal["sum", "mean"]
REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class Surgery:
    """The record of one surgery: detached tensors of O(T^2) numbers, which keep no graph alive.

    Attributes:
        gramian: ``[..., T, T]`` float64, the dot products g_i . g_j.
        orders: ``[..., T, T-1]`` int64, the visiting order of every task; ``[T, 0]`` under a
            :data:`Weighting`.
        coefficients: ``[..., T, T]`` float64; row i expresses g_i^PC in the original gradients, or
            w_i g_i under a weighting.
        weights: ``[..., T]`` float64; the update is sum_j weights_j g_j.
    """

    gramian: Tensor
    orders: Tensor
    coefficients: Tensor
    weights: Tensor


def algorithm_1(
    gramian: Sequence[Sequence[float]], orders: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Run Algorithm 1 on Python numbers: the readable definition of :func:`surgery_coefficients`.

    ``g_i^PC = sum_m C_im g_m`` starts as ``g_i`` and visits the other tasks in its order. If it
    conflicts with ``g_j``, its component along ``g_j`` is removed: ``C_ij -= g_i^PC . g_j / G_jj``.
    """
    coefficients = []
    for i, order in enumerate(orders):
        row = [0.0] * len(gramian)
        row[i] = 1.0
        for j in order:
            # g_i^PC . g_j is linear in the coordinates, so row j of the Gramian is all it needs.
            product = 0.0
            for coefficient, g_m_j in zip(row, gramian[j], strict=True):
                product += coefficient * g_m_j
            # Phrased as "no conflict" so that nan, for which every comparison is False, projects
            # and propagates into the result. A zero g_j defines no plane to project onto.
            no_conflict = product >= 0 or gramian[j][j] <= 0
            if not no_conflict:
                row[j] -= product / gramian[j][j]
        coefficients.append(row)
    return coefficients


def check_gramian(gramian: Tensor) -> Tensor:
    """Return a Gramian in float64, or raise if it is no floating-point tensor ``[..., T, T]``."""
    if not isinstance(gramian, Tensor):
        raise TypeError(
            f"a Gramian is a tensor [..., T, T], got a {type(gramian).__name__}; see pcgrad.gramian"
        )
    whole = is_dense(gramian) and gramian.is_floating_point() and gramian.dim() >= 2
    if not whole or gramian.shape[-1] != gramian.shape[-2]:
        raise ValueError(
            f"a Gramian is a floating-point [..., T, T], and dense, got {shown(gramian)}; "
            "pcgrad.gramian makes it from task gradients"
        )
    return gramian.detach().double()


@torch.no_grad()
def surgery_coefficients(gramian: Tensor, orders: Tensor) -> Tensor:
    """Run Algorithm 1 on a Gramian and return the projected gradients' coefficients.

    A zero gradient (G_jj = 0) conflicts with no other. There is no epsilon, so the result is
    scale-equivariant. If a dot product is nan, its row becomes nan.

    Args:
        gramian: ``[..., T, T]``; the computation is in float64.
        orders: ``[..., T, T-1]`` int64; batch dimensions broadcast against the Gramian's.

    Returns:
        C ``[..., T, T]`` float64. With the task gradients as rows of g ``[T, P]``, the projected
        gradients are ``C @ g`` and the update of Algorithm 1 is ``C.sum(-2) @ g``.

    Raises:
        ValueError: if a shape is wrong, there are no tasks, or a row of CPU orders is not a
            permutation of the other tasks.
    """
    gramian = check_gramian(gramian)
    tasks = gramian.shape[-1]
    if tasks == 0:
        raise ValueError("there are no tasks: the Gramian is empty")
    check_orders(orders, tasks)
    if orders.is_meta and not gramian.is_meta:
        raise ValueError("orders on the meta device have no values; make them on the CPU")
    # For a few tasks on the CPU, the overhead of tensor operations exceeds their arithmetic.
    single = gramian.dim() == orders.dim() == 2 and gramian.device.type == "cpu"
    if single and tasks <= FEW and orders.device.type == "cpu":
        found = algorithm_1(gramian.tolist(), orders.tolist())
        return torch.tensor(found, dtype=torch.float64, device="cpu")
    # For many tasks, one visit at a time would read the whole Gramian at each of T - 1 visits.
    if single and tasks >= CROWD:
        return in_blocks(gramian, orders.cpu())
    visited, full = orders.to(gramian.device, non_blocking=True), gramian
    if orders.dim() > 2 or gramian.dim() > 2:
        try:
            batch = torch.broadcast_shapes(gramian.shape[:-2], orders.shape[:-2])
        except RuntimeError as error:
            raise ValueError(
                f"orders {list(orders.shape)} do not broadcast against a Gramian "
                f"{list(gramian.shape)}; give them its leading dimensions, or none"
            ) from error
        visited = visited.expand(*batch, tasks, tasks - 1)
        full = gramian.expand(*batch, tasks, tasks)
    # -G_jj at every visit; infinity for a zero gradient turns the projection into a step of zero.
    squares = full.diagonal(dim1=-2, dim2=-1).unsqueeze(-2).expand(full.shape).gather(-1, visited)
    squares = squares.masked_fill_(squares <= 0, torch.inf).neg_()
    unit = torch.eye(tasks, dtype=torch.float64, device=gramian.device)
    coefficients = unit.expand(full.shape).contiguous()
    # Tasks are independent of each other, so position k of all orders is one batched step.
    for k in range(tasks - 1):
        j = visited[..., k : k + 1]  # [..., T, 1]: the task that each task visits at position k
        g_j = full.gather(-2, j.expand(full.shape))  # row i: dot products of g_j with all gradients
        product = g_j.mul_(coefficients).sum(-1, keepdim=True)  # g_i^PC . g_j
        # The clamp leaves only conflicts. Unlike a comparison, clamp and quotient propagate nan.
        step = product.clamp_(max=0).div_(squares[..., k : k + 1])
        coefficients.scatter_add_(-1, j, step)
    return coefficients


def surgery(gramian: Tensor, orders: Tensor, *, reduction: Reduction = "sum") -> Surgery:
    """Run Algorithm 1 as :func:`surgery_coefficients`, and return also the update's weights.

    Args:
        gramian: ``[..., T, T]``.
        orders: ``[..., T, T-1]`` int64.
        reduction: ``"sum"`` (Algorithm 1) gives weights_j = sum_i C_ij; ``"mean"`` (a popular port)
            divides them by T.
    """
    check_option("reduction", reduction, REDUCTIONS)
    coefficients = surgery_coefficients(gramian, orders)
    weights = coefficients.sum(-2) if reduction == "sum" else coefficients.mean(-2)
    return Surgery(gramian.detach().double(), orders, coefficients, weights)


def weighted(gramian: Tensor, weighting: Weighting) -> Surgery:
    """Apply a weighting to a float64 Gramian ``[T, T]``, or to each Gramian of ``[n, T, T]``."""
    # A weighting only has to accept a single Gramian, so a stack is unrolled.
    stacked = gramian.view(-1, *gramian.shape[-2:])
    # Copies, because a weighting may change its argument in place.
    found = [weighting(matrix.clone()) for matrix in stacked]
    tasks = gramian.shape[-1]
    for weights in found:
        # A cast to the Gramian's dtype would drop imaginary parts.
        if not isinstance(weights, Tensor) or weights.shape != (tasks,) or weights.is_complex():
            raise ValueError(
                f"a weighting must return real weights [{tasks}] of a Gramian, got {shown(weights)}"
            )
    weights = torch.stack([w.detach().to(gramian) for w in found]).view(gramian.shape[:-1])
    none = torch.empty(tasks, 0, dtype=torch.int64, device="cpu")
    return Surgery(gramian, none, torch.diag_embed(weights), weights)


@torch.no_grad()
def project_conflicting(gradients: Tensor, orders: Tensor) -> Tensor:
    """Return the projected gradients g_i^PC of Algorithm 1, ``[..., T, P]`` as the gradients.

    Orders are ``[..., T, T-1]`` int64. Half precision is computed in float32.
    """
    if not isinstance(gradients, Tensor):
        raise TypeError(f"gradients must be a tensor [..., T, P], got {shown(gradients)}")
    if not is_dense(gradients) or gradients.dim() < 2 or not gradients.is_floating_point():
        raise ValueError(
            "gradients must be floating-point [..., T, P], and dense, got " + shown(gradients)
        )
    with full_precision(gradients.device):
        g = gradients.detach().to(working_dtype(gradients.dtype))
        coefficients = surgery_coefficients(g @ g.transpose(-1, -2), orders)
        return (coefficients.to(g.dtype) @ g).to(gradients.dtype)
