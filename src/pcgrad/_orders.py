"""Visiting orders of Algorithm 1, its only source of randomness, as tensors.

Orders are always drawn on the CPU, so that a seed gives the same orders on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pcgrad._parameters import check_option, integers, shown

Orders = Literal["random", "shared", "fixed"]

MOST_TASKS = 2**15  # orders of so many tasks take 8 GB
FEW = 10
"""Up to so many tasks Python's numbers are quicker than tensors on the CPU."""


def check_tasks(tasks: int) -> int:
    """Return the number of tasks as Python's integer, or raise if it is none."""
    found = integers([tasks])
    if not found or not 1 <= found[0] <= MOST_TASKS:
        raise ValueError(
            f"the number of tasks must be a positive integer up to {MOST_TASKS}, got {shown(tasks)}"
        )
    return found[0]


def check_generator(generator: object) -> None:
    """Raise if the argument is neither ``None`` nor a CPU generator."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"a generator is a torch.Generator, got {shown(generator)}; "
            "use torch.Generator().manual_seed(seed)"
        )
    if generator.device.type != "cpu":
        raise ValueError(
            "orders are drawn on the CPU, so that every device sees the same: got a generator on "
            f"{generator.device}; pass torch.Generator()"
        )


def random_orders(
    tasks: int,
    generator: torch.Generator | None = None,
    *,
    batch: Sequence[int] = (),
    shared: bool = False,
) -> Tensor:
    """Draw the order in which each task visits the other tasks in Algorithm 1.

    Args:
        generator: a CPU generator; ``None`` is torch's default CPU generator.
        batch: leading dimensions; ``batch=(n,)`` draws the same numbers as n single calls.
        shared: False (Algorithm 1) draws a uniform permutation of the other tasks for every task.
            True draws one uniform permutation of all tasks and omits i in row i.

    Returns:
        A CPU LongTensor ``[*batch, T, T-1]``; row i is a permutation of {0..T-1} without i.
    """
    tasks = check_tasks(tasks)
    sizes = integers(batch)
    if sizes is None or any(size < 0 for size in sizes):
        raise ValueError(f"batch must be a tuple of sizes, such as (4,), got {shown(batch)}")
    check_generator(generator)
    shape = (*sizes, tasks) if shared else (*sizes, tasks, tasks - 1)
    # On the CPU whatever torch's default device is.
    drawn = torch.rand(*shape, generator=generator, dtype=torch.float64, device="cpu").argsort(-1)
    if not shared:
        return _without_own(drawn)
    rows = drawn.unsqueeze(-2).expand(*sizes, tasks, tasks)
    own = torch.arange(tasks, device="cpu").unsqueeze(-1)
    return rows[rows != own].reshape(*sizes, tasks, tasks - 1)


def _without_own(others: Tensor) -> Tensor:
    """Move numbers ``[..., T, T-1]`` from i on up by one, which leaves i out of row i."""
    return others + (others >= torch.arange(others.shape[-2], device="cpu").unsqueeze(-1))


def fixed_orders(tasks: int) -> Tensor:
    """Return the orders by rising index, a CPU LongTensor ``[T, T-1]``.

    These are the orders of the official code, which discards the result of its shuffle.
    """
    tasks = check_tasks(tasks)
    return _without_own(torch.arange(tasks - 1, device="cpu").expand(tasks, tasks - 1))


def _are_permutations(orders: Tensor, tasks: int) -> bool:
    # Row i is a permutation if it has every number once i is added.
    if tasks <= FEW and orders.dim() == 2:
        return all(sorted((i, *row)) == list(range(tasks)) for i, row in enumerate(orders.tolist()))
    if not orders.numel():
        return True
    low, high = orders.aminmax()
    if low < 0 or high >= tasks:
        return False
    seen = torch.zeros(*orders.shape[:-1], tasks, dtype=torch.bool, device="cpu")
    seen.scatter_(-1, orders, True).diagonal(dim1=-2, dim2=-1).fill_(True)
    return bool(seen.all())


def check_orders(orders: Tensor, tasks: int) -> None:
    """Raise if orders are not int64 ``[..., T, T-1]`` with permutations of the other tasks."""
    if not isinstance(orders, Tensor) or orders.dtype != torch.int64:
        kind = orders.dtype if isinstance(orders, Tensor) else type(orders).__name__
        raise TypeError(f"orders must be a LongTensor [..., T, T-1], got {kind}")
    if orders.dim() < 2 or orders.shape[-2:] != (tasks, tasks - 1):
        raise ValueError(
            f"orders of {tasks} tasks must have shape [..., {tasks}, {tasks - 1}], "
            f"got {list(orders.shape)}"
        )
    # Reading values from another device would synchronise with it.
    if orders.device.type == "cpu" and not _are_permutations(orders, tasks):
        raise ValueError(
            "every row i of orders must be a permutation of the other tasks, without i itself"
        )


def make_orders(
    orders: Orders | Tensor,
    tasks: int,
    generator: torch.Generator | None,
    batch: Sequence[int] = (),
) -> Tensor:
    """Return the orders that the argument ``orders`` of :func:`pcgrad.backward` selects."""
    if not isinstance(orders, str):
        check_orders(orders, tasks)
        if orders.shape[:-2] not in (torch.Size(), torch.Size(batch)):
            raise ValueError(
                "orders must be [T, T-1], or [parameters, T, T-1] per tensor, "
                f"got {list(orders.shape)}"
            )
        return orders
    check_option("orders", orders, ("random", "shared", "fixed"))
    if orders == "fixed":
        return fixed_orders(tasks)
    return random_orders(tasks, generator, batch=batch, shared=orders == "shared")
