"""Task gradients of linear layers, written into the caller's memory.

In a layer ``y = x W``, each row of ``x`` and of the output's gradient ``delta`` belongs to one
task, and the gradient of task t is ``x_t^T delta_t``. Callers reuse the memory in every step,
because page faults in new memory cost more than the product.
"""

from __future__ import annotations

import torch
from torch import Tensor

NARROW = 8
"""Up to this many columns the transposed product is faster on the CPU."""


def outer_products(left: Tensor, right: Tensor, out: Tensor, *, add: bool = False) -> None:
    """Compute ``out_t = left_t^T right_t`` for every task t.

    Args:
        left: ``[T, rows, m]``: the gradient of the output for weights as in ``nn.Linear``.
        right: ``[T, rows, n]``, in the dtype of ``left``: then the layer's input.
        out: ``[T, m, n]`` with rows of any stride. If its dtype has more bits, results are rounded
            to the dtype of the factors before they are stored.
        add: add to the values of ``out``, for a layer that was called several times.
    """
    # The CPU's product is slow for a result with few columns, so its transpose is computed.
    narrow = right.shape[-1] <= NARROW < left.shape[-1]
    if not narrow and out.dtype == left.dtype:
        # With beta 0, old values are not read: nan in reused memory does not propagate.
        out.baddbmm_(left.mT, right, beta=int(add))
        return
    product = torch.bmm(right.mT, left).mT if narrow else torch.bmm(left.mT, right)
    (out.add_ if add else out.copy_)(product)


def row_sums(delta: Tensor, out: Tensor, *, add: bool = False) -> None:
    """Compute ``out_t = sum of the rows of delta_t``, the task gradients of a bias.

    Args:
        delta: ``[T, rows, n]``.
        out: ``[T, n]`` of any stride, with at least the bits of ``delta``.
        add: add to the values of ``out``.
    """
    if add:
        out.add_(delta.sum(1))
    elif out.dtype == delta.dtype:
        torch.sum(delta, 1, out=out)
    else:
        out.copy_(delta.sum(1))
