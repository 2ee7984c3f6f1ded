"""Drop-in replacements for ``Tensor.backward``: losses of one graph, or of several in turn.

Both run the same four steps: task gradients -> Gramian -> surgery -> weighted sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Never

import torch
from torch import Tensor, nn

from pcgrad._distributed import Group
from pcgrad._graph import Reach
from pcgrad._method import Granularity, Method
from pcgrad._orders import Orders, check_tasks
from pcgrad._parameters import (
    Parameters,
    check_losses,
    integers,
    named,
    own_leaves,
    refuse_positional,
    shown,
)
from pcgrad._surgery import Reduction, Surgery, Weighting
from pcgrad._task_gradients import Stacks, plus, warn_single


def backward(
    losses: Sequence[Tensor],
    shared_parameters: Parameters | None = None,
    *positional: Never,
    own_parameters: Parameters | None = None,
    weighting: Weighting | None = None,
    orders: Orders | Tensor = "random",
    reduction: Reduction = "sum",
    granularity: Granularity = "global",
    generator: torch.Generator | None = None,
    group: Group = None,
    check_finite: bool = False,
    retain_graph: bool = False,
) -> Surgery:
    """Run ``sum(losses).backward()`` with PCGrad's update for the shared parameters.

    The update is that of Yu et al. 2020, Algorithm 1. The other leaves that the losses reach (task
    heads) receive the plain sum of their gradients. As with ``Tensor.backward``, gradients are
    **added** to ``.grad`` and post-accumulate hooks run, but not hooks of AccumulateGrad nodes.
    Frozen parameters, and parameters that no loss reaches, keep their ``.grad``. If an error is
    raised, no ``.grad`` has changed.

    There is one backward pass per task, and tensor hooks run once per task (once more, with zeros,
    where hooks pack what the heads save, as save_on_cpu does). Two calls are two surgeries; use
    :class:`pcgrad.Accumulator` for one surgery on the sum of micro-batches. The host synchronises
    with the device once if ``check_finite`` is set, and twice under a ``group``.

    Args:
        losses: T scalars that share a graph, as a Python list. Apply loss weights beforehand.
        shared_parameters: the leaves under surgery: tensors, ``(name, tensor)`` pairs or a dict.
            ``None`` selects the leaves that two or more losses reach. If any of these is an
            ``nn.Parameter``, plain tensors (such as inputs) are left out. An error is raised if an
            operation joins the tasks, as stacking the losses or compiling trunk and heads does.
            This check synchronises with the device.
        own_parameters: the leaves that receive plain gradients; ``None`` selects all others.
        weighting: a function from the Gramian ``[T, T]`` to weights ``[T]``, such as torchjd's
            ``*Weighting`` classes. It replaces Algorithm 1, including orders and reduction.
        orders: ``"random"`` (Algorithm 1: one permutation per task), ``"shared"`` (one permutation
            for all tasks), ``"fixed"`` (the official code in effect), or a LongTensor ``[T, T-1]``.
        reduction: ``"sum"`` (Algorithm 1) or ``"mean"`` of the projected gradients. Plain gradients
            are always summed.
        granularity: the parameters that one dot product covers: ``"global"`` (Algorithm 1: all
            shared parameters), ``"per_tensor"``, or named groups ``{name: parameters}`` that
            contain each shared parameter exactly once.
        generator: the CPU generator that draws the orders; ``None`` is torch's default generator.
        group: the process group of data parallelism. Task gradients are averaged over it before
            surgery, and all ranks use rank 0's orders. DistributedDataParallel does not see this
            pass, but a plain ``.backward()`` in the same step: then call the model that it wraps
            under ``no_sync()``. List ``own_parameters`` if the ranks' losses reach different
            leaves. ``None`` raises an error if several processes run; ``False`` is local surgery.
        check_finite: raise an error that names the task, or the own parameter, that is not finite.
            Otherwise such values reach ``.grad``, where a GradScaler skips the step.
        retain_graph: keep the graph for another backward pass.

    Returns:
        The :class:`Surgery`, with a leading dimension over parameters or groups unless
        ``granularity`` is ``"global"``.

    Raises:
        FloatingPointError: if ``check_finite`` is set and a loss or gradient is not finite.
        RuntimeError: if ``group`` is ``None`` among several processes, or ranks disagree.
        ValueError: if an option is unknown, or no loss reaches a shared parameter.
    """
    refuse_positional(positional)
    method = Method(weighting, orders, reduction, granularity, generator, group)
    losses = check_losses(losses)
    reach = Reach(losses)
    table = _shared(shared_parameters, reach, len(losses))
    own = _own(own_parameters, table, reach)
    stacks = Stacks(list(table.values()), len(losses))
    method.prepare(table, own, len(losses), stacks.shared[0].device)
    # A head among the shared parameters would change the dot products without an error.
    warn_single(table, reach, len(losses))
    plain = stacks.add(losses, range(len(losses)), reach, own, retain_graph=retain_graph)
    kept, pairs = method.gather(stacks, own, plain)
    # Of the averages, so that all ranks raise together.
    if shared_parameters is None:
        _refuse_joined(table, stacks, reach)
    return method.apply(stacks, kept, pairs, losses if check_finite else ())


class Accumulator:
    """Sums task gradients over several backward passes, then applies one surgery to the sum.

    For losses with separate graphs (one task in memory at a time), for micro-batches, and to store
    task gradients in another dtype or on the CPU::

        accumulator = pcgrad.Accumulator(trunk.parameters(), tasks=T)  # once
        for i, batch in enumerate(batches):
            accumulator.add([loss(i, batch)], tasks=[i])  # frees this graph
        accumulator.backward(generator=generator)

    Parameters are those of :func:`backward`.

    Args:
        tasks: the number of tasks T.
        dtype: the dtype in which task gradients are stored and summed; ``None`` is the parameters'.
        device: the device that stores them, such as ``"cpu"``; ``None`` is the parameters'.
    """

    def __init__(
        self,
        shared_parameters: Parameters,
        *,
        tasks: int,
        own_parameters: Parameters | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.tasks = check_tasks(tasks)
        kept = dtype is None or isinstance(dtype, torch.dtype)
        if not kept or (dtype and not (dtype.is_floating_point and dtype.itemsize > 1)):
            raise ValueError(
                f"the dtype must be torch's floating-point of 16 bits on, got {shown(dtype)}"
            )
        try:
            where = None if device is None else torch.device(device)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"no device of torch here: {shown(device)}; use 'cpu'") from error
        # Listed once, because iterators such as module.parameters() are empty after the first use.
        self._shared_parameters = named(shared_parameters, "shared parameters")
        self._table = _listed(self._shared_parameters)
        self._own_parameters = (
            None if own_parameters is None else named(own_parameters, "own parameters")
        )
        shared = list(self._table.values())
        self._stacks = Stacks(shared, self.tasks, dtype=dtype, device=where, reused=True)
        self._plain: dict[int, tuple[Tensor, Tensor]] = {}

    def add(
        self,
        losses: Sequence[Tensor],
        *,
        tasks: Sequence[int] | None = None,
        retain_graph: bool = False,
    ) -> None:
        """Add the gradients of losses to those of their tasks, leaving ``.grad`` unchanged.

        If the backward pass raises an error, the sums start anew.

        Args:
            losses: scalars, which may share a graph.
            tasks: the task number of every loss; ``None`` means all tasks in order.
            retain_graph: keep the graph for another backward pass.
        """
        losses = check_losses(losses)
        # Numbers of other kinds, such as tensors, would name no row of the stacks.
        numbers = integers(range(self.tasks) if tasks is None else tasks)
        if numbers is None:
            raise TypeError(f"tasks must be integers, got {shown(tasks)}")
        if len(numbers) != len(losses) or len(set(numbers)) != len(numbers):
            raise ValueError(
                f"there must be one loss for each listed task, got {len(losses)} losses for tasks "
                f"{numbers}"
            )
        if not all(0 <= task < self.tasks for task in numbers):
            raise ValueError(f"tasks must be from 0 to {self.tasks - 1}, got {numbers}")
        for name, p in self._shared_parameters.items():
            if p.requires_grad and name not in self._table:
                raise RuntimeError(
                    f"shared parameter {name} was frozen when this accumulator was made; make a "
                    "new one"
                )
        reach = Reach(losses)
        own = _own(self._own_parameters, self._table, reach)
        try:
            plain = self._stacks.add(losses, numbers, reach, own, retain_graph=retain_graph)
        except BaseException:
            # Some tasks' gradients may be added already: the sums would count these losses in part.
            self._clear()
            raise
        for leaf, gradient in zip(own, plain, strict=True):
            if gradient is not None:
                # Summed here rather than in .grad, so that clearing .grad in between is harmless.
                before = self._plain.get(id(leaf))
                total = gradient if before is None else plus(before[1], gradient)
                self._plain[id(leaf)] = (leaf, total)

    def backward(
        self,
        *,
        weighting: Weighting | None = None,
        orders: Orders | Tensor = "random",
        reduction: Reduction = "sum",
        granularity: Granularity = "global",
        generator: torch.Generator | None = None,
        group: Group = None,
    ) -> Surgery:
        """Add the update of the summed task gradients to ``.grad``, then reset the sums.

        Arguments and result are those of :func:`backward`.
        """
        method = Method(weighting, orders, reduction, granularity, generator, group)
        # On every rank the same leaves: those that another rank alone reaches have no gradient.
        listed = (self._own_parameters or {}).values()
        absent = {id(p): (p, None) for p in listed if p.requires_grad}
        sums: list[tuple[Tensor, Tensor | None]] = list({**absent, **self._plain}.values())
        own = [leaf for leaf, _ in sums]
        method.prepare(self._table, own, self.tasks, self._stacks.shared[0].device)
        kept, pairs = method.gather(self._stacks, own, [total for _, total in sums])
        result = method.apply(self._stacks, kept, pairs, ())
        self._clear()
        return result

    def _clear(self) -> None:
        self._stacks.clear()
        self._plain.clear()


def _listed(parameters: Parameters) -> dict[str, Tensor]:
    """Return the trainable ones of the caller's shared parameters, by name."""
    table = {
        name: p for name, p in named(parameters, "shared parameters").items() if p.requires_grad
    }
    if not table:
        raise ValueError(
            "there are no shared parameters to train: the list is empty, or all are frozen"
        )
    for name, tensor in table.items():
        if not tensor.is_leaf:
            raise ValueError(
                f"parameter {name} is not a leaf and has no .grad; use task_gradients for it"
            )
        if tensor.layout != torch.strided:
            raise TypeError(f"shared parameter {name} is sparse, its update is not; make it dense")
    return table


def _shared(parameters: Parameters | None, reach: Reach, tasks: int) -> dict[str, Tensor]:
    """Return the parameters under surgery: those given, or all that several losses reach."""
    if parameters is not None:
        return _listed(parameters)
    # A single task has no other loss to share with, so all of its leaves count.
    several = [leaf for leaf in reach.leaves() if reach.of(leaf).bit_count() > 1 or tasks == 1]
    # Inputs with gradients, as in physics-informed networks, are not meant to be trained.
    if any(isinstance(leaf, nn.Parameter) for leaf in several):
        several = [leaf for leaf in several if isinstance(leaf, nn.Parameter)]
    if not several:
        raise ValueError("no leaf is reached by two losses: there is nothing to share")
    return _listed(several)


@torch.no_grad()
def _refuse_joined(names: Iterable[str], stacks: Stacks, reach: Reach) -> None:
    """Raise if an operation joins the tasks, which connects a task's own leaf with all losses."""
    # Meta tensors have no values.
    if stacks.shared[0].is_meta:
        return
    peaks = [
        torch.linalg.vector_norm(block.reshape(len(block), -1), torch.inf, dim=1)
        if block.numel() else block.new_zeros(len(block)) for block in stacks.blocks()
    ]  # fmt: skip
    nonzero = torch.stack([peak.double() != 0 for peak in peaks]).tolist()
    masks = [sum(1 << i for i, flag in enumerate(row) if flag) for row in nonzero]
    active = reduce(or_, masks)
    # Only the other tasks' zeros show it, as when losses are stacked and taken apart again. Zeros
    # prove nothing for a task without any gradient, nor for a leaf that an operation of a single
    # loss takes, as at a boundary condition in x = 0.
    for name, leaf, mask in zip(names, stacks.shared, masks, strict=True):
        several = mask.bit_count() == 1 and (reach.of(leaf) & active).bit_count() > 1
        if several and reach.merged(leaf):
            raise ValueError(
                "an operation joins what belongs to different losses: the graph connects leaf "
                f"{name} with several, and only task {mask.bit_length() - 1} has a gradient of it; "
                "list the shared parameters"
            )


def _own(parameters: Parameters | None, shared: dict[str, Tensor], reach: Reach) -> list[Tensor]:
    """Return the trainable leaves that receive plain gradients."""
    identities = {id(p) for p in shared.values()}
    own = own_leaves(parameters, reach.leaves(), identities, "is also listed as shared")
    return [p for p in own if p.requires_grad]
