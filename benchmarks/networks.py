"""Networks of the step benchmark with one batch per task, with random inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

import pcgrad
from benchmarks.measure import Candidates
from benchmarks.peers import Features, Losses
from multitask.models.convnet import ConvNet
from multitask.rl.sac.networks import Tap, init_mlp, mlp, task_gradients
from multitask.runs.seeding import initialization

Parameters = Sequence[Tensor]


@dataclass(frozen=True)
class Network:
    """A network, its batch and its losses."""

    shared: Parameters
    own: Sequence[Parameters]  # of every task
    losses: Losses  # a scalar per task, from one forward pass if the tasks share their input
    plain: Callable[[], Tensor]  # the sum of the losses by the fastest forward pass
    shares_input: bool
    features: Features | None = None  # the trunk's output and the losses, if there is one output
    chunk: int | None = None  # torchjd's tasks per vectorized backward pass; None is all
    routes: Candidates = field(default_factory=dict)  # our steps that do not start from such losses

    @property
    def everything(self) -> list[Tensor]:
        """All shared and own parameters."""
        return [*self.shared, *(parameter for mine in self.own for parameter in mine)]


def from_stacks(shared: Parameters, stacks: list[Tensor], generator: torch.Generator) -> None:
    """Run the three steps after the task gradients [T, *shape]: Gramian, surgery, update."""
    orders = pcgrad.random_orders(len(stacks[0]), generator)
    weights = pcgrad.surgery(pcgrad.gramian(stacks, group=False), orders).weights
    pcgrad.apply_weights(shared, stacks, weights)


def perceptron(flat: Sequence[Tensor]) -> nn.Sequential:
    """Return linear layers with ReLU between them, from one task's weights and biases in turn."""
    model = nn.Sequential()
    for k, (weight, bias) in enumerate(zip(flat[::2], flat[1::2], strict=True)):
        layer = nn.Linear(weight.shape[1], weight.shape[2], device=weight.device)
        layer.weight.data, layer.bias.data = weight[0].T.contiguous(), bias[0].clone()
        model.extend([nn.ReLU(), layer] if k else [layer])
    return model


def loss(y: Tensor, target: Tensor) -> Tensor:
    """Return every task's mean squared distance to its outputs, halved."""
    return 0.5 * (y - target).square().flatten(-2).mean(-1)


def by_hand(
    model: nn.Sequential, x: Tensor, target: Tensor, stacks: list[Tensor], draw: torch.Generator
) -> None:
    """Run the recorder's algorithm without its checks and hooks, which shows their cost.

    The task gradients are written into `stacks`.
    """
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    h = x.flatten(0, 1)
    for layer in model:
        if isinstance(layer, nn.Linear):
            inputs.append(h.relu() if inputs else h)
            h = functional.linear(inputs[-1], layer.weight, layer.bias)
            outputs.append(h)
    split = x.shape[:2]
    deltas = torch.autograd.grad(loss(h.unflatten(0, split), target).sum(), outputs)
    for k, parts in enumerate(zip(inputs, deltas, strict=True)):
        h, delta = (part.detach().unflatten(0, split) for part in parts)
        torch.bmm(delta.mT, h, out=stacks[2 * k])
        torch.sum(delta, 1, out=stacks[2 * k + 1])
    matrices = [stack.flatten(1) for stack in stacks]
    products = torch.stack([rows @ rows.T for rows in matrices]).sum(0, dtype=torch.float64)
    orders = pcgrad.random_orders(len(x), draw)
    weights = pcgrad.surgery(products, orders).weights.float().unsqueeze(0)
    for p, rows in zip(model.parameters(), matrices, strict=True):
        p.grad = (weights @ rows).view(p.shape)


def linear(sizes: Sequence[int], tasks: int, batch: int, device: torch.device) -> Network:
    """Return a network of soft actor-critic, with one batch per task and no own parameters.

    The loss is the squared distance to given outputs; like SAC's losses, its cost is negligible.
    """
    draw = torch.Generator().manual_seed(0)
    flat = [p.to(device) for p in init_mlp(sizes, 1, draw, torch.float32)]
    # All routes start from the same weights, stored in the layout that each one takes.
    model = perceptron(flat)
    x, target = (
        torch.randn(tasks, batch, size, generator=draw).to(device) for size in (sizes[0], sizes[-1])
    )
    shared, names = list(model.parameters()), dict(model.named_parameters())

    def recorded(recorder: pcgrad.LinearRecorder, streaming: bool) -> None:
        with recorder:
            y = model(x)
        recorder.backward(loss(y, target), generator=draw, group=False, streaming=streaming)

    def one(p: dict[str, Tensor], _: None, batch: Sequence[Tensor]) -> Tensor:
        return loss(torch.func.functional_call(model, p, batch[0]), batch[1])

    def vectorized() -> None:
        stacks = pcgrad.task_gradients_batched(one, names, None, (x, target))[1]
        from_stacks(shared, list(stacks.values()), draw)

    # The least work of any method: a plain step, and the Gramian and weighted sum of gradients that
    # are given.
    ready = [torch.randn(tasks, p.numel(), generator=draw).to(device) for p in shared]
    weights = torch.ones(1, tasks, device=device)

    def least() -> None:
        loss(model(x), target).sum().backward()
        pcgrad.gramian(ready, group=False)
        for rows in ready:
            weights @ rows

    stacks = [torch.empty(tasks, *p.shape, device=device) for p in shared]
    # The RL loop stacks its weights as matrices and records the layers' inputs itself.
    leaves = [p.clone().requires_grad_() for p in flat]

    def tapped() -> None:
        taps: list[Tap] = []
        losses = loss(mlp(flat, x, 1, taps), target)
        from_stacks(leaves, [stack.transpose(0, 1) for stack in task_gradients(losses, taps)], draw)
        for leaf in leaves:
            leaf.grad = None

    return Network(
        shared,
        [[] for _ in range(tasks)],
        lambda: [loss(model(x[t]), target[t]) for t in range(tasks)],
        lambda: loss(model(x), target).sum(),
        shares_input=False,
        routes={
            "pcgrad": partial(recorded, pcgrad.LinearRecorder(model, tasks), False),
            "pcgrad_streaming": partial(recorded, pcgrad.LinearRecorder(model, tasks), True),
            "pcgrad_taps": tapped,
            "pcgrad_vmap": vectorized,
            "by_hand": partial(by_hand, model, x, target, stacks, draw),
            "least": least,
        },
    )


def cifar100(tasks: int, each: int, filters: int, units: int, device: torch.device) -> Network:
    """Return Table 2's network: `each` images and a head of 5 classes per task."""
    with initialization(0):
        model = ConvNet("one_fc", tasks, 5, filters, units).to(device)
        images = torch.randn(tasks * each, 3, 32, 32).to(device)
        labels = torch.randint(5, (tasks, each)).to(device)
    images = images.unflatten(0, (tasks, each))
    trunk = nn.Sequential(model.convolutions[0], model.dense[0])
    shared, heads = dict(trunk.named_parameters()), list(model.heads)

    def plain() -> Tensor:
        features = trunk(images.flatten(0, 1)).unflatten(0, (tasks, each))
        triples = zip(heads, features, labels, strict=True)
        return torch.stack([functional.cross_entropy(head(x), y) for head, x, y in triples]).sum()

    def one(p: dict[str, Tensor], own: list[Tensor], batch: Sequence[Tensor]) -> Tensor:
        features = torch.func.functional_call(trunk, p, batch[0])
        return functional.cross_entropy(functional.linear(features, *own), batch[1])

    # One generator for all routes: only the cost of drawing counts, not the orders.
    generator = torch.Generator().manual_seed(0)
    own_parameters = [p for head in heads for p in head.parameters()]

    def accumulator(dtype: torch.dtype | None = None) -> pcgrad.Accumulator:
        return pcgrad.Accumulator(shared, tasks=tasks, own_parameters=own_parameters, dtype=dtype)

    def sequential(accumulated: pcgrad.Accumulator) -> None:
        for t in range(tasks):
            loss = functional.cross_entropy(model(images[t], t), labels[t])
            accumulated.add([loss], tasks=[t])
        accumulated.backward(generator=generator, group=False)

    def vectorized() -> None:
        own = [torch.stack([getattr(head, name) for head in heads]) for name in ("weight", "bias")]
        _, stacks, found = pcgrad.task_gradients_batched(one, shared, own, (images, labels))
        for head, weight, bias in zip(heads, *found, strict=True):
            head.weight.grad, head.bias.grad = weight, bias
        from_stacks(list(shared.values()), list(stacks.values()), generator)

    return Network(
        list(shared.values()),
        [list(head.parameters()) for head in heads],
        lambda: [functional.cross_entropy(model(images[t], t), labels[t]) for t in range(tasks)],
        plain,
        shares_input=False,
        routes={
            "pcgrad_vmap": vectorized,
            "pcgrad_sequential": partial(sequential, accumulator()),
            "pcgrad_bfloat16": partial(sequential, accumulator(torch.bfloat16)),
        },
    )


def tiny(tasks: int, layers: int, width: int, device: torch.device) -> Network:
    """Return a network of many layers with a few units, where overhead exceeds arithmetic."""
    with initialization(0):
        parts = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.Tanh())]
        trunk = nn.Sequential(*parts).to(device)
        heads = [nn.Linear(width, 1).to(device) for _ in range(tasks)]
        x = torch.randn(8, width).to(device)

    def losses() -> list[Tensor]:
        features = trunk(x)
        return [head(features).square().mean() for head in heads]

    return Network(
        list(trunk.parameters()),
        [list(head.parameters()) for head in heads],
        losses,
        lambda: torch.stack(losses()).sum(),
        shares_input=True,
    )
