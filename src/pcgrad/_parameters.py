"""Checks of callers' arguments: parameters, losses and options."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Mapping[str, Tensor]
"""`module.parameters()`, `module.named_parameters()` or a dict; names make messages readable."""


def shown(value: object) -> str:
    """Return a value in one line for a message: a tensor by its shape, the rest cut."""
    if isinstance(value, Tensor) and not value.is_nested:
        layout = "" if value.layout == torch.strided else f" ({value.layout})"
        return f"a tensor {list(value.shape)} of {value.dtype}{layout}"
    return " ".join(repr(value).split())[:100]


def integers(values: Any) -> list[int] | None:
    """Return integers of any kind, such as numpy's, as Python's; ``None`` for anything else."""
    try:
        items = values.tolist() if isinstance(values, Tensor) else list(values)
        return None if any(isinstance(item, bool) for item in items) else [*map(index, items)]
    except (TypeError, RuntimeError):  # no sequence, no integers, or a tensor without values
        return None


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor is neither sparse nor nested."""
    return tensor.layout == torch.strided and not tensor.is_nested


def check_option(argument: str, value: object, known: Sequence[str]) -> None:
    """Raise if a value is not among those of an option."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"unknown {argument} {shown(value)}; use one of {', '.join(known)}")


def refuse_positional(extra: Sequence[object]) -> None:
    """Raise if options of ``backward`` are passed by position, where they could be confused."""
    if extra:
        names = ", ".join(
            "generator=..." if isinstance(x, torch.Generator) else f"a {type(x).__name__}"
            for x in extra
        )
        raise TypeError(
            "pcgrad.backward takes losses and shared parameters by position and everything else by "
            f"name; got {names} by position"
        )


def named(parameters: Parameters, what: str = "parameters") -> dict[str, Tensor]:
    """Return parameters, ``what`` in messages, by name or position; each may be listed once."""
    if not isinstance(parameters, Iterable) or isinstance(parameters, (nn.Module, Tensor, str)):
        hints = {nn.Module: "; pass its .parameters()", torch.Generator: "; pass generator=..."}
        hint = next((text for kind, text in hints.items() if isinstance(parameters, kind)), "")
        raise TypeError(
            f"{what} must be a list of tensors, got a {type(parameters).__name__}{hint}"
        )
    items = list(parameters.items()) if isinstance(parameters, Mapping) else list(parameters)
    table: dict[str, Tensor] = {}
    seen: dict[int, str] = {}
    for k, item in enumerate(items):
        name, tensor = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
        # A pair of two tensors, such as a layer's weight and bias, would lose its first.
        if not isinstance(tensor, Tensor) or isinstance(name, Tensor):
            kind = "a pair of tensors" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(
                f"{what} must be tensors or (name, tensor) pairs, got {kind} at position {k}"
            )
        if is_lazy(tensor):
            raise ValueError(f"{what} are not initialised yet (lazy modules); call the model once")
        label = str(name) if name is not None else f"#{k} {list(tensor.shape)}"
        if label in table:
            raise ValueError(f"{what} name {label!r} is listed twice")
        # A tensor listed twice would count twice in every dot product.
        first = seen.setdefault(id(tensor), label)
        if first != label:
            raise ValueError(f"{what} {first} and {label} are the same tensor; list it once")
        table[label] = tensor
    # Frozen ones may have any dtype and device.
    _check_trainable({name: p for name, p in table.items() if p.requires_grad}, what)
    return table


def own_leaves(
    parameters: Parameters | None, reached: list[Tensor], shared: set[int], elsewhere: str
) -> list[Tensor]:
    """Return own parameters, or the reached leaves that are not among the ids of shared ones."""
    if parameters is None:
        own = [leaf for leaf in reached if id(leaf) not in shared]
        for leaf in _temporary(own):
            raise TypeError(f"own parameter {list(leaf.shape)} is sharded (FSDP): {LOST}")
        return own
    table = named(parameters, "own parameters")
    for name, tensor in table.items():
        if id(tensor) in shared:
            raise ValueError(f"own parameter {name} {elsewhere}; a parameter is one or the other")
        if not tensor.is_leaf:
            raise ValueError(f"own parameter {name} is not a leaf and has no .grad")
    return list(table.values())


def _check_trainable(table: Mapping[str, Tensor], what: str) -> None:
    """Raise for parameters on several devices, and for those that the optimizer does not hold."""
    devices = {tensor.device for tensor in table.values()}
    if len(devices) > 1:
        raise ValueError(
            f"{what} are on several devices ({', '.join(sorted(map(str, devices)))}); use one"
        )
    temporary = {id(tensor) for tensor in _temporary(table.values())}
    for name, tensor in table.items():
        if id(tensor) in temporary:
            kind = "sharded (FSDP)"
        elif type(tensor) not in (Tensor, nn.Parameter) and is_traceable_wrapper_subclass(tensor):
            kind = f"a {type(tensor).__name__}"
        else:
            continue
        raise TypeError(f"{what}: {name} is {kind}: {LOST}")


LOST = (
    "its gradient would not reach what the optimizer holds; use DistributedDataParallel or an "
    "unwrapped model with group=..."
)


def _temporary(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return those that stand in the graph for sharded ones: a gradient added to them is lost."""
    unsharded = _unsharded()
    return [t for t in tensors if id(t) in unsharded or type(t).__name__ == "FlatParameter"]


def _unsharded() -> set[int]:
    """Return the ids of the plain parameters that FSDP2 holds between all-gather and reshard."""
    # Looked up without an import: if FSDP2 is not loaded, there are none. Private names may be
    # absent in other versions of torch, hence the defaults.
    states = sys.modules.get("torch.distributed._composable_state")
    ids: set[int] = set()
    for reference in list(getattr(states, "_module_state_mapping", {}).values()):
        state: Any = reference() if callable(reference) else reference
        groups = getattr(state, "_fsdp_param_groups", None) or [
            getattr(state, "_fsdp_param_group", None)
        ]
        for group in groups:
            for parameter in getattr(group, "fsdp_params", ()):
                ids.add(id(getattr(parameter, "_unsharded_param", None)))
    return ids - {id(None)}


def check_losses(losses: Sequence[Tensor]) -> list[Tensor]:
    """Return the losses as a list, after checking that they are scalars with a graph."""
    if isinstance(losses, Tensor):
        raise TypeError(
            "losses must be a Python list of scalars: a stacked tensor sends every task through "
            "all heads"
        )
    if isinstance(losses, Mapping):
        raise TypeError("losses must be a list, got a dict; pass list(losses.values())")
    if not isinstance(losses, Iterable):
        raise TypeError(f"losses must be a list of scalars, got a {type(losses).__name__}")
    losses = list(losses)
    if not losses:
        raise ValueError("there are no tasks: the list of losses is empty")
    for i, loss in enumerate(losses):
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss of task {i} must be a tensor, got {type(loss).__name__}")
        if loss.numel() != 1:
            raise ValueError(
                f"the loss of task {i} must be a scalar, got shape {list(loss.shape)}; "
                "reduce it first"
            )
        if loss.is_complex():
            raise TypeError(f"the loss of task {i} is complex; take its real part")
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of task {i} has no graph; leave the task out, or compute it with "
                "gradients"
            )
        if loss.device != losses[0].device:
            raise ValueError(
                f"the loss of task {i} is on {loss.device}, that of task 0 on {losses[0].device}"
            )
    return losses
