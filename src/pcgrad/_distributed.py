"""Data parallelism: averages over ranks, shared orders, and checks that ranks agree.

Surgery is not linear, so task gradients are averaged before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from pcgrad._parameters import shown

Group = Any | Literal[False] | None
"""A ``torch.distributed.ProcessGroup``; ``False``: local on purpose; ``None``: a single process."""


def world(group: Group) -> Any | None:
    """Return the process group to communicate with, or ``None`` for a single process."""
    if group is None:
        # Silent local surgery would let the ranks' parameters drift apart.
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise RuntimeError(
                f"a process group of {dist.get_world_size()} ranks is initialised: pass a group "
                "(torch.distributed.group.WORLD) to average the task gradients before surgery, or "
                "group=False for local surgery on purpose"
            )
        return None
    if group is not False and not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            "group must be a torch.distributed.ProcessGroup (of a DeviceMesh: mesh.get_group()), "
            f"False or None, got {shown(group)}"
        )
    return None if group is False or dist.get_world_size(group) == 1 else group


def average(blocks: Sequence[Tensor], group: Any | None) -> None:
    """Average tensors over the ranks, in place; each rank passes the same shapes in one order."""
    if group is None:
        return
    for block in blocks:
        dist.all_reduce(block, group=group)
        block.div_(dist.get_world_size(group))


def broadcast_orders(orders: Tensor, device: torch.device, group: Any | None) -> Tensor:
    """Return the orders of the group's first rank on every rank."""
    if group is None:
        return orders
    orders = orders.to(device, non_blocking=True).contiguous()  # NCCL only moves device tensors
    dist.broadcast(orders, group=group, group_src=0)
    return orders


def agree(numbers: Sequence[int], device: torch.device, group: Any | None) -> None:
    """Raise if ranks differ in their numbers, since they would hang in later collective calls."""
    if group is None:
        return
    # One maximum of the numbers and their negatives yields both extremes. A rank at neither extreme
    # differs from the maximum as well, so every rank raises.
    local = torch.tensor([*numbers, *(-n for n in numbers)], device=device)
    largest = local.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    if not torch.equal(local, largest):
        raise RuntimeError(
            "ranks differ in (tasks, shared parameters, own parameters, elements): "
            f"this rank has {tuple(numbers)}; "
            "list the same tasks, shared_parameters and own_parameters on every rank"
        )


def anywhere(flags: list[bool], device: torch.device, group: Any | None) -> list[bool]:
    """Return for every flag whether any rank has set it."""
    if group is None:
        return flags
    found = torch.tensor(flags, dtype=torch.int64, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=group)
    return [bool(flag) for flag in found.tolist()]
