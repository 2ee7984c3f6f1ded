"""One gradient per task, for losses that share one graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from pcgrad._graph import Cut, Reach, lowest
from pcgrad._parameters import Parameters, check_losses, check_option, named

Strategy = Literal["loop", "batched"]

LARGE = 1 << 12
"""Values from which a gradient is copied to its row while it is in the cache, before the next is formed."""

MANY = 256
"""From so many small parameters on, their gradients are kept in one matrix: calls cost more than numbers."""


def check_strategy(strategy: str) -> None:
    """Refuse an unknown strategy, and say that there is only one."""
    check_option("strategy", strategy, ("loop", "batched"))
    if strategy == "batched":
        warnings.warn(
            "strategy='batched' is the loop since 0.2: torch's vectorized pass gave other gradients "
            "for some layers; leave the argument out",
            DeprecationWarning,
            stacklevel=3,
        )


def warn_single(table: Mapping[str, Tensor], reach: Reach, tasks: int) -> None:
    """Warn of listed parameters that a single loss reaches: perhaps a head among the shared ones."""
    if tasks == 1:
        return
    masks = {name: reach.of(tensor) for name, tensor in table.items()}
    single = [
        f"{name} (task {mask.bit_length() - 1})"
        for name, mask in masks.items()
        if mask.bit_count() == 1 and not reach.joins_shared(table[name])
    ]
    if single:
        warnings.warn(
            f"listed as shared, reached by a single loss in this step: {', '.join(single)}; if they are "
            "a task's own parameters, leave them out: they do not belong into the dot products",
            stacklevel=3,
        )


def task_gradients(
    losses: Sequence[Tensor],
    parameters: Parameters,
    *,
    strategy: Strategy = "loop",
    retain_graph: bool = False,
) -> list[Tensor]:
    """The gradient of every loss with respect to every parameter, from one forward pass.

    One backward pass per task. A parameter that a loss does not reach has a zero gradient for it;
    so has a frozen one. Sparse gradients are made dense. ``.grad`` is not touched. Warns once, by
    name, of a listed parameter that a single loss reaches.

    Args:
        losses: T scalars that share a graph, as a Python list. (Iterating over a stacked tensor
            would send every task's backward pass through all heads, and one loss that is not a
            number would poison all tasks.)
        parameters: tensors, ``(name, tensor)`` pairs or a dict of them.
        strategy: deprecated; ``"batched"`` does the same as ``"loop"``.
        retain_graph: keep the graph for another backward pass.

    Returns:
        One stack ``[T, *shape]`` per parameter, in its dtype.
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
    """The zero gradients of a frozen parameter, beside the trainable ones where it is elsewhere."""
    if frozen.is_floating_point() and frozen.device == like.device:
        return frozen.new_zeros((tasks, *frozen.shape))
    return torch.zeros((), dtype=like.dtype, device=like.device).expand(tasks, *frozen.shape)


class Stacks:
    """Task gradients of the shared parameters, filled by one or several backward passes.

    Args:
        shared: the parameters.
        tasks: T.
        dtype, device: where the ``[T, *shape]`` stacks are stored; the parameters' by default.
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
        if len(small) >= MANY and len({stored[k] for k in small}) == 1:
            self.small = small
            sizes = [self.shared[k].numel() for k in small]
            where = device or self.shared[small[0]].device
            self.flat = torch.empty(tasks, sum(sizes), dtype=stored[small[0]], device=where)
            for k, columns in zip(small, self.flat.split(sizes, 1), strict=True):
                self._blocks[k] = columns.view(tasks, *self.shared[k].shape)
        for k in range(len(self.shared)) if self.flat is None else self.large:
            p = self.shared[k]
            self._blocks[k] = torch.empty(
                (tasks, *p.shape), dtype=stored[k], device=device or p.device
            )
        self._rows: list[tuple[Tensor, ...]] = [block.unbind() for block in self._blocks]

    def blocks(self) -> list[Tensor]:
        """The stacks ``[T, *shape]``; zero for tasks and parameters without a gradient."""
        if len(self.begun) < self.tasks:
            for task in set(range(self.tasks)) - self.begun:
                for rows in self._rows:
                    rows[task].zero_()
                self.begun.add(task)
        return self._blocks

    def drop(self, k: int) -> None:
        """Free a stack; small ones share their memory."""
        if self.flat is not None and self.shared[k].numel() < LARGE:
            return
        self._blocks[k] = torch.empty(0)
        self._rows[k] = ()

    def clear(self) -> None:
        """Begin anew, in the same memory."""
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
        """Add every loss's gradient to its task's row, and return the plain gradients of own leaves.

        Passes run from the last loss to the first, as autograd does, so that a leaf of several
        tasks adds up in the same order.
        """
        masks, own_masks = [reach.of(p) for p in self.shared], [reach.of(p) for p in own]
        plain: list[Tensor | None] = [None] * len(own)
        current = [-1]
        handles = [
            self.shared[k].register_hook(partial(self._keep, k, current))
            for k in self.large
            if masks[k]
        ]
        try:
            for n in reversed(range(len(losses))):
                current[0] = tasks[n]
                mine = [k for k, mask in enumerate(masks) if mask >> n & 1]
                theirs = [k for k, mask in enumerate(own_masks) if mask >> n & 1]
                wanted = [self.shared[k] for k in mine] + [own[k] for k in theirs]
                found = _pass(losses[n], wanted, reach, n, retain_graph=retain_graph)
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
        """Copy a gradient while it is in the cache; what replaces it holds no memory of its own."""
        if gradient is None:  # from wrappers that reach for every parameter
            return None
        row = self._rows[k][current[0]]
        _write(row, gradient, add=current[0] in self.begun)
        if gradient.layout != torch.strided:
            return None
        same = row.dtype == gradient.dtype and row.device == gradient.device
        return row if same else gradient.new_zeros(()).expand_as(gradient)

    def _store(self, task: int, mine: Sequence[int], found: Sequence[Tensor | None]) -> None:
        """Write the gradients that no hook has written, and zeros where there are none."""
        add, written = task in self.begun, set[int]()
        large = set(self.large)
        for k, gradient in zip(mine, found, strict=True):
            if gradient is not None:
                written.add(k)
                self.reached[k] = True
        if not add:
            for k in range(len(self.shared)):
                if k not in written:
                    self._rows[k][task].zero_()
        pairs = [
            (k, dense(g))
            for k, g in zip(mine, found, strict=True)
            if g is not None and k not in large
        ]
        if self.flat is not None and not add and [k for k, _ in pairs] == self.small:
            torch._foreach_copy_([self._rows[k][task] for k in self.small], [g for _, g in pairs])
            pairs = []
        for k, gradient in pairs:
            _write(self._rows[k][task], gradient, add=add)
        self.begun.add(task)


def _write(row: Tensor, gradient: Tensor, *, add: bool) -> None:
    if add:
        row.add_(dense(gradient).to(row.device, row.dtype))
    else:
        row.copy_(dense(gradient))


def plus(first: Tensor, second: Tensor | None) -> Tensor:
    """The sum of two gradients, sparse where both are."""
    if second is None:
        return first
    return second + first if first.is_sparse and not second.is_sparse else first + second


def dense(gradient: Tensor) -> Tensor:
    """A sparse gradient (of an embedding) as a dense one."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def _pass(
    loss: Tensor, wanted: Sequence[Tensor], reach: Reach, n: int, *, retain_graph: bool
) -> Sequence[Tensor | None]:
    """Loss n's gradients. What no pass after it needs of the graph is freed on the way."""
    if not wanted:
        return ()
    bit = 1 << n
    own = lowest(reach.masks[reach.roots[n]]) == bit
    cut = None if retain_graph else reach.cuts.get(bit)
    if cut is not None and cut.clean:
        return _in_two(loss, wanted, reach.below(wanted, bit), cut)
    keep = retain_graph or not own or cut is not None or (n == 0 and not reach.clean)
    return torch.autograd.grad(loss, wanted, retain_graph=keep, allow_unused=True)


def _release(losses: Sequence[Tensor], reach: Reach) -> None:
    """Free the parts of the graph that passes had to keep, by a pass of zeros where needed."""
    if not reach.clean and not reach.release():
        zeros = [torch.zeros_like(loss) for loss in losses]
        torch.autograd.grad(losses, reach.leaves(), zeros, allow_unused=True)


def _in_two(
    loss: Tensor, wanted: Sequence[Tensor], below: Sequence[bool], cut: Cut
) -> Sequence[Tensor | None]:
    """First through the task's own part of the graph, which is freed, then through the rest.

    A hook on the last nodes of the own part takes the gradient there and passes zeros on, so that
    tensor hooks at the border, which the second half runs, change nothing in the first.
    """
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
    second: Any = iter([None] * len(lower))
    if met and lower:
        starts = [GradientEdge(*end) for end in met]
        second = iter(
            torch.autograd.grad(
                starts, lower, list(met.values()), retain_graph=True, allow_unused=True
            )
        )
    return [next(second) if is_below else next(first) for is_below in below]
