"""The options that every form of ``backward`` shares, and the surgery that they select."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from pcgrad._distributed import Group, broadcast_orders, world
from pcgrad._gramian import joined
from pcgrad._orders import Orders, check_generator, make_orders
from pcgrad._parameters import Parameters, check_option, named
from pcgrad._surgery import REDUCTIONS, Reduction, Surgery, Weighting, surgery, weighted

Granularity = Literal["global", "per_tensor"] | Mapping[str, Parameters]
"""What one dot product covers: all shared parameters, one, or a named group of them."""


@dataclass
class Method:
    """Checked options of a surgery; see :func:`pcgrad.backward` for their meaning."""

    weighting: Weighting | None
    orders: Orders | Tensor
    reduction: Reduction
    granularity: Granularity
    generator: torch.Generator | None
    group: Group

    def __post_init__(self) -> None:
        check_option("reduction", self.reduction, REDUCTIONS)
        if not isinstance(self.granularity, Mapping):
            check_option("granularity", self.granularity, ("global", "per_tensor"))
        check_generator(self.generator)
        if self.weighting is not None and not callable(self.weighting):
            raise TypeError(
                f"a weighting is a function of the Gramian, got {type(self.weighting).__name__}"
            )
        # None for a single process, so that no later step asks for the group again.
        self.ranks = world(self.group)
        self.groups: list[int] | None = None
        self.drawn: Tensor | None = None

    def prepare(self, table: Mapping[str, Tensor], tasks: int) -> None:
        """Assign the shared parameters to groups and draw the orders.

        It runs before the backward pass, so that wrong options raise before any work is done.
        """
        batch: tuple[int, ...] = ()
        if isinstance(self.granularity, Mapping):
            self.groups = _groups(self.granularity, table)
            batch = (len(self.granularity),)
        elif self.granularity == "per_tensor":
            self.groups = list(range(len(table)))
            batch = (len(table),)
        self.drawn = make_orders(self.orders, tasks, self.generator, batch)

    def gramian(self, products: Sequence[Tensor]) -> Tensor:
        """Return the Gramian ``[T, T]``, or one per group, from the parameters' products."""
        if isinstance(self.granularity, Mapping):
            return joined(products, groups=self.groups)
        return joined(products, per_tensor=self.groups is not None)

    def surgery(self, gramian: Tensor, *, check_finite: bool = False) -> Surgery:
        """Apply Algorithm 1, or the weighting if there is one."""
        if self.weighting is not None:
            found = weighted(gramian, self.weighting)
            if check_finite and not found.weights.isfinite().all():
                raise FloatingPointError(f"the weighting gave {found.weights.tolist()}")
            return found
        assert self.drawn is not None
        # Every rank drew orders, so that generators stay in step, but only rank 0's are used.
        drawn = broadcast_orders(self.drawn, gramian.device, self.ranks)
        return surgery(gramian, drawn, reduction=self.reduction)

    def per_parameter(self, weights: Tensor, kept: Sequence[int]) -> Tensor:
        """Return weights ``[T]``, or one row ``[T]`` per kept parameter if there are groups."""
        if self.groups is None:
            return weights
        # Unbind, because indexing by a list would synchronise with the device.
        rows = weights.unbind()
        return torch.stack([rows[self.groups[k]] for k in kept])


def _groups(groups: Mapping[str, Parameters], table: Mapping[str, Tensor]) -> list[int]:
    """Return the group number of every shared parameter; each must be in exactly one group."""
    of: dict[int, int] = {}
    names = list(groups)
    shared = {id(p) for p in table.values()}
    for number, (name, parameters) in enumerate(groups.items()):
        members = named(parameters, f"group {name}: parameters")
        for label, p in members.items():
            if id(p) in of:
                raise ValueError(f"parameter {label} is in groups {names[of[id(p)]]} and {name}")
            if p.requires_grad and id(p) not in shared:
                raise ValueError(f"parameter {label} of group {name} is not listed as shared")
            of[id(p)] = number
        if not any(id(p) in shared for p in members.values()):
            raise ValueError(f"group {name} has no shared parameter to train")
    missing = [name for name, p in table.items() if id(p) not in of]
    if missing:
        raise ValueError(f"shared parameters are in no group: {', '.join(missing)}")
    return [of[id(p)] for p in table.values()]


def refuse_not_finite(
    losses: Sequence[Tensor], gramian: Tensor, plain: Sequence[Tensor | None], *, local: bool
) -> None:
    """Raise an error that names the tasks whose loss or gradient is not finite.

    This check synchronises with the device. Several ranks (not ``local``) look at the averaged
    gradients only, which all ranks see, so that all of them raise together. The diagonal of the
    Gramian ``[..., T, T]`` holds the squared norms.
    """
    squares = gramian.diagonal(dim1=-2, dim2=-1).reshape(-1, len(losses)).sum(0)
    values = torch.stack([loss.detach().reshape(()).double() for loss in losses]).to(squares.device)
    finite = squares.isfinite() & values.isfinite() if local else squares.isfinite()
    own = [g for g in plain if g is not None]
    # The entries that a sparse gradient stores stand for all.
    parts = [
        g if g.layout == torch.strided else g._values() if g.is_sparse else g.values() for g in own
    ]
    fine = torch.stack([finite.all(), *(g.isfinite().all().to(finite.device) for g in parts)])
    if fine.all():
        return
    bad = (~finite).nonzero().flatten().tolist()
    # Without such a task it is a head that has the value, past all shared parameters.
    names = (
        "; ".join(
            f"task {i} (loss {values[i].item():g}, squared gradient norm {squares[i].item():g})"
            for i in bad
        )
        or f"own parameter {list(own[fine.tolist().index(False) - 1].shape)}"
    )
    # A node with several losses as outputs (a compiled function) spreads nan to all their tasks.
    together = _one_node(losses)
    note = (
        f"; the losses are outputs of one {together}, which spreads such values: "
        "the tasks cannot be told apart"
    )
    raise FloatingPointError(
        f"loss or gradient not finite: {names}{note if together and len(bad) > 1 else ''}"
    )


def _one_node(losses: Sequence[Tensor]) -> str:
    """Return the name of an operation with several losses as outputs, such as a compiled function.

    The name is empty if there is none.
    """
    nodes: dict[Any, int] = {}
    for loss in losses:
        if loss.requires_grad:
            node = get_gradient_edge(loss).node
            nodes[node] = nodes.get(node, 0) + 1
    return next((type(node).__name__ for node, count in nodes.items() if count > 1), "")
