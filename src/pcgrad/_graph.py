"""Which losses reach which leaves, and where the graph can be freed: one walk over it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

from torch import Tensor
from torch.autograd.graph import get_gradient_edge

VIEWS = {"TBackward0", "ToCopyBackward0", "TransposeBackward0", "PermuteBackward0"}


def refuse_reentrant(node: Any) -> None:
    """Refuse the old form of activation checkpoints, whose graphs are built during the pass."""
    if type(node).__name__ == "CheckpointFunctionBackward":
        raise RuntimeError(
            "a reentrant checkpoint hides its parameters from the graph; use checkpoint(use_reentrant=False)"
        )


def _topological(roots: Sequence[Any]) -> list[tuple[Any, tuple[Any, ...]]]:
    """All nodes below the roots with their edges, every node before those it passes gradients to
    (iterative: graphs are deep).
    """
    postorder: list[tuple[Any, tuple[Any, ...]]] = []
    seen: set[Any] = set()
    for root in roots:
        stack: list[tuple[Any, Any]] = [(root, None)]
        while stack:
            node, edges = stack.pop()
            if edges is not None:
                postorder.append((node, edges))
            elif node not in seen:
                seen.add(node)
                edges = node.next_functions
                stack.append((node, edges))
                stack.extend([(child, None) for child, _ in edges if child is not None])
    return postorder[::-1]


class Reach:
    """For every node below the losses, the set of losses that reach it, as a bit mask."""

    def __init__(self, losses: Sequence[Tensor]) -> None:
        self.roots = [get_gradient_edge(loss).node for loss in losses]
        self.masks: dict[Any, int] = {}
        for i, root in enumerate(self.roots):
            self.masks[root] = self.masks.get(root, 0) | 1 << i
        self.nodes = _topological(list(dict.fromkeys(self.roots)))
        masks = self.masks
        for node, edges in self.nodes:
            refuse_reentrant(node)
            mask = masks[node]
            for child, _ in edges:
                if child is not None:
                    masks[child] = masks.get(child, 0) | mask
        # Leaves by their tensors: asking a tensor for its node costs more than all the walk.
        ends = [node for node, edges in self.nodes if not edges]
        self._leaves = {id(node.variable): node for node in ends if hasattr(node, "variable")}

    def node(self, tensor: Tensor) -> Any:
        """Where a tensor's gradient arrives."""
        leaf = self._leaves.get(id(tensor))
        return get_gradient_edge(tensor).node if leaf is None else leaf

    def of(self, tensor: Tensor) -> int:
        """Bit i is set where loss i reaches the tensor; 0 for a frozen one."""
        leaf = self._leaves.get(id(tensor))
        if leaf is not None:
            return self.masks[leaf]
        if tensor.is_leaf:
            return 0
        return self.masks.get(get_gradient_edge(tensor).node, 0)

    def leaves(self) -> list[Tensor]:
        """The leaves that the losses reach, in an order that depends only on the graph."""
        ours = set(self._leaves.values())
        return [node.variable for node in self.masks if node in ours]

    def below(self, tensors: Sequence[Tensor], bit: int) -> list[bool]:
        """Which tensors a task reaches beyond its own part of the graph."""
        leaves = self.cuts[bit].below
        return [
            id(p) in leaves if p.is_leaf else lowest(self.masks[self.node(p)]) != bit
            for p in tensors
        ]

    def joins_shared(self, leaf: Tensor) -> bool:
        """Whether an operation takes this leaf together with one that several losses reach: the
        bias of a layer whose weight they reach.
        """
        accumulate = self.node(leaf)
        for _, edges in self.nodes:
            children = [child for child, _ in edges if child is not None]
            if accumulate in children:
                for child in children:
                    while type(child).__name__ in VIEWS:
                        child = child.next_functions[0][0]
                    if hasattr(child, "variable") and self.masks[child].bit_count() > 1:
                        return True
        return False

    @cached_property
    def cuts(self) -> dict[int, Cut]:
        """For every task's bit, where its own part of the graph meets what other passes need.

        Passes run from the last task to the first, so that a node expires with its lowest task.
        """
        cuts: dict[int, Cut] = {}
        parents: dict[Any, set[int]] = {}
        masks, under, ends = self.masks, dict[Any, int](), dict[Any, int]()
        leaves = set(self._leaves.values())
        for node, edges in self.nodes:
            mask = masks[node]
            bit, passed = mask & -mask, under.get(node, 0) | ends.get(node, 0)
            for k, (child, number) in enumerate(edges):
                if child is None:
                    continue
                if passed:
                    under[child] = under.get(child, 0) | passed
                if child in leaves:
                    parents.setdefault(child, set()).add(mask)
                elif masks[child] & -masks[child] != bit:
                    cuts.setdefault(bit, Cut()).edges.setdefault(node, []).append(
                        (k, child, number)
                    )
                    ends[child] = ends.get(child, 0) | bit
        kinds: dict[frozenset[int], set[int]] = {}
        for leaf, node in self._leaves.items():
            kinds.setdefault(frozenset(parents.get(node, ())), set()).add(leaf)
        for bit, cut in cuts.items():
            tied = False
            for above, members in kinds.items():
                if any(mask & bit and lowest(mask) != bit for mask in above):
                    cut.below |= members
                    tied |= any(lowest(mask) == bit for mask in above)
            cut.clean = not tied and not any(
                under.get(end, 0) & bit for end, bits in ends.items() if bits & bit
            )
        return cuts

    @property
    def clean(self) -> bool:
        """Whether passes can free every task's own part as they go."""
        return all(cut.clean for cut in self.cuts.values())

    def release(self) -> bool:
        """Free what the nodes saved; False, and nothing freed, where hooks on saved tensors prevent
        it.
        """
        saved = [one for node, _ in self.nodes for one in _saved_tensors(node)]
        if any(one.unpack_hook is not None for one in saved):
            return False
        for one in saved:
            with suppress(RuntimeError):  # none was saved here
                one.register_hooks(_nothing, _freed)
        return True


def _saved_tensors(node: Any) -> list[Any]:
    kind: Any = type(node)
    found = [getattr(node, name) for name in _saved_names(kind)]
    flat = [one for part in found for one in (part if isinstance(part, (tuple, list)) else (part,))]
    return [one for one in flat if one is not None]


@cache
def _saved_names(kind: Any) -> tuple[str, ...]:
    """The names of what a kind of node saves."""
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _nothing(_: Tensor) -> None:
    """What is kept of a saved tensor."""


def _freed(_: None) -> Tensor:
    raise RuntimeError(
        "backward through this graph has been run already; pass retain_graph=True to run it twice"
    )


def lowest(mask: int) -> int:
    """The lowest bit that is set: the last pass that needs a node."""
    return mask & -mask


class Cut:
    """Where one task's own part of the graph ends.

    Attributes:
        edges: for every node at the end, its edges ``(k, child, input of the child)`` out of it.
        below: the ids of the leaves that the task reaches beyond the end.
        clean: no way leads from one end to another, nor to a leaf of the own part, so that autograd
            can stop there.
    """

    def __init__(self) -> None:
        self.edges: dict[Any, list[tuple[int, Any, int]]] = {}
        self.below: set[int] = set()
        self.clean = True
