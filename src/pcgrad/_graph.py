"""Analysis of the graph: which losses reach which leaves, and where it can be freed.

One walk over the graph marks every node with the set of losses that reach it. The sets tell shared
from own parameters, and the border at which a task's own part of the graph ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from typing import Any

from torch import Tensor
from torch.autograd.graph import get_gradient_edge

VIEWS = {"TBackward0", "ToCopyBackward0", "TransposeBackward0", "PermuteBackward0"}
"""Operations by the names of their nodes, through which a weight enters its product."""


def is_leaf(node: Any) -> bool:
    """Return whether a node belongs to a leaf; a user's function may have a ``variable`` too."""
    return type(node).__name__ == "AccumulateGrad"


def refuse_reentrant(node: Any) -> None:
    """Raise for reentrant activation checkpoints, which build their graphs during the pass."""
    if type(node).__name__ == "CheckpointFunctionBackward":
        raise RuntimeError(
            "a reentrant checkpoint hides its parameters from the graph; "
            "use checkpoint(use_reentrant=False)"
        )


@contextmanager
def refuse_hidden(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Raise if a pass adds to the ``.grad`` of parameters that its graph does not show.

    A function that runs a backward pass of its own does so, such as a reversible layer that
    computes its activations again.
    """
    before = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    hidden: list[Tensor] = []
    try:
        yield
        hidden += [p for p in parameters if p.grad is not None]
    finally:
        for p, grad in zip(parameters, before, strict=True):
            p.grad = grad
    if hidden:
        raise RuntimeError(
            f"a function of the graph runs a backward pass of its own, which hides a shared "
            f"parameter {list(hidden[0].shape)} from surgery; make it part of the graph, as "
            "checkpoint(use_reentrant=False) does"
        )


def _topological(roots: Sequence[Any]) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return all nodes below the roots with their edges, each node before its children."""
    # Iterative, since deep graphs exceed the limit of recursion. None on the stack marks that all
    # nodes below the last open one are done.
    postorder: list[tuple[Any, tuple[Any, ...]]] = []
    open_nodes: list[tuple[Any, tuple[Any, ...]]] = []
    seen: set[Any] = set()
    for root in roots:
        stack: list[Any] = [root]
        while stack:
            node = stack.pop()
            if node is None:
                postorder.append(open_nodes.pop())
            elif node not in seen:
                seen.add(node)
                edges = node.next_functions
                open_nodes.append((node, edges))
                stack.append(None)
                stack += [child for child, _ in edges if child is not None]
    return postorder[::-1]


class Reach:
    """The set of losses that reach each node of the graph, as bit masks.

    Args:
        losses: the losses; bit i of a mask belongs to loss i.

    Raises:
        RuntimeError: if the graph contains a reentrant checkpoint.
    """

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
        # Indexed by tensor: asking each tensor for its node would cost more than the whole walk.
        ends = [node for node, edges in self.nodes if not edges and is_leaf(node)]
        self._leaves = {id(node.variable): node for node in ends}

    def node(self, tensor: Tensor) -> Any:
        """Return the graph node at which a tensor's gradient arrives."""
        leaf = self._leaves.get(id(tensor))
        return get_gradient_edge(tensor).node if leaf is None else leaf

    def of(self, tensor: Tensor) -> int:
        """Return the mask of the losses that reach a tensor; 0 for a frozen one."""
        # A leaf may have been frozen since the forward pass.
        if not tensor.requires_grad:
            return 0
        leaf = self._leaves.get(id(tensor))
        if leaf is not None:
            return self.masks[leaf]
        if tensor.is_leaf:
            return 0
        return self.masks.get(get_gradient_edge(tensor).node, 0)

    def leaves(self) -> list[Tensor]:
        """Return the leaves that the losses reach, in an order that depends only on the graph."""
        # Sets of nodes iterate in an order of addresses; the dict of masks keeps that of the walk.
        ours = set(self._leaves.values())
        found = [node.variable for node in self.masks if node in ours]
        return [leaf for leaf in found if leaf.requires_grad]

    def merged(self, leaf: Tensor) -> bool:
        """Return whether every operation that takes this leaf serves several losses."""
        node = self.node(leaf)
        return all(
            self.masks[above].bit_count() > 1
            for above, edges in self.nodes
            if any(child is node for child, _ in edges)
        )

    def below(self, tensors: Sequence[Tensor], bit: int) -> list[bool]:
        """Return for each tensor whether a task reaches it beyond its own part of the graph."""
        leaves = self.cuts[bit].below
        return [
            id(p) in leaves if p.is_leaf else lowest(self.masks[self.node(p)]) != bit
            for p in tensors
        ]

    def joins_shared(self, leaf: Tensor) -> bool:
        """Return whether an operation takes this leaf together with a leaf of several losses.

        An example is the bias of a layer whose weight several losses reach.
        """
        accumulate = self.node(leaf)
        for _, edges in self.nodes:
            children = [child for child, _ in edges if child is not None]
            if accumulate in children:
                for child in children:
                    # A weight enters its product transposed, or cast by autocast.
                    while type(child).__name__ in VIEWS:
                        child = child.next_functions[0][0]
                    if is_leaf(child) and self.masks[child].bit_count() > 1:
                        return True
        return False

    @cached_property
    def cuts(self) -> dict[int, Cut]:
        """The border of every task's own part of the graph, by the task's bit.

        Passes run from the last task to the first, so the last pass to need a node is that of the
        lowest task in its mask. The nodes with the same lowest task are this task's own part: its
        pass can free them.
        """
        cuts: dict[int, Cut] = {}
        masks, ends, leaves = self.masks, dict[Any, int](), set(self._leaves.values())
        every = (1 << len(self.roots)) - 1
        # What lies below a node that all tasks reach is reached by all: no own part ends there.
        full = {child for node, edges in self.nodes if masks[node] == every for child, _ in edges}
        parents: dict[Any, set[int]] = {leaf: {every} for leaf in leaves if leaf in full}
        # ends: the tasks whose own part ends right above a node.
        for node, edges in self.nodes:
            mask = masks[node]
            if mask == every:
                continue
            bit = mask & -mask
            for k, (child, number) in enumerate(edges):
                if child is None:
                    continue
                if child in leaves:
                    parents.setdefault(child, set()).add(mask)
                elif masks[child] & -masks[child] != bit:
                    cuts.setdefault(bit, Cut()).edges.setdefault(node, []).append(
                        (k, child, number)
                    )
                    ends[child] = ends.get(child, 0) | bit
        under = self._under(ends)
        # Leaves with the same masks above them share the answer, and there are few such kinds.
        kinds: dict[frozenset[int], set[int]] = {}
        for leaf, node in self._leaves.items():
            kinds.setdefault(frozenset(parents.get(node, ())), set()).add(leaf)
        for bit, cut in cuts.items():
            tied = False
            for above, members in kinds.items():
                # Reached beyond the border. If the own part reaches the leaf as well, its gradient
                # has a share in both halves, and the graph cannot be cut there.
                if any(mask & bit and lowest(mask) != bit for mask in above):
                    cut.below |= members
                    tied |= any(lowest(mask) == bit for mask in above)
            cut.clean = not tied and not any(
                under.get(end, 0) & bit for end, bits in ends.items() if bits & bit
            )
        return cuts

    def _under(self, ends: dict[Any, int]) -> dict[Any, int]:
        """Return for each node the tasks for which a path leads from some end to it."""
        under: dict[Any, int] = {}
        # A task with a single end has no path from one end to another.
        once = several = 0
        for bits in ends.values():
            once, several = once | bits, several | (once & bits)
        for node, edges in self.nodes if several else ():
            if passed := under.get(node, 0) | ends.get(node, 0):
                for child, _ in edges:
                    under[child] = under.get(child, 0) | passed
        return under

    @property
    def clean(self) -> bool:
        """Whether passes can free the own part of every task on the way."""
        return all(cut.clean for cut in self.cuts.values())

    @cached_property
    def releasable(self) -> bool:
        """Whether no hooks on saved tensors, such as a checkpoint's, prevent :meth:`release`."""
        saved = (one for node, _ in self.nodes for one in _saved_tensors(node))
        return all(one.unpack_hook is None for one in saved)

    def release(self) -> None:
        """Free the tensors that the nodes saved for the backward pass."""
        # A hook on a saved tensor replaces what is stored: here by None.
        for node, _ in self.nodes:
            for one in _saved_tensors(node):
                with suppress(RuntimeError):  # none was saved here
                    one.register_hooks(_nothing, _freed)


def _saved_tensors(node: Any) -> list[Any]:
    kind: Any = type(node)
    found = [getattr(node, name) for name in _saved_names(kind)]
    flat = [one for part in found for one in (part if isinstance(part, (tuple, list)) else (part,))]
    return [one for one in flat if one is not None]


@cache
def _saved_names(kind: Any) -> tuple[str, ...]:
    """Return the names of the attributes in which a type of node saves tensors."""
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _nothing(_: Tensor) -> None:
    """Store ``None`` in place of a saved tensor."""


def _freed(_: None) -> Tensor:
    raise RuntimeError(
        "backward through this graph has been run already; pass retain_graph=True to run it twice"
    )


def lowest(mask: int) -> int:
    """Return the lowest bit that is set, which belongs to the last pass that needs a node."""
    return mask & -mask


class Cut:
    """The border of one task's own part of the graph.

    Attributes:
        edges: for every node at the border, its outgoing edges ``(k, child, input of the child)``.
        below: the ids of the leaves that the task reaches beyond the border.
        clean: whether autograd can stop at the border: no path leads from one border node to
            another, nor to a leaf of the own part.
    """

    def __init__(self) -> None:
        self.edges: dict[Any, list[tuple[int, Any, int]]] = {}
        self.below: set[int] = set()
        self.clean = True
