"""Candidates for surgery alone, from given task gradients [T, P] to the update [P]."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

import pcgrad
from benchmarks import peers
from benchmarks.measure import Candidates

TASKS, SIZES = (2, 3, 10, 20, 40, 50), (10**4, 10**5, 10**6, 10**7)
MOST_BYTES = 2e9  # of the task gradients in float32


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    kind: str  # "surgery" or "step"
    name: str
    tasks: int  # T
    # Returns the number of shared values P and the candidates. It is called just before the case is
    # measured, because the candidates hold the data.
    make: Callable[[], tuple[int, Candidates]]


def candidates(tasks: int, size: int, device: torch.device) -> tuple[int, Candidates]:
    """Return P and the ways from gradients [T, P] to an update [P]; half of the pairs conflict.

    The reference "floor" reads the gradients twice and does nothing else. Every algorithm has to:
    once for the dot products, which determine the weights, and once for the weighted sum.
    """
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(tasks, size, generator=generator).to(device)
    parameter = torch.zeros(size, device=device, requires_grad=True)

    def ours() -> None:
        orders = pcgrad.random_orders(tasks, generator)
        weights = pcgrad.surgery(pcgrad.gramian([gradients], group=False), orders).weights
        pcgrad.apply_weights([parameter], [gradients], weights)
        # Freed at once, like the vectors that the peers return.
        parameter.grad = None

    return size, {
        "floor": lambda: (gradients.sum(), gradients.sum()),
        "pcgrad": ours,
        **({"pcgrad_graph": captured(gradients, generator)} if device.type == "cuda" else {}),
        # The peers loop over pairs of tasks: a million calls with 1,000 of them.
        **(peers.surgeries(gradients, generator) if tasks <= TASKS[-1] else {}),
    }


def captured(gradients: torch.Tensor, generator: torch.Generator) -> Callable[[], None]:
    """Return our surgery as a CUDA graph; new orders are drawn and copied before each replay."""
    tasks, device = len(gradients), gradients.device
    parameter = torch.zeros_like(gradients[0]).requires_grad_()
    orders = pcgrad.random_orders(tasks, generator).to(device)

    def once() -> None:
        parameter.grad = None
        weights = pcgrad.surgery(pcgrad.gramian([gradients], group=False), orders).weights
        pcgrad.apply_weights([parameter], [gradients], weights)

    # A graph is captured after warm-up calls on another stream, as torch requires.
    beside = torch.cuda.Stream(device)
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):
        for _ in range(3):
            once()
    torch.cuda.current_stream(device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        once()

    def replay() -> None:
        orders.copy_(pcgrad.random_orders(tasks, generator), non_blocking=True)
        graph.replay()

    return replay


def named(size: int) -> str:
    """Format a size with one digit and an exponent: 1e6, 6e4."""
    power = math.floor(math.log10(size))
    return f"{size // 10**power}e{power}"


def cases(device: torch.device) -> list[Case]:
    """Return the grid of cases, without gradients of more than MOST_BYTES."""
    grid = [(tasks, size) for tasks in TASKS for size in SIZES if 4 * tasks * size <= MOST_BYTES]
    grid += [(50, 60_000), (1000, 10**3)]
    return [
        Case("surgery", f"T={t} P={named(size)}", t, partial(candidates, t, size, device))
        for t, size in grid
    ]
