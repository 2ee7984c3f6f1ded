"""The steps that every form of ``backward`` shares: options, Gramian, surgery, and the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from pcgrad._distributed import Group, agree, anywhere, average, broadcast_orders, world
from pcgrad._gramian import add_gradients, dense, joined
from pcgrad._orders import Orders, check_generator, make_orders
from pcgrad._parameters import Parameters, check_option, named
from pcgrad._surgery import REDUCTIONS, Reduction, Surgery, Weighting, surgery, weighted

Granularity = Literal["global", "per_tensor"] | Mapping[str, Parameters]
"""What one dot product covers: all shared parameters, one, or a named group of them."""

Pairs = list[tuple[Tensor, Tensor]]
"""Leaves with their gradients."""


class Source(Protocol):
    """The task gradients of one step, held in the way of an entry."""

    shared: list[Tensor]
    reached: list[bool]  # for every shared parameter, whether a loss of this rank reaches it

    def complete(self, kept: Sequence[int], ranks: Any | None) -> None:
        """Average the task gradients of the kept parameters over the ranks."""

    def products(self, *, whole: bool) -> list[Tensor]:
        """Return dot products ``[T, T]`` per parameter, or of any parts of the ``whole``."""

    def updates(self, kept: Sequence[int], weights: Tensor) -> list[Tensor]:
        """Return the kept parameters' updates; weights are ``[T]``, or a row for each."""


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

    def prepare(
        self, table: Mapping[str, Tensor], own: Sequence[Tensor], tasks: int, device: torch.device
    ) -> None:
        """Assign shared parameters to groups, draw orders, compare ranks: before any pass."""
        self.device = device
        self.groups: list[int] | None = None
        if isinstance(self.granularity, Mapping):
            self.groups = _groups(self.granularity, table)
        elif self.granularity == "per_tensor":
            self.groups = list(range(len(table)))
        batch = () if self.groups is None else (len(set(self.groups)),)
        self.drawn = make_orders(self.orders, tasks, self.generator, batch)
        size = sum(p.numel() for p in [*table.values(), *own])
        agree([tasks, len(table), len(own), size], device, self.ranks)

    @torch.no_grad()
    def gather(
        self, source: Source, own: Sequence[Tensor], plain: list[Tensor | None]
    ) -> tuple[list[int], Pairs]:
        """Average over ranks, emptying ``plain``; return shared numbers and own leaves reached."""
        # Ranks add up a sparse gradient only if every rank's is sparse.
        flags = [*source.reached, *(g is not None for g in plain)]
        flags += [g is None or g.layout == torch.strided for g in plain]
        # A leaf that any rank reaches takes part on every rank, so that the averages line up.
        flags = anywhere(flags, self.device, self.ranks)
        shared = len(source.shared)
        kept = [k for k in range(shared) if flags[k]]
        if not kept:
            raise ValueError(
                "no loss reaches a shared parameter; compute the losses with the parameters that "
                "are listed"
            )
        source.complete(kept, self.ranks)
        pairs: Pairs = []
        for k, leaf in enumerate(own, shared):
            gradient = plain.pop(0)
            if not flags[k]:
                continue
            if gradient is None:
                gradient = torch.zeros_like(leaf)
            elif flags[k + len(own)]:
                gradient = torch.empty_like(leaf).copy_(dense(gradient))
            else:
                gradient = gradient.clone()
            pairs.append((leaf, gradient))
        average([gradient for _, gradient in pairs], self.ranks)
        return kept, pairs

    def apply(
        self, source: Source, kept: Sequence[int], pairs: Pairs, checked: Sequence[Tensor]
    ) -> Surgery:
        """Run Gramian and surgery, and add to ``.grad``; with losses ``checked``, if finite."""
        gramian = joined(source.products(whole=self.groups is None), self.groups)
        # Checked before surgery, so that a raised error leaves every .grad unchanged.
        if checked:
            _refuse_not_finite(checked, gramian, pairs, local=self.ranks is None)
        if self.weighting is None:
            # Every rank drew orders, so that generators stay in step, but only rank 0's are used.
            drawn = broadcast_orders(self.drawn, gramian.device, self.ranks)
            result = surgery(gramian, drawn, reduction=self.reduction)
        else:
            result = weighted(gramian, self.weighting)
            if checked and not result.weights.isfinite().all():
                raise FloatingPointError(f"the weighting gave {result.weights.tolist()}")
        weights = result.weights
        if self.groups is not None:
            # Unbind, because indexing by a list would synchronise with the device.
            rows = weights.unbind()
            weights = torch.stack([rows[self.groups[k]] for k in kept])
        with torch.no_grad():
            updates = source.updates(kept, weights)
            add_gradients([*zip([source.shared[k] for k in kept], updates, strict=True), *pairs])
        return result


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


def _refuse_not_finite(
    losses: Sequence[Tensor], gramian: Tensor, own: Pairs, *, local: bool
) -> None:
    """Raise an error that names the tasks whose loss or gradient is not finite."""
    # The diagonal holds the squared norms. Several ranks look at the averaged gradients only, which
    # all of them see, so that all raise together.
    squares = gramian.diagonal(dim1=-2, dim2=-1).reshape(-1, len(losses)).sum(0)
    values = torch.stack([loss.detach().reshape(()).double() for loss in losses]).to(squares.device)
    finite = squares.isfinite() & values.isfinite() if local else squares.isfinite()
    # The entries that a sparse gradient stores stand for all.
    parts = [
        g if g.layout == torch.strided else g._values() if g.is_sparse else g.values()
        for _, g in own
    ]
    fine = torch.stack([finite.all(), *(g.isfinite().all().to(finite.device) for g in parts)])
    if fine.all():
        return
    bad = (~finite).nonzero().flatten().tolist()
    names = "; ".join(
        f"task {i} (loss {values[i].item():g}, squared gradient norm {squares[i].item():g})"
        for i in bad
    )
    if not bad:
        # Then it is a head that has the value, past all shared parameters.
        leaf, _ = own[fine.tolist().index(False) - 1]
        names = f"own parameter {list(leaf.shape)}"
    # A node with several losses as outputs (a compiled function) spreads nan to all their tasks.
    nodes = [get_gradient_edge(loss).node for loss in losses if loss.requires_grad]
    together = [type(node).__name__ for node in nodes if nodes.count(node) > 1]
    if together and len(bad) > 1:
        names += (
            f"; the losses are outputs of one {together[0]}, which spreads such values: "
            "the tasks cannot be told apart"
        )
    raise FloatingPointError(f"loss or gradient not finite: {names}")
