"""Fully connected ReLU networks as plain lists of stacked tensors.

A network is `[weight_0, bias_0, weight_1, bias_1, ...]` with weights `[M, inputs, outputs]` and
biases `[M, outputs]`. One pass evaluates N members (1 actor, 2 critics) on all T tasks. The tasks
share a layer (M = N), or every task has its own (M = N·T, row-major in (n, t)). This covers a
shared trunk with heads and wholly independent networks.

The gradients of all tasks cost one ordinary backward pass. It stops at the layers' outputs, whose
gradients δ belong to single samples. A task's gradient of a layer is xᵀδ over the task's own
samples, where x is the layer's input.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

# A layer's input [M, R, inputs] and its output before the ReLU [M, R, outputs].
Tap = tuple[Tensor, Tensor]


def init_mlp(
    sizes: Sequence[int],
    members: int | Sequence[int],
    generator: torch.Generator,
    dtype: torch.dtype,
) -> list[Tensor]:
    """Draws the parameters of independent members (Glorot and Bengio 2010).

    Weights are uniform in ±√(6/(inputs + outputs)), biases are zero.

    Args:
        sizes: Numbers of inputs, hidden units and outputs.
        members: M of all layers, or M of every layer.
        generator: A CPU generator.
        dtype: Type of the result. Values are drawn in float64 on the CPU and then cast, so that
            every dtype and device starts from the same network.

    Returns:
        `[weight_0, bias_0, ...]`.
    """
    layers = list(pairwise(sizes))
    # A single number applies to every layer.
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
    """Evaluates all members on all tasks: inputs `[T, B, sizes[0]]` -> `[N, T, B, sizes[-1]]`.

    If `taps` is given, each layer's input and output are appended to it, for `task_gradients`.
    """
    tasks, batch = inputs.shape[:2]
    hidden = inputs.flatten(0, 1).expand(members, tasks * batch, inputs.shape[-1])
    for layer in range(0, len(parameters), 2):
        weight, bias = parameters[layer], parameters[layer + 1]
        # Rows are ordered by (n, t), so that they split evenly over M = N and over M = N·T.
        rows = hidden.reshape(weight.shape[0], -1, hidden.shape[-1])
        hidden = torch.baddbmm(bias.unsqueeze(-2), rows, weight)
        if taps is not None:
            # Where no parameter requires a gradient, the graph starts at the first output.
            if not hidden.requires_grad:
                hidden.requires_grad_()
            taps.append((rows, hidden))
        if layer + 2 < len(parameters):
            hidden = hidden.relu()
    # Both row orders (M = N and M = N·T) have the same memory layout (n, t, b).
    return hidden.view(members, tasks, batch, -1)


def task_gradients(
    losses: Tensor, taps: Sequence[Tap], *, create_graph: bool = False
) -> list[Tensor]:
    """Returns the gradients `[N, T, *shape]` of losses `[N, T]` in the order of the parameters.

    This is correct where no layer mixes samples, as here, and where every loss reaches the network
    only through its own member and samples.
    """
    members, tasks = losses.shape
    # The sum is enough: each loss reaches only its own rows of the outputs.
    deltas = torch.autograd.grad(
        losses.sum(), [output for _, output in taps], create_graph=create_graph
    )
    gradients = []
    for (rows, _), delta in zip(taps, deltas, strict=True):
        # Each task's rows follow each other, so a reshape separates the tasks.
        x, d = (part.reshape(members * tasks, -1, part.shape[-1]) for part in (rows, delta))
        for gradient in ((x if create_graph else x.detach()).mT @ d, d.sum(-2)):
            gradients.append(gradient.unflatten(0, (members, tasks)))
    return gradients
