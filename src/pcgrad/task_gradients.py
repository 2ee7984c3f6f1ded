"""One gradient per task, for losses that share one graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from pcgrad.graph import Reach

STRATEGIES = ("loop", "batched")

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Mapping[str, Tensor]
"""``module.parameters()``, ``module.named_parameters()`` or a dict; names make messages readable."""


def named(parameters: Parameters, what: str = "parameters") -> dict[str, Tensor]:
    """The parameters by name (or by position and shape), after checking that each is listed once."""
    if isinstance(parameters, Tensor):
        raise TypeError(f"{what} must be a list of tensors, got one tensor")
    items = list(parameters.items()) if isinstance(parameters, Mapping) else list(parameters)
    table: dict[str, Tensor] = {}
    for k, item in enumerate(items):
        name, tensor = item if isinstance(item, tuple) else (None, item)
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{what} must be tensors or (name, tensor) pairs, got {type(tensor).__name__} at position {k}"
            )
        label = str(name) if name is not None else f"#{k} {list(tensor.shape)}"
        if label in table:
            raise ValueError(f"{what} name {label!r} is listed twice")
        if not tensor.is_floating_point():
            raise TypeError(f"{what} must be floating point: {label} is {tensor.dtype}")
        table[label] = tensor
    if len({id(tensor) for tensor in table.values()}) < len(table):
        seen: dict[int, str] = {}
        first, second = next(
            (seen[id(t)], n) for n, t in table.items() if seen.setdefault(id(t), n) != n
        )
        raise ValueError(f"{what} {first} and {second} are the same tensor; list it once")
    devices = {tensor.device for tensor in table.values()}
    if len(devices) > 1:
        raise ValueError(
            f"{what} are on several devices ({', '.join(sorted(map(str, devices)))}); use one"
        )
    return table


def check_losses(losses: Sequence[Tensor]) -> list[Tensor]:
    """The losses as a list, after checking that every one is a scalar with a graph, on one device."""
    if isinstance(losses, Tensor):
        raise TypeError(
            "losses must be a Python list of scalars: a stacked tensor sends every task through all heads"
        )
    losses = list(losses)
    if not losses:
        raise ValueError("there are no tasks: the list of losses is empty")
    for i, loss in enumerate(losses):
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss of task {i} must be a tensor, got {type(loss).__name__}")
        if loss.numel() != 1:
            raise ValueError(
                f"the loss of task {i} must be a scalar, got shape {list(loss.shape)}; reduce it first"
            )
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of task {i} has no graph; leave the task out, or compute it with gradients"
            )
        if loss.device != losses[0].device:
            raise ValueError(
                f"the loss of task {i} is on {loss.device}, that of task 0 on {losses[0].device}"
            )
    return losses


def warn_single(table: Mapping[str, Tensor], reach: Reach, tasks: int) -> None:
    """Warn of listed parameters that a single loss reaches: a head among the shared parameters."""
    masks = {name: reach.of(tensor) for name, tensor in table.items()}
    single = [
        f"{name} (task {mask.bit_length() - 1})"
        for name, mask in masks.items()
        if mask.bit_count() == 1
    ]
    if tasks > 1 and single:
        warnings.warn(
            f"listed as shared but reached by a single loss: {', '.join(single)}; a task's own parameters "
            "do not belong into the dot products",
            stacklevel=3,
        )


def task_gradients(
    losses: Sequence[Tensor],
    parameters: Parameters,
    *,
    strategy: str = "loop",
    retain_graph: bool = False,
) -> list[Tensor]:
    """The gradient of every loss with respect to every parameter, from one forward pass.

    A parameter that a loss does not reach has a zero gradient for it; so has a frozen one. Sparse
    gradients are made dense. ``.grad`` is not touched. Warns once, by name, of a listed parameter
    that a single loss reaches.

    Args:
        losses: T scalars that share a graph, as a Python list. (Iterating over a stacked tensor
        would send every
            task's backward pass through all heads, and one loss that is not a number would poison
            all tasks.)
        parameters: tensors, ``(name, tensor)`` pairs or a dict of them.
        strategy: ``"loop"``: one backward pass per task. ``"batched"``: one vectorised backward
            pass. It runs every head for every task, holds the inner gradients of T plain passes,
            mixes up tasks where a loss is not finite, and fails under inductor. It is faster where
            calling kernels costs most: many tiny layers.
        retain_graph: keep the graph for another backward pass.

    Returns:
        One stack ``[T, *shape]`` per parameter, in its dtype.
    """
    losses = check_losses(losses)
    table = named(parameters)
    if not table:
        raise ValueError("there are no parameters: the list is empty")
    reach = Reach(losses)
    warn_single(table, reach, len(losses))
    return stacked_gradients(
        losses, list(table.values()), reach, strategy=strategy, retain_graph=retain_graph
    )[0]


def stacked_gradients(
    losses: list[Tensor],
    shared: list[Tensor],
    reach: Reach,
    *,
    own: Sequence[Tensor] = (),
    strategy: str = "loop",
    retain_graph: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Per-task gradients of the shared tensors, and the plain (summed) gradients of the own ones."""
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}; use one of {', '.join(STRATEGIES)}")
    run = _batched if strategy == "batched" else _loop
    return run(losses, shared, list(own), reach, retain_graph)


def _loop(
    losses: list[Tensor], shared: list[Tensor], own: list[Tensor], reach: Reach, retain_graph: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """One backward pass per task, with the task's own leaves; leaves of several tasks need one
    joint pass besides.
    """
    stacks = [torch.empty((len(losses), *p.shape), dtype=p.dtype, device=p.device) for p in shared]
    shared_masks, own_masks = [reach.of(p) for p in shared], [reach.of(p) for p in own]
    several = [mask.bit_count() > 1 for mask in own_masks]
    joint = iter(_joint(losses, [p for p, many in zip(own, several, strict=True) if many], reach))
    plain = [
        next(joint) if many else torch.zeros_like(p) for p, many in zip(own, several, strict=True)
    ]
    rows: tuple[Tensor, ...] = ()

    def keep(k: int, gradient: Tensor | None) -> Tensor | None:
        """Copy a gradient while it is in the cache; the row goes on in its place, and it is freed."""
        if gradient is None:  # from wrappers that reach for every parameter
            return None
        rows[k].copy_(dense(gradient))
        return rows[k] if gradient.layout == torch.strided else None

    reached = [k for k, mask in enumerate(shared_masks) if mask]
    handles = [shared[k].register_hook(partial(keep, k)) for k in reached]
    try:
        for i, loss in enumerate(losses):
            rows = tuple(stack[i] for stack in stacks)
            mine = [k for k in reached if shared_masks[k] >> i & 1]
            alone = [k for k, mask in enumerate(own_masks) if mask == 1 << i]
            inputs = [shared[k] for k in mine] + [own[k] for k in alone]
            last = i + 1 == len(losses) and not retain_graph
            found = (
                torch.autograd.grad(loss, inputs, retain_graph=not last, allow_unused=True)
                if inputs
                else ()
            )
            there = {k for k, gradient in zip(mine, found, strict=False) if gradient is not None}
            for k, row in enumerate(rows):
                if k not in there:
                    row.zero_()
            for k, head in zip(alone, found[len(mine) :], strict=True):
                plain[k] = plain[k] if head is None else dense(head)
    finally:
        for handle in handles:
            handle.remove()
    return stacks, plain


def _batched(
    losses: list[Tensor], shared: list[Tensor], own: list[Tensor], reach: Reach, retain_graph: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """One vectorised backward pass over the T unit vectors, and one joint pass for the own
    parameters.
    """
    plain = _joint(losses, own, reach)
    tasks = len(losses)
    stacks = [torch.zeros((tasks, *p.shape), dtype=p.dtype, device=p.device) for p in shared]
    reached = [k for k, p in enumerate(shared) if reach.of(p)]
    if reached:
        units = [
            torch.zeros((tasks, *loss.shape), dtype=loss.dtype, device=loss.device)
            for loss in losses
        ]
        for i, unit in enumerate(units):
            unit[i].fill_(1)
        inputs = [shared[k] for k in reached]
        found = torch.autograd.grad(
            losses,
            inputs,
            units,
            retain_graph=retain_graph,
            allow_unused=True,
            is_grads_batched=True,
        )
        for k, gradient in zip(reached, found, strict=True):
            if gradient is not None:
                stacks[k] = dense(gradient).contiguous()
    return stacks, plain


def _joint(losses: list[Tensor], own: list[Tensor], reach: Reach) -> list[Tensor]:
    """The plain gradient of the sum of the losses: one ordinary backward pass, where there is
    anything to reach.
    """
    reached = [bool(reach.of(p)) for p in own]
    inputs = [p for p, is_reached in zip(own, reached, strict=True) if is_reached]
    found = iter(
        torch.autograd.grad(losses, inputs, retain_graph=True, allow_unused=True) if inputs else ()
    )
    gradients = [next(found) if is_reached else None for is_reached in reached]
    return [
        torch.zeros_like(p) if g is None else dense(g) for p, g in zip(own, gradients, strict=True)
    ]


def dense(gradient: Tensor) -> Tensor:
    """A sparse gradient (of an embedding) as a dense one."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()
