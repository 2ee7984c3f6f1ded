"""Task gradients of losses that share one graph: one backward pass per task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from pcgrad._distributed import average
from pcgrad._gramian import Weights, dense, products
from pcgrad._graph import Reach, can_release, gradients, refuse_hidden, release
from pcgrad._parameters import Parameters, check_losses, named
from pcgrad._precision import full_precision

LARGE = 1 << 12
"""Values from which a gradient is copied to its row while it is in the cache."""

MANY = 256
"""Small parameters from which on one matrix keeps their gradients: calls cost more than numbers."""


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
    losses: Sequence[Tensor], parameters: Parameters, *, retain_graph: bool = False
) -> list[Tensor]:
    """Return the gradient of every loss with respect to every parameter.

    There is one backward pass per task. The gradient is zero if a loss does not reach a parameter,
    or if the parameter is frozen. Sparse gradients are returned dense. ``.grad`` does not change. A
    warning names the parameters that a single loss reaches.

    Args:
        losses: T scalars that share a graph, as a Python list. A stacked tensor raises an error:
            one nan loss would reach all tasks.
        parameters: tensors, ``(name, tensor)`` pairs or a dict.
        retain_graph: keep the graph for another backward pass.

    Returns:
        One stack ``[T, *shape]`` per parameter, in its dtype.

    Raises:
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
        next(found) if p.requires_grad else no_gradient(p, like, len(losses))
        for p in table.values()
    ]


def no_gradient(frozen: Tensor, like: Tensor, tasks: int) -> Tensor:
    """Return the zero gradients of a frozen parameter, on the device of the trainable ones."""
    # Frozen parameters may be quantized or on another device: one zero, expanded, needs no memory.
    if frozen.is_floating_point() and frozen.device == like.device:
        return frozen.new_zeros((tasks, *frozen.shape))
    return torch.zeros((), dtype=like.dtype, device=like.device).expand(tasks, *frozen.shape)


class Stacks:
    """Stacks ``[T, *shape]`` of task gradients; unless ``reused``, updates free them."""

    def __init__(
        self,
        shared: Sequence[Tensor],
        tasks: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        reused: bool = False,
    ) -> None:
        self.shared, self.tasks = list(shared), tasks
        self.dtype, self.device, self.reused = dtype, device, reused
        self._begun: set[int] = set()
        self._kept: set[int] = set()
        self.reached = [False] * len(self.shared)
        self._blocks: list[Tensor] = [torch.empty(0)] * len(self.shared)
        self._rows: list[tuple[Tensor, ...]] = [()] * len(self.shared)
        self._large = [k for k, p in enumerate(self.shared) if p.numel() >= LARGE]
        small = [k for k, p in enumerate(self.shared) if p.numel() < LARGE]
        stored = [dtype if dtype and not p.is_complex() else p.dtype for p in self.shared]
        # One matrix for many small parameters: one product and one sum serve all of them. The
        # stacks are views of its columns, made when they are asked for.
        many = len(small) >= MANY and len({stored[k] for k in small}) == 1
        self._small = small if many else []
        self._flat: Tensor | None = None
        if many:
            size = sum(self.shared[k].numel() for k in small)
            where = device or self.shared[small[0]].device
            self._flat = torch.empty(tasks, size, dtype=stored[small[0]], device=where)
        for k in self._large if many else range(len(self.shared)):
            p = self.shared[k]
            self._blocks[k] = torch.empty(
                (tasks, *p.shape), dtype=stored[k], device=device or p.device
            )
            self._rows[k] = self._blocks[k].unbind()

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle stores the views of one memory separately, so a copy has memory of its own.
        if self._begun:
            raise TypeError("an accumulator that holds sums cannot be copied; call backward first")
        new = partial(Stacks, dtype=self.dtype, device=self.device, reused=self.reused)
        return new, (self.shared, self.tasks)

    def _make_views(self) -> None:
        """Make the stacks of the small parameters as views of their common matrix."""
        if self._flat is None or self._rows[self._small[0]]:
            return
        sizes = [self.shared[k].numel() for k in self._small]
        for k, columns in zip(self._small, self._flat.split(sizes, 1), strict=True):
            self._blocks[k] = columns.view(self.tasks, *self.shared[k].shape)
            self._rows[k] = self._blocks[k].unbind()

    def memory(self) -> list[Tensor]:
        """Return the values of all stacks as few tensors; zero where there is no gradient."""
        # The memory starts uninitialised, and clear() leaves old values in it.
        for task in set(range(self.tasks)) - self._begun:
            self._make_views()
            for rows in self._rows:
                rows[task].zero_()
            self._begun.add(task)
        if self._flat is None:
            return self._blocks
        return [self._flat, *(self._blocks[k] for k in self._large)]

    def blocks(self) -> list[Tensor]:
        """Return the stacks ``[T, *shape]``; zero where there is no gradient."""
        self.memory()
        self._make_views()
        return self._blocks

    def clear(self) -> None:
        """Start new sums in the same memory."""
        self._begun.clear()
        self.reached = [False] * len(self.shared)

    def complete(self, kept: Sequence[int], ranks: Any | None) -> None:
        average(self.memory(), ranks)

    def products(self, *, whole: bool) -> list[Tensor]:
        """Return the dot products of every stack; with ``whole``, small stacks count as one."""
        with full_precision(self.shared[0].device):
            return [products(block) for block in (self.memory() if whole else self.blocks())]

    def updates(self, kept: Sequence[int], weights: Tensor) -> list[Tensor]:
        ready = Weights(weights)
        pieces: dict[int, Tensor] = {}
        found = []
        nothing = torch.empty(0)
        with full_precision(self.shared[0].device):
            # With one weight vector for all parameters, one product updates all small ones.
            if self._flat is None or weights.dim() == 2:
                self._make_views()
            else:
                like = [self.shared[k] for k in self._small]
                whole = torch._C._nn.unflatten_dense_tensors(ready.combine(self._flat), like)
                # Copies: views would keep the memory of all small updates alive.
                copies = [torch.empty_like(p) for p in like]
                torch._foreach_copy_(copies, whole)
                pieces = dict(zip(self._small, copies, strict=True))
            for n, k in enumerate(kept):
                if k in pieces:
                    found.append(pieces[k])
                else:
                    found.append(ready.update(self.shared[k], self._blocks[k], n))
                if not self.reused:
                    self._blocks[k] = nothing
                    self._rows[k] = ()
        return found

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
        hooked = [k for k in self._large if masks[k]]
        handles = [self.shared[k].register_hook(partial(self._keep, k, current)) for k in hooked]
        if hooked:
            for loss, task in zip(losses, tasks, strict=True):
                handles.append(loss.register_hook(partial(_begin, current, task)))
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
        """Copy a gradient to its row while it is in the cache; a replacement frees its memory."""
        # Some wrappers run hooks for every parameter, also without a gradient. A pass of another
        # thread, or of a function or hook inside this pass, is not ours.
        if gradient is None or torch._C._current_graph_task_id() not in current[1:]:
            return None
        self._kept.add(k)
        row = self._rows[k][current[0]]
        _write(row, gradient, add=current[0] in self._begun)
        if gradient.layout != torch.strided:
            return None
        same = row.dtype == gradient.dtype and row.device == gradient.device
        return row if same else gradient.new_zeros(()).expand_as(gradient)

    def _store(self, task: int, given: Mapping[int, Tensor]) -> None:
        """Write the gradients that no hook has written, and zeros for those that are missing."""
        add = task in self._begun
        for k in given:
            self.reached[k] = True
        left = {k: dense(g) for k, g in given.items() if k not in self._kept}
        # One call for all small parameters instead of one each.
        if self._flat is not None and list(left) == self._small:
            joined: Tensor = torch._C._nn.flatten_dense_tensors(list(left.values()))
            _write(self._flat[task], joined, add=add)
            left = {}
        else:
            self._make_views()
        if not add:
            for k in range(len(self.shared)):
                if k not in given:
                    self._rows[k][task].zero_()
        for k, gradient in left.items():
            _write(self._rows[k][task], gradient, add=add)
        self._begun.add(task)


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
