"""Task gradients of losses that share one graph: one backward pass per task.

Each pass frees the part of the graph that no later pass needs, and writes its gradients into one
stack ``[T, *shape]`` per parameter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from pcgrad._graph import Reach, can_release, gradients, refuse_hidden, release
from pcgrad._parameters import Parameters, check_losses, named

LARGE = 1 << 12
"""Values from which a gradient is copied to its row while it is in the cache, before the next is \
formed."""

MANY = 256
"""From so many small parameters on, their gradients are kept in one matrix: calls cost more than \
numbers."""


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
        retain_graph: keep the graph for another backward pass.

    Returns:
        One stack ``[T, *shape]`` per parameter, in its dtype.

    Raises:
        TypeError: if a loss or a parameter has the wrong type.
        ValueError: if a loss is no scalar or has no graph, or a list is empty.
    """
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
        self._kept: set[int] = set()
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

        Returns:
            The plain gradient of each own leaf, or ``None`` if no loss reaches it.
        """
        leaves = [*self.shared, *own]
        masks = [reach.of(p) for p in leaves]
        reached = [[k for k, mask in enumerate(masks) if mask >> n & 1] for n in range(len(losses))]
        parts = reach.parts([leaves[k] for k in reached[0]])
        # What cannot be freed part by part is kept, and freed at the end by a pass of zeros.
        keep = retain_graph or not can_release(chain.from_iterable(parts))
        # The hooks are registered once; they read here for which task the current pass runs, and
        # its number in autograd, which the first operation of the pass writes.
        current: list[int] = []
        hooked = [k for k in self.large if masks[k]]
        handles = [self.shared[k].register_hook(partial(self._keep, k, current)) for k in hooked]
        if hooked:
            begins = [partial(_begin, current, task) for task in tasks]
            handles += [loss.register_hook(at) for loss, at in zip(losses, begins, strict=True)]
        guarded = [p for p in self.shared if p.is_leaf] if reach.custom else []
        plain: dict[int, Tensor] = {}
        try:
            with refuse_hidden(guarded):
                # In the order of autograd's own pass over the sum, so that sums round the same way.
                for n in reversed(range(len(losses))):
                    current[:] = [tasks[n]]
                    self._kept.clear()
                    wanted = [leaves[k] for k in reached[n]]
                    found = gradients(losses[n], wanted, keep=keep or n > 0) if wanted else ()
                    if not keep:
                        release(parts[n])
                    given = {k: g for k, g in zip(reached[n], found, strict=True) if g is not None}
                    for k in [k for k in given if k >= len(self.shared)]:
                        gradient = given.pop(k)
                        plain[k] = plus(plain[k], gradient) if k in plain else gradient
                    self._store(tasks[n], given)
        finally:
            for handle in handles:
                handle.remove()
        if keep and not retain_graph:
            zeros = [torch.zeros_like(loss) for loss in losses]
            torch.autograd.grad(losses, reach.leaves(), zeros, allow_unused=True)
        return [plain.get(k) for k in range(len(self.shared), len(leaves))]

    def _keep(self, k: int, current: list[int], gradient: Tensor | None) -> Tensor | None:
        """Copy a gradient to its row while it is in the cache, and return a replacement.

        The replacement needs no memory of its own, so the gradient is freed during the pass.
        """
        # Some wrappers run hooks for every parameter, also without a gradient. A pass of another
        # thread, or of a function or hook inside this pass, is not ours.
        if gradient is None or torch._C._current_graph_task_id() not in current[1:]:
            return None
        self._kept.add(k)
        row = self._rows[k][current[0]]
        _write(row, gradient, add=current[0] in self.begun)
        if gradient.layout != torch.strided:
            return None
        same = row.dtype == gradient.dtype and row.device == gradient.device
        return row if same else gradient.new_zeros(()).expand_as(gradient)

    def _store(self, task: int, given: Mapping[int, Tensor]) -> None:
        """Write the gradients that no hook has written, and zeros for those that are missing."""
        add = task in self.begun
        for k in given:
            self.reached[k] = True
        pairs = [(k, dense(g)) for k, g in given.items() if k not in self._kept]
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


def _begin(current: list[int], task: int, _: Tensor) -> None:
    """Note the number of the pass that has just begun at the loss of its task."""
    # A hook may run a pass of another task's loss before.
    if current == [task]:
        current.append(torch._C._current_graph_task_id())


def _write(row: Tensor, gradient: Tensor, *, add: bool) -> None:
    if add:
        row.add_(dense(gradient).to(row.device, row.dtype))
    else:
        row.copy_(dense(gradient))


def plus(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of two gradients; it is sparse if both are."""
    # torch adds a sparse tensor to a dense one, not a dense one to a sparse one.
    return second + first if first.is_sparse and not second.is_sparse else first + second


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient in dense form; embeddings may produce sparse ones."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()
