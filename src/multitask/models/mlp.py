"""Fully connected ReLU networks as plain lists of stacked tensors, so that members and tasks are batch dimensions.

A network is `[weight_0, bias_0, weight_1, bias_1, ...]` with weights `[N, inputs, outputs]` and biases `[N, outputs]`:
N members (1 actor, 2 critics) evaluated in one pass. `per_task` repeats the members once per task; the gradient of
the losses' sum with respect to the repeated parameters then holds every task's own gradient, at the price of one
backward pass.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def init_mlp(sizes: Sequence[int], members: int, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """Members drawn independently: weights uniform in ±√(6/(inputs + outputs)) (Glorot and Bengio, 2010), biases zero.

    Drawn in float64 on the CPU and then cast, so that every dtype and device starts from the same network.
    """
    parameters: list[Tensor] = []
    for inputs, outputs in pairwise(sizes):
        uniform = torch.rand(members, inputs, outputs, generator=generator, dtype=torch.float64)
        limit = (6 / (inputs + outputs)) ** 0.5
        parameters += [((2 * uniform - 1) * limit).to(dtype), torch.zeros(members, outputs, dtype=dtype)]
    return parameters


def mlp(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Evaluate all members: inputs `[N, B, sizes[0]]` -> `[N, B, sizes[-1]]`."""
    hidden = inputs
    for layer in range(0, len(parameters), 2):
        weight, bias = parameters[layer], parameters[layer + 1]
        hidden = torch.baddbmm(bias.unsqueeze(-2), hidden, weight)
        if layer + 2 < len(parameters):
            hidden = hidden.relu()
    return hidden


def per_task(parameters: Sequence[Tensor], tasks: int) -> list[Tensor]:
    """Leaves `[N·T, ...]` that repeat every member once per task: N·T = (n, t) in row-major order."""
    return [
        p.detach().unsqueeze(1).expand(p.shape[0], tasks, *p.shape[1:]).flatten(0, 1).requires_grad_()
        for p in parameters
    ]


def task_gradients(losses: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Per-task gradients `[N, T, *shape]` of losses `[N, T]`, each computed from its own row of `per_task` leaves."""
    members, tasks = losses.shape
    gradients = torch.autograd.grad(losses.sum(), leaves)
    return [g.unflatten(0, (members, tasks)) for g in gradients]
