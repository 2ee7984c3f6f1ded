"""Gradient surgery in the place of ``Tensor.backward``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcgrad.distributed import Group, agree, average, broadcast_orders, reached_anywhere, world
from pcgrad.gramian import accumulate, apply_weights, gramian
from pcgrad.graph import Reach
from pcgrad.orders import make_orders
from pcgrad.surgery import REDUCTIONS, Surgery, Weighting, surgery, weighted
from pcgrad.task_gradients import (
    STRATEGIES,
    Parameters,
    check_losses,
    named,
    stacked_gradients,
    warn_single,
)

GRANULARITIES = ("global", "per_tensor")


def backward(
    losses: Sequence[Tensor],
    shared_parameters: Parameters,
    *,
    own_parameters: Parameters | None = None,
    weighting: Weighting | None = None,
    orders: str | Tensor = "random",
    reduction: str = "sum",
    granularity: str = "global",
    generator: torch.Generator | None = None,
    group: Group = None,
    strategy: str = "loop",
    check_finite: bool = False,
    retain_graph: bool = False,
) -> Surgery:
    """Like ``sum(losses).backward()``, but the shared parameters receive PCGrad's update (Yu et al.
    2020, Algorithm 1).

    Four steps: task gradients -> Gramian -> surgery -> weights. ``.grad`` is **added to**, as by
    ``Tensor.backward``. The other leaves that the losses reach (task heads) receive the plain sum
    of their gradients. A parameter that no loss reaches, and a frozen one, keeps its ``.grad``.
    Nothing is added where an error is raised. Micro-batches add up: two calls are two surgeries.
    For one surgery on their sum, add up the task gradients first. The host waits for the device
    only where ``check_finite`` asks for it, and twice a call under a ``group``.

    Args:
        losses: T scalars that share a graph, as a Python list, weighted already where weights are
        wanted.
        shared_parameters: the leaves that take part in surgery: tensors, ``(name, tensor)`` pairs
        or a dict.
        own_parameters: the leaves that receive plain gradients; ``None``: all others that the
        losses reach.
        weighting: another method: a function from the Gramian ``[T, T]`` to weights ``[T]``, as
            torchjd's ``*Weighting`` classes are. It takes the place of Algorithm 1, its orders and
            its reduction.
        orders: ``"random"`` (Algorithm 1: drawn anew for every task), ``"shared"`` (one permutation
        for all tasks),
            ``"fixed"`` (the official code in effect), or a LongTensor ``[T, T-1]``.
        reduction: ``"sum"`` (Algorithm 1) or ``"mean"`` of the projected gradients; plain gradients
        are always summed.
        granularity: ``"global"`` (Algorithm 1: one dot product over all shared parameters) or
        ``"per_tensor"``.
        generator: the CPU generator of the orders; ``None`` is torch's default one.
        group: data parallelism: gradients are averaged over this process group before surgery, and
        rank 0's orders hold
            for all. Call the model wrapped or not: DistributedDataParallel does not see this pass.
            It does see a plain ``.backward()`` beside it: call the wrapped model under
            ``no_sync()`` then. ``None`` is refused where several processes run; ``False`` says
            "local on purpose".
        strategy: see :func:`pcgrad.task_gradients`.
        check_finite: raise FloatingPointError naming the task whose loss or gradient is not finite
        (one host
            synchronisation). Without it such values reach ``.grad``, where a GradScaler skips the
            step.
        retain_graph: keep the graph for another backward pass.

    Returns:
        The :class:`Surgery` (Gramian, weights, and how they were found), with a leading dimension over parameters where
        ``granularity="per_tensor"``.
    """
    for argument, value, known in (("reduction", reduction, REDUCTIONS), ("granularity", granularity, GRANULARITIES),
                                   ("strategy", strategy, STRATEGIES)):  # fmt: skip
        if value not in known:
            raise ValueError(f"unknown {argument} {value!r}; use one of {', '.join(known)}")
    losses, ranks = check_losses(losses), world(group)
    table = {
        name: p
        for name, p in named(shared_parameters, "shared parameters").items()
        if p.requires_grad
    }
    shared, reach = list(table.values()), Reach(losses)
    own = _own(own_parameters, shared, reach)
    _check_leaves(table, own)
    device = shared[0].device
    agree([len(losses), len(shared), len(own), sum(p.numel() for p in shared + own)], device, ranks)
    reached = reached_anywhere([reach.of(p) for p in shared + own], device, ranks)
    if not any(reached[: len(shared)]):
        raise ValueError(
            "no loss reaches a shared parameter; compute the losses with the parameters that are listed"
        )
    per_tensor = granularity == "per_tensor"
    drawn = make_orders(orders, len(losses), generator, (len(shared),) if per_tensor else ())
    warn_single(table, reach, len(losses))

    stacks, plain = stacked_gradients(
        losses, shared, reach, own=own, strategy=strategy, retain_graph=retain_graph
    )
    average(stacks + plain, ranks)
    products = gramian(stacks, per_tensor=per_tensor, group=False)
    if check_finite:
        refuse_not_finite(losses, products, local=ranks is None)
    if weighting is None:
        drawn = broadcast_orders(drawn, device, ranks)
        result = surgery(products, drawn, reduction=reduction)
    else:
        result = weighted(products, weighting)
    keep = [k for k in range(len(shared)) if reached[k]]
    weights = (
        torch.stack([result.weights[k] for k in keep]) if per_tensor else result.weights
    )  # [keep] would wait
    apply_weights([shared[k] for k in keep], [stacks[k] for k in keep], weights)
    with torch.no_grad():
        for parameter, gradient, is_reached in zip(own, plain, reached[len(shared) :], strict=True):
            if is_reached:
                accumulate(parameter, gradient)
    return result


def _own(own_parameters: Parameters | None, shared: list[Tensor], reach: Reach) -> list[Tensor]:
    """The leaves that receive plain gradients."""
    identities = {id(p) for p in shared}
    if own_parameters is None:
        return [leaf for leaf in reach.leaves() if id(leaf) not in identities]
    table = named(own_parameters, "own parameters")
    for name, tensor in table.items():
        if id(tensor) in identities:
            raise ValueError(
                f"own parameter {name} is also listed as shared; a parameter is one or the other"
            )
    return [p for p in table.values() if p.requires_grad]


def _check_leaves(table: dict[str, Tensor], own: list[Tensor]) -> None:
    if not table:
        raise ValueError(
            "there are no shared parameters to train: the list is empty, or all are frozen"
        )
    for name, tensor in [*table.items(), *((f"own #{k}", p) for k, p in enumerate(own))]:
        if not tensor.is_leaf:
            raise ValueError(
                f"parameter {name} is not a leaf and has no .grad; use task_gradients for it"
            )


def refuse_not_finite(losses: list[Tensor], products: Tensor, *, local: bool) -> None:
    """Name the tasks that are not finite; the one place that waits for the device. Several ranks
    decide by what all of them see, the averaged gradients, so that all raise together."""
    squares = products.diagonal(dim1=-2, dim2=-1).reshape(-1, len(losses)).sum(0)
    values = torch.stack([loss.detach().reshape(()).double() for loss in losses]).to(squares.device)
    finite = squares.isfinite() & values.isfinite() if local else squares.isfinite()
    if not finite.all():
        bad = (~finite).nonzero().flatten().tolist()
        names = "; ".join(
            f"task {i} (loss {values[i].item():g}, squared gradient norm {squares[i].item():g})"
            for i in bad
        )
        raise FloatingPointError(f"loss or gradient not finite: {names}")
