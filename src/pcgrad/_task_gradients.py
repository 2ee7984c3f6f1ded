"""Task gradients of losses that share one graph: one backward pass per task.

Each pass frees the part of the graph that no later pass needs, and writes its gradients into one
stack ``[T, *shape]`` per parameter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from pcgrad._graph import Cut, Reach, lowest, refuse_hidden
from pcgrad._parameters import Parameters, check_losses, check_option, named

Strategy = Literal["loop", "batched"]

LARGE = 1 << 12
"""Values from which a gradient is copied to its row while it is in the cache, before the next is \
formed."""

MANY = 256
"""From so many small parameters on, their gradients are kept in one matrix: calls cost more than \
numbers."""


def check_strategy(strategy: str) -> None:
    """Raise for an unknown strategy, and warn that ``"batched"`` is deprecated."""
    check_option("strategy", strategy, ("loop", "batched"))
    if strategy == "batched":
        warnings.warn(
            "strategy='batched' is the loop since 0.2: torch's vectorized pass gave other "
            "gradients for some layers; leave the argument out",
            DeprecationWarning,
            stacklevel=3,
        )


def warn_single(table: Mapping[str, Tensor], reach: Reach, tasks: int) -> None:
    """Warn about listed parameters that a single loss reaches, such as those of a task head."""
    if tasks == 1:
        return
    # A bias may be reached by one loss while its layer's weight is shared: no warning then.
    masks = {name: reach.of(tensor) for name, tensor in table.items()}
    single = [
        f"{name} (task {mask.bit_length() - 1})"
        for name, mask in masks.items()
        if mask.bit_count() == 1 and not reach.joins_shared(table[name])
    ]
    if single:
        warnings.warn(
            f"listed as shared, reached by a single loss in this step: {', '.join(single)}; "
            "if they are a task's own parameters, leave them out: they do not belong into the dot "
            "products",
            stacklevel=3,
        )


def task_gradients(
    losses: Sequence[Tensor],
    parameters: Parameters,
    *,
    strategy: Strategy = "loop",
    retain_graph: bool = False,
) -> list[Tensor]:
    """Return the gradient of every loss with respect to every parameter.

    There is one backward pass per task. The gradient is zero if a loss does not reach a parameter,
    or if the parameter is frozen. Sparse gradients are returned dense. ``.grad`` does not change. A
    warning names the listed parameters that a single loss reaches.

    Args:
        losses: T scalars that share a graph, as a Python list. A stacked tensor raises an error: it
            would send every backward pass through all heads, and one nan loss would reach all
            tasks.
        parameters: tensors, ``(name, tensor)`` pairs or a dict.
        strategy: deprecated; ``"batched"`` does the same as ``"loop"``.
        retain_graph: keep the graph for another backward pass.

    Returns:
        One stack ``[T, *shape]`` per parameter, in its dtype.

    Raises:
        TypeError: if a loss or a parameter has the wrong type.
        ValueError: if a loss is no scalar or has no graph, or a list is empty.
    """
    check_strategy(strategy)
    losses = check_losses(losses)
    table = named(parameters)
    if not table:
        raise ValueError("there are no parameters: the list is empty")
    reach = Reach(losses)
    warn_single(table, reach, len(losses))
    trainable = [p for p in table.values() if p.requires_grad]
    stacks = Stacks(trainable, len(losses))
    stacks.add(losses, range(len(losses)), reach, (), retain_graph=retain_graph)
    found = iter(stacks.blocks())
    like = trainable[0] if trainable else losses[0]
    return [
        next(found) if p.requires_grad else _no_gradient(p, like, len(losses))
        for p in table.values()
    ]


def _no_gradient(frozen: Tensor, like: Tensor, tasks: int) -> Tensor:
    """Return the zero gradients of a frozen parameter, on the device of the trainable ones."""
    # Frozen parameters may be quantized or on another device: one zero, expanded, needs no memory.
    if frozen.is_floating_point() and frozen.device == like.device:
        return frozen.new_zeros((tasks, *frozen.shape))
    return torch.zeros((), dtype=like.dtype, device=like.device).expand(tasks, *frozen.shape)


class Stacks:
    """Task gradients of the shared parameters, filled by one or several backward passes.

    Args:
        shared: the parameters.
        tasks: the number of tasks T.
        dtype: the dtype of the stacks ``[T, *shape]``; ``None`` is the parameters'.
        device: the device of the stacks; ``None`` is the parameters'.
    """

    def __init__(
        self,
        shared: Sequence[Tensor],
        tasks: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.shared, self.tasks = list(shared), tasks
        self.large = [k for k, p in enumerate(self.shared) if p.numel() >= LARGE]
        self.begun: set[int] = set()
        self.reached = [False] * len(self.shared)
        stored = [dtype if dtype and not p.is_complex() else p.dtype for p in self.shared]
        small = [k for k, p in enumerate(self.shared) if p.numel() < LARGE]
        self.flat: Tensor | None = None
        self.small: list[int] = []
        self._blocks: list[Tensor] = [torch.empty(0)] * len(self.shared)
        self._rows: list[tuple[Tensor, ...]] = [()] * len(self.shared)
        # One matrix for many small parameters: one product and one sum serve all of them. The
        # stacks are views of its columns, made when they are asked for.
        self._views_made = len(small) < MANY or len({stored[k] for k in small}) > 1
        if not self._views_made:
            self.small = small
            size = sum(self.shared[k].numel() for k in small)
            where = device or self.shared[small[0]].device
            self.flat = torch.empty(tasks, size, dtype=stored[small[0]], device=where)
        for k in range(len(self.shared)) if self.flat is None else self.large:
            p = self.shared[k]
            self._blocks[k] = torch.empty(
                (tasks, *p.shape), dtype=stored[k], device=device or p.device
            )
            self._rows[k] = self._blocks[k].unbind()

    def _make_views(self) -> None:
        """Make the stacks of the small parameters as views of their common matrix."""
        if self._views_made or self.flat is None:
            return
        sizes = [self.shared[k].numel() for k in self.small]
        for k, columns in zip(self.small, self.flat.split(sizes, 1), strict=True):
            self._blocks[k] = columns.view(self.tasks, *self.shared[k].shape)
            self._rows[k] = self._blocks[k].unbind()
        self._views_made = True

    def fill(self) -> None:
        """Write zeros for the tasks that have no gradient."""
        # The memory starts uninitialised, and clear() leaves old values in it.
        for task in set(range(self.tasks)) - self.begun:
            self._make_views()
            for rows in self._rows:
                rows[task].zero_()
            self.begun.add(task)

    def blocks(self) -> list[Tensor]:
        """Return the stacks ``[T, *shape]``; zero for tasks and parameters without a gradient."""
        self.fill()
        self._make_views()
        return self._blocks

    def memory(self) -> list[Tensor]:
        """Return the same values as few tensors: a matrix of the small ones, if it exists."""
        self.fill()
        if self.flat is None:
            return self._blocks
        return [self.flat, *(self._blocks[k] for k in self.large)]

    def drop(self, k: int) -> None:
        """Free the stack of a parameter unless it shares its memory with others."""
        if self.flat is not None and self.shared[k].numel() < LARGE:
            return
        self._blocks[k] = torch.empty(0)
        self._rows[k] = ()

    def clear(self) -> None:
        """Start new sums in the same memory."""
        self.begun.clear()
        self.reached = [False] * len(self.shared)

    def add(
        self,
        losses: Sequence[Tensor],
        tasks: Sequence[int],
        reach: Reach,
        own: Sequence[Tensor],
        *,
        retain_graph: bool,
    ) -> list[Tensor | None]:
        """Add every loss's gradient to its task's row of the stacks.

        Args:
            losses: the losses; they may share a graph.
            tasks: the task number of every loss.
            reach: which losses reach which leaves.
            own: the leaves that receive plain gradients.
            retain_graph: keep the graph for another backward pass.

        Returns:
            The plain gradient of each own leaf, or ``None`` if no loss reaches it.
        """
        masks, own_masks = [reach.of(p) for p in self.shared], [reach.of(p) for p in own]
        plain: list[Tensor | None] = [None] * len(own)
        # The pass of zeros that frees such a graph needs all of it.
        hold = retain_graph or not (reach.clean or reach.releasable)
        unseen = [p for p, mask in zip(self.shared, masks, strict=True) if not mask and p.is_leaf]
        # The hooks are registered once; they read here for which task the current pass runs.
        current = [-1]
        handles = [
            self.shared[k].register_hook(partial(self._keep, k, current))
            for k in self.large
            if masks[k]
        ]
        try:
            with refuse_hidden(unseen):
                # In the order of autograd's own pass over the sum, so that sums round the same way.
                for n in reversed(range(len(losses))):
                    current[0] = tasks[n]
                    mine = [k for k, mask in enumerate(masks) if mask >> n & 1]
                    theirs = [k for k, mask in enumerate(own_masks) if mask >> n & 1]
                    wanted = [self.shared[k] for k in mine] + [own[k] for k in theirs]
                    found = _pass(losses[n], wanted, reach, n, retain_graph=hold)
                    self._store(tasks[n], mine, found[: len(mine)])
                    for k, gradient in zip(theirs, found[len(mine) :], strict=True):
                        before = plain[k]
                        plain[k] = gradient if before is None else plus(before, gradient)
        finally:
            for handle in handles:
                handle.remove()
        if not retain_graph:
            _release(losses, reach)
        return plain

    def _keep(self, k: int, current: list[int], gradient: Tensor | None) -> Tensor | None:
        """Copy a gradient to its row while it is in the cache, and return a replacement.

        The replacement needs no memory of its own, so the gradient is freed during the pass.
        """
        # Some wrappers run hooks for every parameter, also without a gradient.
        if gradient is None:
            return None
        row = self._rows[k][current[0]]
        _write(row, gradient, add=current[0] in self.begun)
        if gradient.layout != torch.strided:
            return None
        same = row.dtype == gradient.dtype and row.device == gradient.device
        return row if same else gradient.new_zeros(()).expand_as(gradient)

    def _store(self, task: int, mine: Sequence[int], found: Sequence[Tensor | None]) -> None:
        """Write the gradients that no hook has written, and zeros for those that are missing."""
        add, large = task in self.begun, set(self.large)
        given = {k: g for k, g in zip(mine, found, strict=True) if g is not None}
        for k in given:
            self.reached[k] = True
        pairs = [(k, dense(g)) for k, g in given.items() if k not in large]
        # One call for all small parameters instead of one each.
        if self.flat is not None and [k for k, _ in pairs] == self.small:
            joined: Tensor = torch._C._nn.flatten_dense_tensors([g for _, g in pairs])
            _write(self.flat[task], joined, add=add)
            pairs = []
        else:
            self._make_views()
        if not add:
            for k in range(len(self.shared)):
                if k not in given:
                    self._rows[k][task].zero_()
        for k, gradient in pairs:
            _write(self._rows[k][task], gradient, add=add)
        self.begun.add(task)


def _write(row: Tensor, gradient: Tensor, *, add: bool) -> None:
    if add:
        row.add_(dense(gradient).to(row.device, row.dtype))
    else:
        row.copy_(dense(gradient))


def plus(first: Tensor, second: Tensor | None) -> Tensor:
    """Return the sum of two gradients; it is sparse if both are."""
    if second is None:
        return first
    # torch adds a sparse tensor to a dense one, not a dense one to a sparse one.
    return second + first if first.is_sparse and not second.is_sparse else first + second


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient in dense form; embeddings may produce sparse ones."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def _pass(
    loss: Tensor, wanted: Sequence[Tensor], reach: Reach, n: int, *, retain_graph: bool
) -> Sequence[Tensor | None]:
    """Return the gradients of loss n, freeing the part of the graph that no later pass needs.

    Args:
        loss: the loss.
        wanted: the leaves that it reaches.
        reach: which losses reach which nodes.
        n: the number of the loss; passes run from the last to the first.
        retain_graph: free nothing.
    """
    if not wanted:
        return ()
    bit = 1 << n
    # The loss itself may be part of another loss's graph, whose later pass needs its nodes.
    own = lowest(reach.masks[reach.roots[n]]) == bit
    cut = None if retain_graph else reach.cuts.get(bit)
    if cut is not None and cut.clean:
        return _in_two(loss, wanted, reach.below(wanted, bit), cut)
    keep = retain_graph or not own or cut is not None or (n == 0 and not reach.clean)
    return torch.autograd.grad(loss, wanted, retain_graph=keep, allow_unused=True)


def _release(losses: Sequence[Tensor], reach: Reach) -> None:
    """Free the parts of the graph that the passes had to keep."""
    if reach.clean:
        return
    if reach.releasable:
        reach.release()
        return
    # Saved tensors that cannot be freed one by one are freed by a pass of zeros.
    zeros = [torch.zeros_like(loss) for loss in losses]
    torch.autograd.grad(losses, reach.leaves(), zeros, allow_unused=True)


def _in_two(
    loss: Tensor, wanted: Sequence[Tensor], below: Sequence[bool], cut: Cut
) -> Sequence[Tensor | None]:
    """Run one backward pass in two halves: the task's own part of the graph, then the shared rest.

    The first half frees the own part; the second keeps the rest for other tasks. Hooks on the last
    nodes of the own part store the gradients there and pass zeros on. The tensor hooks at the
    border, which run in both halves, thus see zeros in the first half and the gradients in the
    second.

    Args:
        loss: the loss.
        wanted: the leaves whose gradients are returned.
        below: for every wanted leaf, whether the task reaches it beyond its own part.
        cut: the border of the task's own part.

    Returns:
        One gradient per wanted leaf, ``None`` if there is none.
    """
    # The gradients at the border, by node and number of its input.
    met: dict[tuple[Any, int], Tensor] = {}

    def divert(
        edges: list[tuple[int, Any, int]],
        gradients: tuple[Tensor | None, ...],
        _: tuple[Tensor | None, ...],
    ) -> tuple[Tensor | None, ...]:
        passed = list(gradients)
        for k, child, number in edges:
            gradient = gradients[k]
            if gradient is not None:
                before = met.get((child, number))
                met[child, number] = gradient if before is None else plus(before, gradient)
                zero = torch.zeros((), dtype=gradient.dtype, device=gradient.device)
                passed[k] = zero.expand(gradient.shape)
        return tuple(passed)

    border = {(child, number) for edges in cut.edges.values() for _, child, number in edges}
    upper = [p for p, is_below in zip(wanted, below, strict=True) if not is_below]
    lower = [p for p, is_below in zip(wanted, below, strict=True) if is_below]
    handles = [node.register_hook(partial(divert, edges)) for node, edges in cut.edges.items()]
    inputs: list[Any] = [*upper, *(GradientEdge(*end) for end in border)]
    try:
        found = torch.autograd.grad(loss, inputs, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    first = iter(found[: len(upper)])
    # Without a gradient at the border there is nothing to pass on.
    second: Any = iter([None] * len(lower))
    if met and lower:
        starts = [GradientEdge(*end) for end in met]
        second = iter(
            torch.autograd.grad(
                starts, lower, list(met.values()), retain_graph=True, allow_unused=True
            )
        )
    return [next(second) if is_below else next(first) for is_below in below]
