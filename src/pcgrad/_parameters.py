"""What callers list: parameters, losses, options. Each check has one line that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Mapping[str, Tensor]
"""`module.parameters()`, `module.named_parameters()` or a dict; names make messages readable."""


def check_option(argument: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value that is none of an option's."""
    if value not in known:
        raise ValueError(f"unknown {argument} {value!r}; use one of {', '.join(known)}")


def refuse_positional(function: str, takes: str, extra: Sequence[object]) -> None:
    """Refuse arguments by position whose order could be mistaken."""
    if extra:
        names = ", ".join(
            "generator=..." if isinstance(x, torch.Generator) else f"a {type(x).__name__}"
            for x in extra
        )
        raise TypeError(
            f"{function} takes {takes} by position and everything else by name; got {names} by position"
        )


def named(parameters: Parameters, what: str = "parameters") -> dict[str, Tensor]:
    """The parameters by name (or by position and shape), after checking that each is listed once.

    Dtype and device are checked of those that require gradients: frozen ones may have any.
    """
    if isinstance(parameters, nn.Module):
        raise TypeError(
            f"{what} must be a list of tensors, got a {type(parameters).__name__}; "
            "pass its .parameters()"
        )
    if isinstance(parameters, Tensor):
        raise TypeError(f"{what} must be a list of tensors, got one tensor")
    if not isinstance(parameters, Iterable) or isinstance(parameters, str):
        by_name = "; pass generator=..." if isinstance(parameters, torch.Generator) else ""
        raise TypeError(
            f"{what} must be a list of tensors, got a {type(parameters).__name__}{by_name}"
        )
    items = list(parameters.items()) if isinstance(parameters, Mapping) else list(parameters)
    table: dict[str, Tensor] = {}
    seen: dict[int, str] = {}
    for k, item in enumerate(items):
        name, tensor = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{what} must be tensors or (name, tensor) pairs, got {type(tensor).__name__} at position {k}"
            )
        label = str(name) if name is not None else f"#{k} {list(tensor.shape)}"
        if label in table:
            raise ValueError(f"{what} name {label!r} is listed twice")
        first = seen.setdefault(id(tensor), label)
        if first != label:
            raise ValueError(f"{what} {first} and {label} are the same tensor; list it once")
        table[label] = tensor
    _check_trainable({name: p for name, p in table.items() if p.requires_grad}, what)
    return table


def _check_trainable(table: Mapping[str, Tensor], what: str) -> None:
    """Refuse parameters on several devices and those whose leaf is not what the optimizer holds."""
    devices = {tensor.device for tensor in table.values()}
    if len(devices) > 1:
        raise ValueError(
            f"{what} are on several devices ({', '.join(sorted(map(str, devices)))}); use one"
        )
    unsharded = _unsharded()
    for name, tensor in table.items():
        if type(tensor).__name__ == "FlatParameter" or id(tensor) in unsharded:
            kind = "sharded (FSDP)"
        elif type(tensor) not in (Tensor, nn.Parameter) and is_traceable_wrapper_subclass(tensor):
            kind = f"a {type(tensor).__name__}"
        else:
            continue
        raise TypeError(
            f"{what}: {name} is {kind}: its gradient would not reach what the optimizer holds; "
            "use DistributedDataParallel or an unwrapped model with group=..."
        )


def _unsharded() -> set[int]:
    """The ids of the plain parameters that FSDP2 puts into modules between all-gather and reshard."""
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
    """The losses as a list, after checking that every one is a scalar with a graph, on one device."""
    if isinstance(losses, Tensor):
        raise TypeError(
            "losses must be a Python list of scalars: a stacked tensor sends every task through all heads"
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
                f"the loss of task {i} must be a scalar, got shape {list(loss.shape)}; reduce it first"
            )
        if loss.is_complex():
            raise TypeError(f"the loss of task {i} is complex; take its real part")
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of task {i} has no graph; leave the task out, or compute it with gradients"
            )
        if loss.device != losses[0].device:
            raise ValueError(
                f"the loss of task {i} is on {loss.device}, that of task 0 on {losses[0].device}"
            )
    return losses
