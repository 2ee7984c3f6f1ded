"""Gradient surgery instead of ``Tensor.backward``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never

import torch
from torch import Tensor, nn

from pcgrad._distributed import Group, agree, average, reached_anywhere
from pcgrad._gramian import Weights, add_gradients, own_gradient, products
from pcgrad._graph import Reach
from pcgrad._method import Granularity, Method, refuse_not_finite
from pcgrad._orders import Orders
from pcgrad._parameters import Parameters, check_losses, named, refuse_positional
from pcgrad._precision import full_precision
from pcgrad._surgery import Reduction, Surgery, Weighting
from pcgrad._task_gradients import Stacks, Strategy, check_strategy, plus, warn_single


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
    strategy: Strategy = "loop",
    check_finite: bool = False,
    retain_graph: bool = False,
) -> Surgery:
    """Like ``sum(losses).backward()``, but the shared parameters receive PCGrad's update (Yu et al.
    2020, Algorithm 1).

    Four steps: task gradients -> Gramian -> surgery -> weights. ``.grad`` is **added to**, as by
    ``Tensor.backward``, and post-accumulate hooks run. The other leaves that the losses reach (task
    heads) receive the plain sum of their gradients. A parameter that no loss reaches, and a frozen
    one, keeps its ``.grad``. Nothing is added where an error is raised. There is one backward pass
    per task: tensor hooks run once for each, and once more with zeros on the outputs of the shared
    part. Micro-batches add up: two calls are two surgeries. For one surgery on their sum, use
    :class:`pcgrad.Accumulator`. The host waits for the device only where ``check_finite`` asks for
    it, and twice a call under a ``group``.

    Args:
        losses: T scalars that share a graph, as a Python list, weighted already where weights are
            wanted.
        shared_parameters: the leaves that take part in surgery: tensors, ``(name, tensor)`` pairs
            or a dict. ``None``: those that two or more losses reach. Where there are
            ``nn.Parameter`` among them, other tensors (inputs) are not shared.
        own_parameters: the leaves that receive plain gradients; ``None``: all others that the
            losses reach.
        weighting: another method: a function from the Gramian ``[T, T]`` to weights ``[T]``, as
            torchjd's ``*Weighting`` classes are. It takes the place of Algorithm 1, its orders and
            its reduction.
        orders: ``"random"`` (Algorithm 1: drawn anew for every task), ``"shared"`` (one permutation
            for all tasks), ``"fixed"`` (the official code in effect), or a LongTensor ``[T, T-1]``.
        reduction: ``"sum"`` (Algorithm 1) or ``"mean"`` of the projected gradients; plain gradients
            are always summed.
        granularity: what one dot product covers: ``"global"`` (Algorithm 1: all shared parameters),
            ``"per_tensor"``, or named groups ``{name: parameters}``, each shared parameter in one.
        generator: the CPU generator of the orders; ``None`` is torch's default one.
        group: data parallelism: gradients are averaged over this process group before surgery, and
            rank 0's orders hold for all. Call the model wrapped or not: DistributedDataParallel
            does not see this pass. It does see a plain ``.backward()`` in the same step: call the
            wrapped model under ``no_sync()`` then. ``None`` is refused where several processes run;
            ``False`` says "local on purpose".
        strategy: deprecated, see :func:`pcgrad.task_gradients`.
        check_finite: raise FloatingPointError naming the task whose loss or gradient is not finite
            (one host synchronisation). Without it such values reach ``.grad``, where a GradScaler
            skips the step.
        retain_graph: keep the graph for another backward pass.

    Returns:
        The :class:`Surgery` (Gramian, weights, and how they were found), with a leading dimension
        over parameters or groups where ``granularity`` is not ``"global"``.
    """
    refuse_positional("pcgrad.backward", "losses and shared parameters", positional)
    check_strategy(strategy)
    method = Method(weighting, orders, reduction, granularity, generator, group)
    losses = check_losses(losses)
    reach = Reach(losses)
    table = _shared(shared_parameters, reach, len(losses))
    own = _own(own_parameters, table, reach)
    if method.ranks is None and not any(reach.of(p) for p in table.values()):
        raise ValueError(_UNREACHED)
    method.prepare(table, len(losses))
    numbers = [len(losses), len(table), len(own), sum(p.numel() for p in [*table.values(), *own])]
    agree(numbers, losses[0].device, method.ranks)
    warn_single(table, reach, len(losses))
    stacks = Stacks(list(table.values()), len(losses))
    plain = stacks.add(losses, range(len(losses)), reach, own, retain_graph=retain_graph)
    pairs = list(zip(own, plain, strict=True))
    return _finish(method, stacks, pairs, losses if check_finite else (), free=True)


_UNREACHED = (
    "no loss reaches a shared parameter; compute the losses with the parameters that are listed"
)


class Accumulator:
    """Task gradients summed over several backward passes, and one surgery on the sum.

    For losses with a graph of their own (one task in memory at a time), for micro-batches, and for
    task gradients stored in another dtype or on the CPU::

        accumulator = pcgrad.Accumulator(trunk.parameters(), tasks=T)  # once
        for i, batch in enumerate(batches):
            accumulator.add([loss(i, batch)], tasks=[i])  # frees this graph
        accumulator.backward(generator=generator)

    Args:
        shared_parameters: as in :func:`backward`.
        tasks: T.
        own_parameters: as in :func:`backward`.
        dtype: of the stored task gradients; ``None``: the parameters' own. Sums over micro-batches
            are made in it.
        device: where task gradients are stored, such as ``"cpu"``; ``None``: with the parameters.
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
        if not isinstance(tasks, int) or tasks < 1:
            raise ValueError(f"the number of tasks must be a positive integer, got {tasks!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"task gradients are stored in a floating-point dtype, got {dtype}")
        self._table = _listed(shared_parameters)
        self._own_parameters = (
            None
            if own_parameters is None
            else list(named(own_parameters, "own parameters").items())
        )
        self.tasks = tasks
        self._stacks = Stacks(
            list(self._table.values()),
            tasks,
            dtype=dtype,
            device=torch.device(device) if device is not None else None,
        )
        self._plain: dict[int, tuple[Tensor, Tensor]] = {}

    def add(
        self,
        losses: Sequence[Tensor],
        *,
        tasks: Sequence[int] | None = None,
        retain_graph: bool = False,
    ) -> None:
        """Add the losses' gradients to their tasks'; ``.grad`` is not touched.

        Args:
            losses: scalars, which may share a graph.
            tasks: the task of every loss; ``None``: all tasks, in order.
            retain_graph: keep the graph for another backward pass.
        """
        losses = check_losses(losses)
        numbers = list(range(self.tasks)) if tasks is None else list(tasks)
        if len(numbers) != len(losses) or len(set(numbers)) != len(numbers):
            raise ValueError(
                f"there must be one loss for each listed task, got {len(losses)} losses for tasks {numbers}"
            )
        if not all(0 <= task < self.tasks for task in numbers):
            raise ValueError(f"tasks must be from 0 to {self.tasks - 1}, got {numbers}")
        reach = Reach(losses)
        own = _own(self._own_parameters, self._table, reach)
        plain = self._stacks.add(losses, numbers, reach, own, retain_graph=retain_graph)
        for leaf, gradient in zip(own, plain, strict=True):
            if gradient is not None:
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
        """Add the update of the summed task gradients to ``.grad`` and begin anew; arguments and
        result as of :func:`backward`.
        """
        method = Method(weighting, orders, reduction, granularity, generator, group)
        method.prepare(self._table, self.tasks)
        pairs: list[tuple[Tensor, Tensor | None]] = list(self._plain.values())
        device = self._stacks.shared[0].device
        size = sum(p.numel() for p in [*self._stacks.shared, *(leaf for leaf, _ in pairs)])
        agree([self.tasks, len(self._table), len(pairs), size], device, method.ranks)
        result = _finish(method, self._stacks, pairs, (), free=False)
        self._stacks.clear()
        self._plain.clear()
        return result


def _finish(
    method: Method,
    stacks: Stacks,
    own: Sequence[tuple[Tensor, Tensor | None]],
    checked: Sequence[Tensor],
    *,
    free: bool,
) -> Surgery:
    """Gramian, surgery and update of all shared parameters, and the plain gradients of the others.

    ``checked``: losses to be named where a value is not finite. ``free``: stacks are not needed
    again.
    """
    shared, blocks = stacks.shared, stacks.blocks()
    masks = [int(r) for r in stacks.reached] + [int(g is not None) for _, g in own]
    reached = reached_anywhere(masks, shared[0].device, method.ranks)
    if not any(reached[: len(shared)]):
        raise ValueError(_UNREACHED)
    leaves = [leaf for leaf, _ in own]
    plain = [g if g is not None or not r else torch.zeros_like(leaf)
             for (leaf, g), r in zip(own, reached[len(shared):], strict=True)]  # fmt: skip
    present = [k for k, g in enumerate(plain) if g is not None]
    average([*blocks, *(g for g in plain if g is not None)], method.ranks)
    gramian = method.gramian(_products(stacks, whole=method.groups is None))
    if checked:
        refuse_not_finite(checked, gramian, local=method.ranks is None)
    result = method.surgery(gramian)
    kept = [k for k in range(len(shared)) if reached[k]]
    with torch.no_grad():
        found = _updates(method, stacks, kept, result.weights, free=free)
        own_found = [own_gradient(leaves[k], plain[k]) for k in present]
        add_gradients(
            [
                *zip([shared[k] for k in kept], found, strict=True),
                *zip([leaves[k] for k in present], own_found, strict=True),
            ]
        )
    return result


@torch.no_grad()
def _products(stacks: Stacks, *, whole: bool) -> list[Tensor]:
    """The products of every stack; ``whole``: many small stacks count as one."""
    blocks = stacks.blocks()
    with full_precision(blocks[0].device):
        if stacks.flat is None or not whole:
            return [products(block) for block in blocks]
        return [products(stacks.flat), *(products(blocks[k]) for k in stacks.large)]


def _updates(
    method: Method, stacks: Stacks, kept: Sequence[int], weights: Tensor, *, free: bool
) -> list[Tensor]:
    """The updates of the shared parameters that are reached; ``free``: each takes its stack's place."""
    ready = Weights(method.per_parameter(weights, kept))
    pieces: dict[int, Tensor] = {}
    with full_precision(stacks.shared[0].device):
        if stacks.flat is not None and method.groups is None:
            sizes = [stacks.shared[k].numel() for k in stacks.small]
            whole = ready.combine(stacks.flat)
            pieces = dict(zip(stacks.small, whole.split(sizes), strict=True))
        found = []
        for n, k in enumerate(kept):
            parameter = stacks.shared[k]
            if k in pieces:
                found.append(own_gradient(parameter, pieces[k].view(parameter.shape)))
            else:
                found.append(ready.update(parameter, stacks.blocks()[k], n))
            if free:
                stacks.drop(k)
    return found


def _listed(parameters: Parameters) -> dict[str, Tensor]:
    """The caller's shared parameters to train."""
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
    return table


def _shared(parameters: Parameters | None, reach: Reach, tasks: int) -> dict[str, Tensor]:
    """The parameters under surgery: the caller's, or the leaves that several losses reach."""
    if parameters is not None:
        return _listed(parameters)
    several = [leaf for leaf in reach.leaves() if reach.of(leaf).bit_count() > 1 or tasks == 1]
    if any(isinstance(leaf, nn.Parameter) for leaf in several):
        several = [leaf for leaf in several if isinstance(leaf, nn.Parameter)]
    if not several:
        raise ValueError("no leaf is reached by two losses: there is nothing to share")
    return _listed(several)


def _own(
    own_parameters: Parameters | None, shared: dict[str, Tensor], reach: Reach
) -> list[Tensor]:
    """The leaves that receive plain gradients."""
    identities = {id(p) for p in shared.values()}
    if own_parameters is None:
        return [leaf for leaf in reach.leaves() if id(leaf) not in identities]
    table = named(own_parameters, "own parameters")
    for name, tensor in table.items():
        if id(tensor) in identities:
            raise ValueError(
                f"own parameter {name} is also listed as shared; a parameter is one or the other"
            )
    own = [p for p in table.values() if p.requires_grad]
    for k, tensor in enumerate(own):
        if not tensor.is_leaf:
            raise ValueError(
                f"parameter own #{k} is not a leaf and has no .grad; use task_gradients for it"
            )
    return own
