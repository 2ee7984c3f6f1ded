"""Analysis of the graph: which losses reach which leaves, and where it can be freed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import CheckpointFunction

VIEWS = {"TBackward0", "ToCopyBackward0", "TransposeBackward0", "PermuteBackward0"}
"""Operations by the names of their nodes, through which a weight enters its product."""


def is_leaf(node: Any) -> bool:
    """Return whether a node belongs to a leaf; a user's function may have a ``variable`` too."""
    return type(node).__name__ == "AccumulateGrad"


@contextmanager
def refuse_hidden(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Raise if a function of the graph runs a pass of its own, as reversible layers do."""
    before = [p.grad for p in parameters]
    try:
        for p, grad in zip(parameters, before, strict=True):
            p.grad = grad  # raises here, not where it has to be put back
    except RuntimeError as error:
        raise RuntimeError(
            "the .grad of a parameter is not of its dtype or shape any more; clear it with "
            "zero_grad()"
        ) from error
    for p in parameters:
        p.grad = None
    try:
        yield
        hidden = [p for p in parameters if p.grad is not None]
    finally:
        for p, grad in zip(parameters, before, strict=True):
            p.grad = grad
    if hidden:
        raise RuntimeError(
            f"a function of the graph runs a backward pass of its own, which hides a shared "
            f"parameter {list(hidden[0].shape)} from surgery; make it part of the graph, as "
            "checkpoint(use_reentrant=False) does"
        )


REFUSED = {
    "selective activation checkpoint": "a selective checkpoint allows one backward pass, and each "
    "task takes its own; use checkpoint without context_fn, or an Accumulator, one graph per task",
    "_will_engine_execute_node": "a hook that waits for several parameters runs in Tensor.backward "
    "alone; use Tensor.register_hook on each",
}
"""What torch refuses in passes of single tasks, by words of its message, and what to do."""


def gradients(
    roots: Tensor | Sequence[Tensor],
    inputs: Sequence[Any],
    seeds: Sequence[Tensor] | None = None,
    *,
    keep: bool,
) -> Sequence[Tensor | None]:
    """Return the gradients of the sum of the roots; ``keep`` keeps the graph."""
    try:
        return torch.autograd.grad(roots, inputs, seeds, retain_graph=keep, allow_unused=True)
    except RuntimeError as error:
        for words, message in REFUSED.items():
            if words in str(error):
                raise RuntimeError(message) from error
        raise


def topological(
    roots: Sequence[Any], below: Mapping[Any, Any] | None = None
) -> list[tuple[Any, Sequence[tuple[Any, int]]]]:
    """Return all nodes with their edges, each before its children; ``below`` replaces children."""
    # Iterative, since deep graphs exceed the limit of recursion. None on the stack marks that all
    # nodes below the last open one are done.
    postorder: list[tuple[Any, Sequence[tuple[Any, int]]]] = []
    open_nodes: list[tuple[Any, Sequence[tuple[Any, int]]]] = []
    seen: set[Any] = set()
    reentrant = CheckpointFunction._backward_cls
    for root in roots:
        stack: list[Any] = [root]
        while stack:
            node = stack.pop()
            if node is None:
                postorder.append(open_nodes.pop())
            elif node not in seen:
                seen.add(node)
                # By its type: functions of the same name that take parameters as inputs are fine.
                if type(node) is reentrant:
                    raise RuntimeError(
                        "a reentrant checkpoint hides its parameters from the graph; "
                        "use checkpoint(use_reentrant=False)"
                    )
                edges = ((below[node], 0),) if below and node in below else node.next_functions
                open_nodes.append((node, edges))
                stack.append(None)
                stack += [child for child, _ in edges if child is not None]
    return postorder[::-1]


class Reach:
    """The set of losses that reach each node of the graph, as bit masks: bit i is loss i."""

    def __init__(self, losses: Sequence[Tensor]) -> None:
        self.roots = [get_gradient_edge(loss).node for loss in losses]
        self.masks: dict[Any, int] = {}
        for i, root in enumerate(self.roots):
            self.masks[root] = self.masks.get(root, 0) | 1 << i
        self.nodes = topological(self.roots)
        masks = self.masks
        self.custom = False
        for node, edges in self.nodes:
            # Functions of users may run passes of their own.
            own = isinstance(node, BackwardCFunction) or type(node).__name__ == "CppFunction"
            self.custom = self.custom or own
            mask = masks[node]
            for child, _ in edges:
                if child is not None:
                    masks[child] = masks.get(child, 0) | mask
        # Indexed by tensor: asking each tensor for its node would cost more than the whole walk. In
        # the order of the masks: a set's is one of addresses.
        ends = {node for node, edges in self.nodes if not edges and is_leaf(node)}
        self._leaves = {id(node.variable): node for node in masks if node in ends}

    def node(self, tensor: Tensor) -> Any:
        """Return the graph node at which a tensor's gradient arrives."""
        leaf = self._leaves.get(id(tensor))
        return get_gradient_edge(tensor).node if leaf is None else leaf

    def of(self, tensor: Tensor) -> int:
        """Return the mask of the losses that reach a tensor; 0 for a frozen one."""
        # A leaf may have been frozen since the forward pass.
        if not tensor.requires_grad or (tensor.is_leaf and id(tensor) not in self._leaves):
            return 0
        return self.masks.get(self.node(tensor), 0)

    def leaves(self) -> list[Tensor]:
        """Return the leaves that the losses reach, in an order that depends only on the graph."""
        leaves = [node.variable for node in self._leaves.values()]
        return [leaf for leaf in leaves if leaf.requires_grad]

    def takers(self, leaf: Tensor) -> list[tuple[Any, list[Any]]]:
        """Return the operations that take this leaf, each with all nodes that it takes."""
        node = self.node(leaf)
        found = [(above, [child for child, _ in edges]) for above, edges in self.nodes]
        return [(above, children) for above, children in found if node in children]

    def merged(self, leaf: Tensor) -> bool:
        """Return whether every operation that takes this leaf serves several losses."""
        return all(self.masks[above].bit_count() > 1 for above, _ in self.takers(leaf))

    def joins_shared(self, leaf: Tensor) -> bool:
        """Return whether an operation takes this leaf, as a bias, with one of several losses."""
        for child in chain.from_iterable(children for _, children in self.takers(leaf)):
            # A weight enters its product transposed, or cast by autocast.
            while type(child).__name__ in VIEWS:
                child = child.next_functions[0][0]
            if is_leaf(child) and self.masks[child].bit_count() > 1:
                return True
        return False

    def parts(self, last: Sequence[Tensor]) -> list[list[Any]]:
        """Return for every loss the nodes to free after its pass; loss 0's computes ``last``."""
        # Passes run from the last loss to the first, so the last pass to need a node is that of the
        # lowest loss in its mask. The pass of loss 0 frees what it runs through: all of its nodes
        # if it computes the gradients of all of its leaves.
        masks, asked = self.masks, {id(tensor) for tensor in last}
        whole = all(leaf in asked for leaf, node in self._leaves.items() if masks[node] & 1)
        parts: list[list[Any]] = [[] for _ in self.roots]
        for node, mask in masks.items():
            if not (whole and mask & 1):
                parts[(mask & -mask).bit_length() - 1].append(node)
        return parts


def can_release(nodes: Iterable[Any]) -> bool:
    """Return whether :func:`release` can free all that the nodes saved."""
    # It cannot if a saved tensor has hooks already, such as those of a checkpoint, nor in
    # operations of C++ extensions, which do not show what they save.
    return all(
        type(node).__name__ != "CppFunction"
        and all(one.unpack_hook is None for one in _saved_tensors(node))
        for node in nodes
    )


def release(nodes: Iterable[Any]) -> None:
    """Free the tensors that the nodes saved for the backward pass."""
    # A hook on a saved tensor replaces what is stored: here by None.
    for node in nodes:
        for one in _saved_tensors(node):
            with suppress(RuntimeError):  # freed by a pass
                # Where nothing was saved, a hook is an error, which costs as much as a product.
                if one.data is not None:
                    one.register_hooks(lambda _: None, _freed)


def _saved_tensors(node: Any) -> list[Any]:
    found: list[Any] = []
    for name in _saved_names(type(node)):  # type: ignore[arg-type]
        with suppress(RuntimeError):  # freed by a pass
            part = getattr(node, name)
            found += part if isinstance(part, (tuple, list)) else (part,)
    return [one for one in found if one is not None]


def saves(node: Any) -> bool:
    """Return whether operations of this kind save tensors."""
    return bool(_saved_names(type(node)))  # type: ignore[arg-type]


@cache
def _saved_names(kind: Any) -> tuple[str, ...]:
    """Return the names of the attributes in which a type of node saves tensors."""
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _freed(_: None) -> Tensor:
    raise RuntimeError(
        "trying to backward through the graph a second time; pass retain_graph=True the first time"
    )
