"""Wrong cores, each one mistake away from Algorithm 1, to replace `pcgrad.surgery_coefficients`.

Every mutant is a function (Gramian [..., T, T], orders [..., T, T−1]) → coefficients [..., T, T]
for any T and batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

import pcgrad

Core = Callable[[Tensor, Tensor], Tensor]

EPSILON = 1e-8


def literal(
    gramian: Tensor,
    orders: Tensor,
    *,
    against_modified: bool = False,
    only_later: bool = False,
    test_self: bool = False,
    conflict_test: bool = True,
    epsilon: float = 0.0,
    threshold: float = 0.0,
) -> Tensor:
    """Algorithm 1 on the Gramian, task by task and visit by visit, with one mistake at a time;
    without any, the core.

    `orders` [..., T, K] may visit fewer than all others. A task tested against itself comes last in
    its order, where most has been projected away: at the beginning a task agrees with itself."""
    tasks = gramian.shape[-1]
    batch = torch.broadcast_shapes(gramian.shape[:-2], orders.shape[:-2])
    full, orders = (
        gramian.double().expand(*batch, tasks, tasks),
        orders.expand(*batch, *orders.shape[-2:]),
    )
    if test_self:
        orders = torch.cat([orders, torch.arange(tasks).view(-1, 1).expand(*batch, tasks, 1)], -1)
    unit = torch.eye(tasks, dtype=torch.float64).repeat(*batch, 1, 1)
    rows = unit.clone()
    for i in range(tasks):
        for k in range(orders.shape[-1]):
            j, own = orders[..., i, k, None, None], rows[..., i, :]
            other = (
                (rows if against_modified else unit).take_along_dim(j, -2).squeeze(-2)
            )  # g_j in coordinates
            products = (full @ other.unsqueeze(-1)).squeeze(-1)  # of g_j with all gradients
            product, square = ((x * products).sum(-1, keepdim=True) for x in (own, other))
            projects = (square + epsilon > 0) & (product < threshold if conflict_test else True)
            if only_later:
                projects &= j.squeeze(-2) >= i
            rows[..., i, :] = own - torch.where(projects, product / (square + epsilon), 0) * other
    return rows


def shared_order(orders: Tensor) -> Tensor:
    """The first task's order, imposed on all: [..., T, T-1]."""
    *batch, tasks, others = orders.shape
    sequence = (
        torch.cat([orders[..., 0, :], orders.new_zeros(*batch, 1)], -1)
        .unsqueeze(-2)
        .expand(*batch, tasks, tasks)
    )
    return sequence[sequence != torch.arange(tasks).unsqueeze(-1)].view(*batch, tasks, others)


def drop(rows: Tensor) -> Tensor:
    """Without the last task's projected gradient."""
    return torch.cat([rows[..., :-1, :], torch.zeros_like(rows[..., -1:, :])], -2)


NAMED: dict[str, Core] = {
    "mean for sum": lambda g, o: literal(g, o) / g.shape[-1],
    "self-inclusion": lambda g, o: literal(g, o, test_self=True),
    "modified g_j": lambda g, o: literal(g, o, against_modified=True),
    "one shared order": lambda g, o: literal(g, shared_order(o)),
    "later tasks only": lambda g, o: literal(g, o, only_later=True),
    "no conflict test": lambda g, o: literal(g, o, conflict_test=False),
    "absolute epsilon": lambda g, o: literal(g, o, epsilon=EPSILON),
    "a dropped task": lambda g, o: drop(literal(g, o)),
}
("The eight mistakes of public implementations "
 "that every layer of checks must notice where it can.")  # fmt: skip

OTHERS: dict[str, Core] = {
    "projected where they agree": lambda g, o: literal(g, o, threshold=torch.inf),
    "epsilon in the conflict test": lambda g, o: literal(g, o, threshold=-EPSILON),
    "shuffle dropped": lambda g, o: literal(g, pcgrad.fixed_orders(g.shape[-1]).expand_as(o)),
    "order reversed": lambda g, o: literal(g, o.flip(-1)),
    "a visit dropped": lambda g, o: literal(g, o[..., :-1]),
    "plain sum": lambda g, o: literal(g, o[..., :0]),
}


def install(monkeypatch: pytest.MonkeyPatch, core: Core, *modules: ModuleType) -> None:
    """Replace the library's core by `core` wherever it is looked up.

    This includes modules that imported it by name.
    """
    for module in (
        pcgrad,
        sys.modules["pcgrad._surgery"],
        *modules,
    ):  # the attribute pcgrad.surgery is the function
        monkeypatch.setattr(module, "surgery_coefficients", core)
