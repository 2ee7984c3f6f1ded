"""Candidates for a training step without optimizer, from the forward pass to every `.grad`."""

from collections.abc import Callable
from functools import partial

import torch

import pcgrad
from benchmarks import images, networks, peers
from benchmarks.measure import Candidates
from benchmarks.networks import Network
from benchmarks.surgery import Case
from multitask.models.segnet import WIDTHS

# Tasks, inputs without the one-hot code of the task, hidden layers, units, outputs. Meta-World has
# 39 observations and 4 actions.
LINEAR = {
    "MT10 critic": (10, 43, 6, 160, 1),
    "MT10 actor": (10, 39, 6, 160, 8),
    "actor of 10 tasks": (10, 39, 3, 400, 8),
    "MT50 critic": (50, 43, 6, 300, 1),
}


def candidates(make: Callable[[], Network]) -> tuple[int, Candidates]:
    """Return the number of shared values P and the steps to compare; each clears `.grad` first.

    - "plain": the joint step without surgery, the reference;
    - "pcgrad": `pcgrad.LinearRecorder` if the network is linear, else `pcgrad.backward`;
    - "bound", for shared input: the forward pass and T backward passes through head and trunk, with
      nothing done to the gradients. It is the cost of T task gradients alone;
    - our other routes, and the peers.
    """
    generator, network = torch.Generator().manual_seed(0), make()
    shared, own = network.shared, network.own

    def ours() -> None:
        pcgrad.backward(network.losses(), shared, generator=generator, group=False)

    def bound() -> None:
        peers.task_backwards(network.losses(), shared, own)

    routes = dict(network.routes)
    calls: Candidates = {
        "plain": lambda: network.plain().backward(),  # type: ignore[no-untyped-call]
        "pcgrad": routes.pop("pcgrad", ours),
        **({"bound": bound} if network.shares_input else {}),
        **routes,
        **({"pcgrad_loop": ours} if "pcgrad" in network.routes else {}),
        **peers.steps(network.losses, shared, own, network.features, generator, network.chunk),
    }

    # Clearing every .grad in each step makes the codes' work and memory comparable.
    def step(call: Callable[[], object]) -> None:
        for parameter in network.everything:
            parameter.grad = None
        call()

    return sum(p.numel() for p in shared), {
        name: partial(step, call) for name, call in calls.items()
    }


def cases(device: torch.device) -> list[Case]:
    """Return a case for every network, at the paper's size and batch on a GPU."""
    # On a CPU, ResNet-18, MTAN and the CIFAR-100 batch are smaller, so that a step takes seconds.
    gpu = device.type == "cuda"
    width, batch = (64, 256) if gpu else (16, 4)
    scenes, height, sides, each = (2, 288, 384, 10) if gpu else (1, 96, 128, 4)
    makers: dict[str, tuple[int, Callable[[], Network]]] = {}
    for name, (tasks, inputs, layers, units, outputs) in LINEAR.items():
        sizes = [inputs + tasks, *[units] * layers, outputs]
        make = partial(networks.linear, sizes, tasks, 128, device)
        makers[f"{name}, {layers}x{units}"] = (tasks, make)
    makers |= {
        f"CIFAR-100 net, 20 x {each} images": (
            20, partial(networks.cifar100, 20, each, 160, 320, device)),
        "2,000 tiny tensors": (5, partial(networks.tiny, 5, 1000, 4, device)),
        "LeNet MultiMNIST, 256 images": (2, partial(images.multimnist, 256, device)),
        f"MTAN NYUv2, {scenes} of {height}x{sides}": (
            3, partial(images.nyuv2, WIDTHS, scenes, height, sides, device)),
        f"ResNet-18 CelebA, {width} filters, {batch} of 64x64": (
            40, partial(images.celeba, 40, width, batch, 64, device)),
    }  # fmt: skip
    return [
        Case("step", name, tasks, partial(candidates, make))
        for name, (tasks, make) in makers.items()
    ]
