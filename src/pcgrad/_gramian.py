"""The two passes over the task gradients: their Gramian, and the weighted sum added to ``.grad``.

Only these passes read tensors of the parameters' size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pcgrad._distributed import Group, average, world
from pcgrad._parameters import Parameters, is_dense, named, shown
from pcgrad._precision import full_precision, working_dtype

Blocks = Sequence[Tensor] | Mapping[str, Tensor]
"""Task gradients: one stack ``[T, *shape]`` per parameter."""

CHUNK = 4096
"""Columns of one piece of a Gramian."""

PIECE = 1 << 17
"""Columns of one piece of an update on the CPU: 512 KiB in float32, which stay in the cache."""


def as_blocks(gradients: Blocks) -> list[Tensor]:
    """Return the stacks as a list, after checking that they belong together."""
    found = gradients.values() if isinstance(gradients, Mapping) else gradients
    # A single tensor would pass as a sequence of its rows.
    several = isinstance(found, Iterable) and not isinstance(found, Tensor)
    blocks = list(found) if several else []
    if not several or not all(isinstance(block, Tensor) for block in blocks):
        raise TypeError(
            "gradients must be a list or dict of tensors [T, *shape], one per parameter"
        )
    if not blocks:
        raise ValueError("there are no gradients: the list is empty")
    for k, block in enumerate(blocks):
        number = block.is_floating_point() or block.is_complex()
        if not number or not is_dense(block) or block.dim() == 0:
            raise ValueError(
                f"gradient {k} must be floating-point or complex [T, *shape], and dense, got "
                + shown(block)
            )
        if block.shape[0] != blocks[0].shape[0]:
            raise ValueError(
                f"gradient {k} has {block.shape[0]} tasks, gradient 0 has {blocks[0].shape[0]}"
            )
        if block.device != blocks[0].device:
            raise ValueError(
                f"gradient {k} is on {block.device}, gradient 0 on {blocks[0].device}; "
                "use one device"
            )
    if blocks[0].shape[0] == 0:
        raise ValueError("there are no tasks: the gradients' first dimension is 0")
    return blocks


def rows_of(block: Tensor) -> Tensor:
    """Return a stack ``[T, *shape]`` as a real matrix ``[T, P]`` in the dtype of products."""
    # A complex number counts as two: a dot product is then the real part of the complex one.
    if block.is_complex():
        block = torch.view_as_real(block.resolve_conj())
    tasks, dtype = block.shape[0], working_dtype(block.dtype)
    rows = block if block.dim() == 2 else block.reshape(tasks, block.numel() // tasks)
    return rows if rows.dtype == dtype else rows.to(dtype)


def products(block: Tensor) -> Tensor:
    """Return the dot products ``[T, T]`` of one stack ``[T, *shape]``, symmetric up to rounding."""
    rows = rows_of(block)
    pieces = rows.shape[1] // CHUNK
    if pieces < 16:
        return rows @ rows.T
    # Over a million columns, one float32 sum has a relative error of 1e-5, float64 sums of pieces
    # have 1e-8.
    whole = pieces * CHUNK
    # One batched product over views: no piece is copied, and each stays in the cache.
    a = rows[:, :whole].unflatten(1, (pieces, CHUNK)).transpose(0, 1)
    rest = rows[:, whole:]
    return torch.bmm(a, a.mT).sum(0, dtype=torch.float64).add_(rest @ rest.T)


@torch.no_grad()
def gramian(gradients: Blocks, *, per_tensor: bool = False, group: Group = None) -> Tensor:
    """Return the dot products of all task gradients, G_ij = g_i . g_j.

    Products are computed per parameter in float32 (float64 for float64 gradients) with autocast and
    TF32 off, and summed in float64. For complex gradients, G_ij is the real part of the product.

    In float32, gradient norms from 1e-15 to 1e15 are supported. Above 1e19 a square is inf, below
    1e-22 a gradient counts as zero.

    Args:
        gradients: stacks ``[T, *shape]``, one per parameter, as from :func:`task_gradients`.
        per_tensor: return one Gramian per parameter instead of their sum.
        group: as in :func:`pcgrad.backward`; the gradients are first averaged **in place**.

    Returns:
        ``[T, T]`` float64, or ``[parameters, T, T]`` with ``per_tensor``.

    Raises:
        RuntimeError: if ``group`` is ``None`` among several processes.
        ValueError: if the stacks differ in tasks or device, or there are none.
    """
    blocks = as_blocks(gradients)
    average(blocks, world(group))
    with full_precision(blocks[0].device):
        found = [products(block) for block in blocks]
        return joined(found, list(range(len(found))) if per_tensor else None)


def joined(found: Sequence[Tensor], groups: list[int] | None) -> Tensor:
    """Sum products to a symmetric float64 ``[T, T]``, or to one for each of their group numbers."""
    if groups is None and len(found) == 1:
        only = found[0].double()
        return (only + only.mT).mul_(0.5)
    stacked = torch.stack(list(found)).double()
    stacked = (stacked + stacked.mT).mul_(0.5)
    if groups is None:
        return stacked.sum(0)
    if groups == list(range(len(stacked))):
        return stacked
    sums = stacked.new_zeros(max(groups) + 1, *stacked.shape[1:])
    return sums.index_add_(0, torch.tensor(groups, device=stacked.device), stacked)


@torch.no_grad()
def apply_weights(parameters: Parameters, gradients: Blocks, weights: Tensor) -> None:
    """Add the update to ``.grad``: ``parameter.grad += sum_j weights_j g_j``.

    Sums are computed in float32 (float64 for float64 gradients) and converted to the parameter's
    dtype and device.

    Args:
        parameters: leaves ``[*shape]``, in the order of the gradients.
        gradients: stacks ``[T, *shape]``, one per parameter.
        weights: ``[T]``, or ``[parameters, T]`` for surgery per tensor.

    Raises:
        RuntimeError: if a ``.grad`` has another shape or device than its parameter's gradient.
        ValueError: if shapes do not match.
    """
    parameters, blocks = list(named(parameters).values()), as_blocks(gradients)
    if len(parameters) != len(blocks):
        raise ValueError(f"{len(parameters)} parameters but {len(blocks)} gradients")
    tasks = blocks[0].shape[0]
    if not isinstance(weights, Tensor) or weights.is_complex():
        kind = "complex one" if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"weights must be a tensor, got a {kind}; use torch.tensor of real numbers")
    if weights.shape not in ((tasks,), (len(blocks), tasks)):
        raise ValueError(
            f"weights must be [{tasks}] or [{len(blocks)}, {tasks}], got {list(weights.shape)}"
        )
    pairs = list(zip(parameters, blocks, strict=True))
    for k, (parameter, block) in enumerate(pairs):
        if parameter.shape != block.shape[1:]:
            raise ValueError(
                f"gradient {k} is for shape {list(block.shape[1:])}, parameter {k} is "
                f"{list(parameter.shape)}"
            )
    ready = Weights(weights)
    # All updates are computed before the first is added, so that an error changes nothing.
    with full_precision(blocks[0].device):
        found = [ready.update(parameter, block, k) for k, (parameter, block) in enumerate(pairs)]
    add_gradients(list(zip(parameters, found, strict=True)))


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient in dense form; embeddings may produce sparse ones."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


class Weights:
    """Weights ``[T]`` or ``[parameters, T]`` of an update."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self._cast: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}

    def combine(self, block: Tensor, k: int = 0) -> Tensor:
        """Return ``sum_j weights_j g_j`` ``[P]`` of parameter k's stack."""
        rows = rows_of(block)
        # Converted once per dtype and device: a conversion per parameter would cost a call each.
        key = (rows.dtype, rows.device)
        if key not in self._cast:
            cast = self.weights.to(rows.device, rows.dtype).view(-1, 1, len(rows))
            self._cast[key] = cast.unbind()
        w = self._cast[key][k if self.weights.dim() == 2 else 0]
        if rows.device.type != "cpu" or rows.shape[1] <= PIECE:
            update = w @ rows
        else:
            # The CPU's product passes over its result once for every few rows. A piece of the
            # result stays in the cache between these passes.
            update = rows.new_empty(1, rows.shape[1])
            for piece, columns in zip(update.split(PIECE, 1), rows.split(PIECE, 1), strict=True):
                torch.mm(w, columns, out=piece)
        return torch.view_as_complex(update.view(-1, 2)) if block.is_complex() else update.view(-1)

    def update(self, parameter: Tensor, block: Tensor, k: int = 0) -> Tensor:
        """Return the same sum in the parameter's dtype and layout, ready to become ``.grad``."""
        update = self.combine(block, k).view(parameter.shape)
        same = update.dtype == parameter.dtype and update.device == parameter.device
        if same and update.stride() == parameter.stride():
            return update
        # empty_like keeps the parameter's strides, such as channels_last, as optimizers expect.
        return torch.empty_like(parameter).copy_(update)


@torch.no_grad()
def add_gradients(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Add gradients to the leaves' ``.grad``, all or none, then run post-accumulate hooks."""
    # Check and convert all pairs before changing any.
    pairs = [
        (leaf, gradient.to((leaf.grad_dtype if leaf.is_leaf else None) or gradient.dtype))
        for leaf, gradient in pairs
    ]
    for leaf, gradient in pairs:
        if hasattr(leaf, "_in_backward_optimizers"):
            raise RuntimeError(
                f"a parameter {list(leaf.shape)} has its optimizer in the backward pass, which "
                "does not see this update; step it in register_post_accumulate_grad_hook"
            )
        old = leaf.grad
        if old is None:
            continue
        if (old.shape, old.device) != (gradient.shape, gradient.device):
            raise RuntimeError(
                f"a parameter's .grad is {list(old.shape)} on {old.device}, its gradient "
                f"{list(gradient.shape)} on {gradient.device}; clear it with zero_grad()"
            )
        expanded = old.layout == torch.strided and any(
            step == 0 and size > 1 for step, size in zip(old.stride(), old.shape, strict=True)
        )
        if expanded or (old.is_inference() and not torch.is_inference_mode_enabled()):
            raise RuntimeError(
                f"a parameter's .grad {list(old.shape)} cannot be added to in place (an expanded "
                "or an inference tensor); clear it with zero_grad()"
            )
    for leaf, gradient in pairs:
        if leaf.grad is None:
            leaf.grad = gradient
        # A dense gradient cannot be added to a sparse one in place.
        elif leaf.grad.is_sparse and not gradient.is_sparse:
            leaf.grad = gradient + leaf.grad
        else:
            leaf.grad.add_(gradient.to(leaf.grad.dtype))
    # A hook may step an optimizer or clear .grad, so it runs after all gradients are in place.
    for leaf, _ in pairs:
        for hook in list((leaf._post_accumulate_grad_hooks or {}).values()):
            hook(leaf)
