"""The two passes over the gradients: their Gramian, and the weighted sum that goes into ``.grad``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pcgrad.distributed import Group, average, world
from pcgrad.precision import full_precision, working_dtype

Blocks = Sequence[Tensor] | Mapping[str, Tensor]
"""Task gradients: one stack ``[T, *shape]`` per parameter."""

CHUNK = 4096
"""Columns of one piece of a Gramian."""

BAND = 12
"""Tasks of one band of a Gramian on the CPU: the shape of product that the library is quickest at, per number."""

PIECE = 1 << 17
"""Columns of one piece of an update on the CPU: 512 KiB in float32, which stay in the cache between product and sum."""


def as_blocks(gradients: Blocks) -> list[Tensor]:
    """The stacks as a list, after checking that they belong together."""
    blocks = list(gradients.values()) if isinstance(gradients, Mapping) else list(gradients)
    if isinstance(gradients, Tensor) or not all(isinstance(block, Tensor) for block in blocks):
        raise TypeError(
            "gradients must be a list or dict of tensors [T, *shape], one per parameter"
        )
    if not blocks:
        raise ValueError("there are no gradients: the list is empty")
    for k, block in enumerate(blocks):
        if block.dim() == 0 or not block.is_floating_point():
            raise ValueError(
                f"gradient {k} must be floating-point [T, *shape], got {block.dtype} {list(block.shape)}"
            )
        if block.shape[0] != blocks[0].shape[0]:
            raise ValueError(
                f"gradient {k} has {block.shape[0]} tasks, gradient 0 has {blocks[0].shape[0]}"
            )
        if block.device != blocks[0].device:
            raise ValueError(
                f"gradient {k} is on {block.device}, gradient 0 on {blocks[0].device}; use one device"
            )
    if blocks[0].shape[0] == 0:
        raise ValueError("there are no tasks: the gradients' first dimension is 0")
    return blocks


def _rows(block: Tensor) -> Tensor:
    """A stack ``[T, *shape]`` as a matrix ``[T, P]`` in the dtype of products; a copy only of half
    precision.
    """
    tasks, dtype = block.shape[0], working_dtype(block.dtype)
    rows = block if block.dim() == 2 else block.reshape(tasks, block.numel() // tasks)
    return rows if rows.dtype == dtype else rows.to(dtype)


def products(block: Tensor) -> Tensor:
    """The products of one stack ``[T, *shape]``, ``[T, T]`` for :func:`joined`: to the last bit not
    symmetric.

    With many tasks on the CPU every pair is multiplied once: a band of tasks with itself and with
    those after it (at 20 tasks 2.5 times as fast as all pairs twice, at 50 tasks 1.4 times).
    """
    rows = _rows(block)
    tasks = len(rows)
    if tasks <= BAND or rows.device.type != "cpu":
        return _long_product(rows, rows)
    found = rows.new_empty(tasks, tasks, dtype=torch.float64)
    for k in range(0, tasks, BAND):
        band = slice(k, k + BAND)
        found[band, k:] = _long_product(rows[band], rows[k:])
        found[k + BAND :, band] = found[band, k + BAND :].mT
    return found


def _long_product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right.T``. Where it is long it is summed in float64 from pieces of CHUNK columns: a
    float32 sum over a million columns at once is off by 1e-5, in pieces by 1e-8, and pieces stay in
    the cache (2.9 times as fast)."""
    pieces = left.shape[1] // CHUNK
    if pieces < 16:
        return left @ right.T
    whole = pieces * CHUNK
    a, b = (rows[:, :whole].unflatten(1, (pieces, CHUNK)).transpose(0, 1) for rows in (left, right))
    return torch.bmm(a, b.mT).sum(0, dtype=torch.float64).add_(left[:, whole:] @ right[:, whole:].T)


@torch.no_grad()
def gramian(gradients: Blocks, *, per_tensor: bool = False, group: Group = None) -> Tensor:
    """The products of all task gradients, G_ij = g_i . g_j, summed parameter by parameter.

    Products run per parameter in float32 (float64 for float64 gradients; half precision is upcast
    block by block) with autocast and TF32 off; the sums over parameters, and over pieces of large
    ones, are float64. Gradient norms of 1e-15 to 1e15 are supported in float32; beyond 1e19 a
    square overflows and shows as inf on the diagonal, below 1e-22 a gradient counts as zero.

    Args:
        gradients: stacks ``[T, *shape]``, one per parameter, as :func:`pcgrad.task_gradients`
        returns them.
        per_tensor: keep one Gramian per parameter instead of their sum.
        group: data parallelism: the process group over which the gradients are averaged first, **in
        place**. ``None``
            is refused when a group of more than one process is initialised; ``False`` says "local
            on purpose".

    Returns:
        ``[T, T]`` float64, or ``[parameters, T, T]`` with ``per_tensor``.
    """
    blocks = as_blocks(gradients)
    average(blocks, world(group))
    with full_precision(blocks[0].device):
        return joined([products(block) for block in blocks], per_tensor=per_tensor)


def joined(found: Sequence[Tensor], *, per_tensor: bool) -> Tensor:
    """The products of all stacks as one Gramian in float64, or one after the other; symmetric to
    the last bit.
    """
    if not per_tensor and len(found) == 1:
        only = found[0].double()
        return (only + only.mT).mul_(0.5)
    stacked = torch.stack(list(found)).double()
    stacked = (stacked + stacked.mT).mul_(0.5)
    return stacked if per_tensor else stacked.sum(0)


@torch.no_grad()
def apply_weights(
    parameters: Iterable[Tensor] | Mapping[str, Tensor], gradients: Blocks, weights: Tensor
) -> None:
    """Add the update to ``.grad``: ``parameter.grad += sum_j weights_j g_j``, parameter by
    parameter.

    Sums run in float32 (float64 for float64 gradients), and the result takes the parameter's dtype.

    Args:
        parameters: leaves ``[*shape]`` in the order of the gradients.
        gradients: stacks ``[T, *shape]``.
        weights: ``[T]``, or ``[parameters, T]`` for surgery per tensor.
    """
    parameters = list(parameters.values()) if isinstance(parameters, Mapping) else list(parameters)
    blocks = as_blocks(gradients)
    if len(parameters) != len(blocks):
        raise ValueError(f"{len(parameters)} parameters but {len(blocks)} gradients")
    tasks = blocks[0].shape[0]
    if weights.shape not in ((tasks,), (len(blocks), tasks)):
        raise ValueError(
            f"weights must be [{tasks}] or [{len(blocks)}, {tasks}], got {list(weights.shape)}"
        )
    for k, (parameter, block) in enumerate(zip(parameters, blocks, strict=True)):
        if parameter.shape != block.shape[1:]:
            raise ValueError(
                f"gradient {k} is for shape {list(block.shape[1:])}, parameter {k} is {list(parameter.shape)}"
            )
        if parameter.device != block.device:
            raise ValueError(
                f"gradient {k} is on {block.device}, parameter {k} on {parameter.device}; use one device"
            )
    apply_checked(parameters, blocks, weights)


def apply_checked(parameters: Sequence[Tensor], blocks: Sequence[Tensor], weights: Tensor) -> None:
    """:func:`apply_weights` of what fits together; blocks may be flat, ``[T, P]``."""
    dtypes, tasks = {working_dtype(block.dtype) for block in blocks}, blocks[0].shape[0]
    cast = {
        dtype: weights.to(blocks[0].device, dtype).view(-1, 1, tasks).unbind() for dtype in dtypes
    }
    with full_precision(blocks[0].device):
        for k, (parameter, block) in enumerate(zip(parameters, blocks, strict=True)):
            w = cast[working_dtype(block.dtype)][k if weights.dim() == 2 else 0]
            _add_update(parameter, _rows(block), w)


def _add_update(parameter: Tensor, rows: Tensor, w: Tensor) -> None:
    """``parameter.grad += w @ rows`` with w ``[1, T]``. A new ``.grad`` is the product itself where
    its layout is the parameter's: memory that is touched for the first time costs more than the
    product."""
    grad = parameter.grad
    if (
        grad is not None
        and rows.device.type == "cpu"
        and grad.numel() > PIECE
        and grad.is_contiguous()
    ):
        for piece, columns in zip(grad.view(-1).split(PIECE), rows.split(PIECE, 1), strict=True):
            piece.add_((w @ columns)[0].to(grad.dtype))
        return
    update = _weighted_sum(rows, w).view(parameter.shape)
    if grad is None and update.dtype == parameter.dtype and update.stride() == parameter.stride():
        parameter.grad = update
    else:
        accumulate(parameter, update)


def _weighted_sum(rows: Tensor, w: Tensor) -> Tensor:
    """``w @ rows``, on the CPU piece by piece: the product passes over its result once for every
    few rows.
    """
    if rows.device.type != "cpu" or rows.shape[1] <= PIECE:
        return w @ rows
    update = rows.new_empty(1, rows.shape[1])
    for piece, columns in zip(update.split(PIECE, 1), rows.split(PIECE, 1), strict=True):
        torch.mm(w, columns, out=piece)
    return update


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to ``.grad`` as ``Tensor.backward`` does: same dtype and memory layout as the parameter,
    never an alias.
    """
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient.to(parameter.grad.dtype))
