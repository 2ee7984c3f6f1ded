"""Fully connected ReLU networks as plain lists of stacked tensors, so that members and tasks are
batch dimensions.

A network is `[weight_0, bias_0, weight_1, bias_1, ...]` with weights `[M, inputs, outputs]` and
biases `[M, outputs]`. N members (1 actor, 2 critics) are evaluated on all T tasks in one pass; a
layer is shared by the tasks (M = N) or every task has its own (M = N·T, row-major in (n, t)): a
shared trunk with heads, or wholly independent networks.

The gradient of every task costs one ordinary backward pass: it stops at the layers' outputs, whose
gradients δ belong to single samples; a task's gradient of a layer is xᵀδ over the task's own
samples, x being the layer's input."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

Tap = tuple[
    Tensor, Tensor
]  # a layer's input [M, R, inputs] and output before the ReLU [M, R, outputs]


def init_mlp(
    sizes: Sequence[int],
    members: int | Sequence[int],
    generator: torch.Generator,
    dtype: torch.dtype,
) -> list[Tensor]:
    """Members drawn independently: weights uniform in ±√(6/(inputs + outputs)) (Glorot and Bengio,
    2010), biases zero.

    `members`: M, or M of every layer. Drawn in float64 on the CPU and then cast, so that every
    dtype and device starts from the same network.
    """
    layers = list(pairwise(sizes))
    counts = [members] * len(layers) if isinstance(members, int) else members
    parameters: list[Tensor] = []
    for (inputs, outputs), count in zip(layers, counts, strict=True):
        uniform = torch.rand(count, inputs, outputs, generator=generator, dtype=torch.float64)
        limit = (6 / (inputs + outputs)) ** 0.5
        parameters += [
            ((2 * uniform - 1) * limit).to(dtype),
            torch.zeros(count, outputs, dtype=dtype),
        ]
    return parameters


def mlp(
    parameters: Sequence[Tensor], inputs: Tensor, members: int, taps: list[Tap] | None = None
) -> Tensor:
    """Evaluate all members on all tasks: inputs `[T, B, sizes[0]]` -> `[N, T, B, sizes[-1]]`.

    With `taps` the layers' inputs and outputs are appended to it, for `task_gradients`.
    """
    tasks, batch = inputs.shape[:2]
    hidden = inputs.flatten(0, 1).expand(members, tasks * batch, inputs.shape[-1])
    for layer in range(0, len(parameters), 2):
        weight, bias = parameters[layer], parameters[layer + 1]
        rows = hidden.reshape(weight.shape[0], -1, hidden.shape[-1])
        hidden = torch.baddbmm(bias.unsqueeze(-2), rows, weight)
        if taps is not None:
            if not hidden.requires_grad:
                hidden.requires_grad_()  # the graph starts here: no parameter asks for its gradient
            taps.append((rows, hidden))
        if layer + 2 < len(parameters):
            hidden = hidden.relu()
    return hidden.view(members, tasks, batch, -1)


def task_gradients(
    losses: Tensor, taps: Sequence[Tap], *, create_graph: bool = False
) -> list[Tensor]:
    """Gradients `[N, T, *shape]` of losses `[N, T]`, each of a task's own samples, in the order of
    the parameters.

    Right where no layer mixes samples, as here, and where every loss reaches the network through
    its own member and samples alone.
    """
    members, tasks = losses.shape
    deltas = torch.autograd.grad(
        losses.sum(), [output for _, output in taps], create_graph=create_graph
    )
    gradients = []
    for (rows, _), delta in zip(taps, deltas, strict=True):
        x, d = (part.reshape(members * tasks, -1, part.shape[-1]) for part in (rows, delta))
        for gradient in ((x if create_graph else x.detach()).mT @ d, d.sum(-2)):
            gradients.append(gradient.unflatten(0, (members, tasks)))
    return gradients
