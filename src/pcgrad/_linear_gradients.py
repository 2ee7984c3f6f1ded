"""Task gradients of linear layers, written into the caller's memory.

Callers reuse it in every step, because page faults in new memory cost more than the product.
"""

from __future__ import annotations

import torch
from torch import Tensor

NARROW = 8
"""Up to this many columns the transposed product is faster on the CPU."""


def outer_products(left: Tensor, right: Tensor, out: Tensor, *, add: bool = False) -> None:
    """Compute ``out_t = left_t^T right_t``, or add it, for every task t.

    Shapes are ``[T, rows, m]`` and ``[T, rows, n]`` in one dtype, and ``[T, m, n]`` of any stride.
    If the dtype of ``out`` has more bits, results are rounded to that of the factors first.
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
    """Sum the rows of delta ``[T, rows, n]`` to ``[T, n]``, the task gradients of a bias."""
    if add:
        out.add_(delta.sum(1))
    elif out.dtype == delta.dtype:
        torch.sum(delta, 1, out=out)
    else:
        out.copy_(delta.sum(1))
