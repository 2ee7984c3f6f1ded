"""Other implementations of Algorithm 1 behind one interface.

They map task gradients to an update (`surgeries`), or losses to `.grad` (`steps`).
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from conflictfree.grad_operator import PCGradOperator
from conflictfree.utils import apply_gradient_vector, get_gradient_vector
from torch import Tensor, nn
from torchjd.aggregation import PCGrad
from torchjd.autojac import backward as torchjd_backward
from torchjd.autojac import jac_to_grad, mtl_backward

from benchmarks.measure import Candidates
from pcgrad import random_orders

Losses = Callable[[], list[Tensor]]
Features = Callable[[], tuple[Tensor, list[Tensor]]]


def literal(gradients: Tensor, orders: Tensor) -> Tensor:
    """Run Algorithm 1 literally: a Python loop over pairs of vectors."""
    update = torch.zeros_like(gradients[0])
    for i, row in enumerate(orders.tolist()):
        g = gradients[i].clone()
        for j in row:
            product = g @ gradients[j]
            if product < 0:
                g -= product / (gradients[j] @ gradients[j]) * gradients[j]
        update += g
    return update


def libmtl(tasks: int, shared: Sequence[Tensor]) -> Any | None:
    """Return LibMTL's PCGrad on shared parameters, or None if the package is not installed."""
    # `import LibMTL` would load networks that need a torchvision of 2022. An empty package in its
    # place allows importing the `weighting` part alone.
    found = importlib.util.find_spec("LibMTL")
    if found is None or found.submodule_search_locations is None:
        return None
    if "LibMTL" not in sys.modules:
        package = types.ModuleType("LibMTL")
        package.__spec__, package.__path__ = found, list(found.submodule_search_locations)
        sys.modules["LibMTL"] = package
    weighting: Any = importlib.import_module("LibMTL.weighting.PCGrad").PCGrad()
    # The class is meant to be mixed into a network; it gets the attributes that it reads.
    weighting.task_num, weighting.device, weighting.rep_grad = tasks, shared[0].device, False
    weighting.get_share_params = lambda: shared

    def zero() -> None:
        for parameter in shared:
            if parameter.grad is not None:
                parameter.grad.zero_()

    weighting.zero_grad_share_params = zero
    return weighting


def surgeries(gradients: Tensor, generator: torch.Generator) -> Candidates:
    """Return the peers' ways from the matrix [T, P] to the update [P].

    LibMTL copies its update into `.grad`; the others return a vector.
    """
    tasks = len(gradients)
    aggregator, operator = PCGrad(), PCGradOperator()
    calls: Candidates = {
        "literal": lambda: literal(gradients, random_orders(tasks, generator)),
        "torchjd": lambda: aggregator(gradients),
        "conflictfree": lambda: operator.calculate_gradient(gradients),
    }
    parameter = gradients[0].clone().requires_grad_()
    weighting = libmtl(tasks, [parameter])
    if weighting is not None:
        parameter.grad = torch.zeros_like(parameter)
        weighting._compute_grad = lambda losses, mode: gradients
        calls["libmtl"] = lambda: weighting.backward([None] * tasks)
    return calls


def task_backwards(
    losses: list[Tensor], shared: Sequence[Tensor], own: Sequence[Sequence[Tensor]]
) -> list[Any]:
    """Run one backward pass per task through its head and the trunk; sets the heads' `.grad`."""
    found = []
    for i, (loss, mine) in enumerate(zip(losses, own, strict=True)):
        gradients = torch.autograd.grad(loss, [*shared, *mine], retain_graph=i + 1 < len(losses))
        for parameter, gradient in zip(mine, gradients[len(shared) :], strict=True):
            parameter.grad = gradient
        found.append(gradients[: len(shared)])
    return found


def steps(
    losses: Losses,
    shared: Sequence[Tensor],
    own: Sequence[Sequence[Tensor]],
    features: Features | None,
    generator: torch.Generator,
    chunk: int | None = None,
) -> Candidates:
    """Return the peers' ways from a forward pass to `.grad` of all parameters.

    The arguments are those of `networks.Network`; `generator` draws the orders.
    """
    heads = [parameter for mine in own for parameter in mine]
    network, aggregator, operator = nn.ParameterList(shared), PCGrad(), PCGradOperator()

    def by_algorithm() -> None:
        found = task_backwards(losses(), shared, own)
        rows = torch.stack([torch.cat([gradient.flatten() for gradient in one]) for one in found])
        update = literal(rows, random_orders(len(found), generator))
        for parameter, piece in zip(shared, update.split([p.numel() for p in shared]), strict=True):
            parameter.grad = piece.view(parameter.shape)

    def by_torchjd() -> None:
        if features is not None:
            inner, values = features()
            parameters: dict[str, Any] = {"tasks_params": own, "shared_params": shared}
            mtl_backward(values, inner, **parameters, parallel_chunk_size=chunk)
        else:
            values, keep = losses(), bool(heads)
            torchjd_backward(values, inputs=shared, retain_graph=keep, parallel_chunk_size=chunk)
            if heads:
                torch.stack(values).sum().backward(inputs=heads)
        jac_to_grad(shared, aggregator)

    def by_conflictfree() -> None:
        vectors = []
        for loss in (values := losses()):
            # Its vectors are read from .grad, which must hold one task's gradient at a time.
            for parameter in shared:
                parameter.grad = None
            loss.backward(retain_graph=loss is not values[-1])
            vectors.append(get_gradient_vector(network))
        apply_gradient_vector(network, operator.calculate_gradient(vectors))

    calls: Candidates = {"literal": by_algorithm, "torchjd": by_torchjd}
    calls["conflictfree"] = by_conflictfree
    if (weighting := libmtl(len(own), shared)) is not None:
        calls["libmtl"] = lambda: weighting.backward(losses())
    return calls
