"""Architectures of TorchJD's engine tests, tiny: every route gives each task's plain gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import hardsigmoid, linear, relu

import pcgrad
from tests.core.oracle import algorithm_1

TASKS, ROWS = 3, 4


class Made(nn.Module):
    """A module of named parts whose forward function is given."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def matrix(*shape: int, trained: bool = True) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) / shape[0] ** 0.5, requires_grad=trained)


def count(self: Made, x: Tensor) -> Tensor:
    self.calls = self.calls + 1.0
    return (x + self.calls) @ self.a


def tree(self: Made, x: Tensor) -> dict[str, Any]:
    return {"one": (x @ self.a, [x.tanh() @ self.b]), "two": {"three": x @ self.c}, "none": None}


def joined(found: Any) -> Tensor:
    """Return all tensors of a tree side by side."""
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(found) if leaf is not None]
    return torch.cat([leaf.flatten(1) for leaf in leaves], 1)


def shared_by_two_modules() -> nn.Module:
    a = matrix(6, 5)
    parts = [Made(lambda self, x: x @ self.a, a=a) for _ in range(2)]
    return Made(lambda self, x: self.b(x) + self.c(x**2 / 5), b=parts[0], c=parts[1])


def residual(channels: int) -> nn.Module:
    def norm() -> nn.Module:
        return nn.InstanceNorm2d(channels, affine=True)

    body = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), norm(), nn.ReLU(),
                         nn.Conv2d(channels, channels, 3, 1, 1, bias=False), norm())  # fmt: skip
    return Made(lambda self, x: relu(x + self.body(x)), body=body)


def squeeze(channels: int) -> nn.Module:
    """Squeeze and excitation: the mean of a channel weights it."""
    return Made(
        lambda self, x: x * hardsigmoid(self.b(relu(self.a(x.mean((2, 3), keepdim=True))))),
        a=nn.Conv2d(channels, 2, 1), b=nn.Conv2d(2, channels, 1),
    )  # fmt: skip


IMAGE, ROW, SEQUENCE = (3, 8, 8), (6,), (5, 6)
KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(6, 7), nn.ReLU()),
                                                   nn.Linear(7, 8)), nn.ReLU()), ROW),
    "branches": (lambda: Made(lambda self, x: self.c(relu(self.a(x)) + self.b(x)),
                              a=nn.Linear(6, 7), b=nn.Linear(6, 7), c=nn.Linear(7, 5)), ROW),
    "two inputs": (lambda: Made(lambda self, x: x[:, :2] @ self.a + x[:, 2:] @ self.b,
                                a=matrix(2, 5), b=matrix(4, 5)), ROW),
    "tree of outputs": (lambda: Made(tree, a=matrix(6, 2), b=matrix(6, 3), c=matrix(6, 4)), ROW),
    "module without output": (
        lambda: Made(lambda self, x: (self.a(x), self.b(x)),
                     a=Made(lambda self, x: None, unused=matrix(6, 2)), b=nn.Linear(6, 5)), ROW),
    "parameter twice": (
        lambda: Made(lambda self, x: x @ self.a + (x**2 / 5) @ self.a, a=matrix(6, 5)), ROW),
    "parameter of two modules": (shared_by_two_modules, ROW),
    "module twice": (
        lambda: Made(lambda self, x: self.a(x) + self.a(x**2 / 5), a=nn.Linear(6, 5)), ROW),
    "unused parameter": (
        lambda: Made(lambda self, x: x @ self.a, a=matrix(6, 5), unused=matrix(6, 5)), ROW),
    "frozen parameter": (lambda: Made(lambda self, x: x @ self.a + (x**2 / 5) @ self.frozen,
                                      a=matrix(6, 5), frozen=matrix(6, 5, trained=False)), ROW),
    "frozen module": (lambda: nn.Sequential(nn.Linear(6, 7).requires_grad_(False), nn.Tanh(),
                                            nn.Linear(7, 5)), ROW),
    "unused beside frozen": (
        lambda: nn.Sequential(Made(lambda self, x: x @ self.frozen, unused=matrix(6, 5),
                                   frozen=matrix(6, 5, trained=False)), nn.Linear(5, 4)), ROW),
    "a frozen output": (
        lambda: Made(lambda self, x: (x @ self.frozen, x @ self.a), a=matrix(6, 5),
                     frozen=matrix(6, 5, trained=False)), ROW),
    "buffer": (lambda: Made(lambda self, x: self.a(x * self.scale), a=nn.Linear(6, 5),
                            scale=nn.Buffer(torch.tensor(1.5))), ROW),
    "side effect": (lambda: Made(count, a=matrix(6, 5), calls=nn.Buffer(torch.zeros(6))), ROW),
    "random": (lambda: Made(lambda self, x: (x * torch.randn_like(x)) @ self.a, a=matrix(6, 5)),
               ROW),
    "unused output": (lambda: Made(lambda self, x: (self.a(x), self.b(x))[1], a=nn.Linear(6, 3),
                                   b=nn.Linear(6, 5)), ROW),
    "scalar output": (lambda: nn.Sequential(nn.Linear(6, 1)), ROW),
    "stacked output": (lambda: Made(lambda self, x: torch.stack([self.a(x), self.b(x)], 1),
                                    a=nn.Linear(6, 3), b=nn.Linear(6, 3)), ROW),
    "einsum": (lambda: Made(lambda self, x: torch.einsum("bi,icd->bcd", x, self.a),
                            a=matrix(6, 2, 3)), ROW),
    "submodule's parameters": (
        lambda: Made(lambda self, x: x @ self.a.weight.T + self.a.bias, a=nn.Linear(6, 5)), ROW),
    "free parameter": (lambda: Made(lambda self, x: self.b(relu(x @ self.a)), a=matrix(6, 7),
                                    b=nn.Linear(7, 5)), ROW),
    "RNN": (lambda: Made(lambda self, x: self.a(x)[0], a=nn.RNN(6, 4, batch_first=True)), SEQUENCE),
    "LSTM": (lambda: Made(lambda self, x: self.a(x)[0], a=nn.LSTM(6, 4, 2, batch_first=True)),
             SEQUENCE),
    "attention": (lambda: Made(lambda self, x: self.a(x, x, x)[0],
                               a=nn.MultiheadAttention(6, 2, batch_first=True)), SEQUENCE),
    "transformer": (lambda: nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True), SEQUENCE),
    "instance norm, statistics": (
        lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), IMAGE),
    "batch norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), IMAGE),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        IMAGE),
    "dropout": (lambda: nn.Sequential(nn.Dropout2d(), nn.Conv2d(3, 3, 3), nn.Dropout2d()), IMAGE),
    "grouped convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.MaxPool2d(2),
                              nn.Conv2d(6, 6, 3, groups=6)), IMAGE),
    "AlexNet": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(2),
                              nn.Flatten(), nn.Dropout(), nn.Linear(16, 6), nn.ReLU(True)), IMAGE),
    "ResNet": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), residual(4), nn.AvgPool2d(6)), IMAGE),
    "MobileNet": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Hardswish(True),
                              nn.Conv2d(4, 4, 3, groups=4), squeeze(4), nn.AvgPool2d(6)), IMAGE),
    "SqueezeNet": (
        lambda: Made(lambda self, x: torch.cat([self.b(h := relu(self.a(x))), self.c(h)], 1),
                     a=nn.Conv2d(3, 2, 1), b=nn.Conv2d(2, 3, 1), c=nn.Conv2d(2, 3, 3, padding=1)),
        IMAGE),
}  # fmt: skip
DRAWS = {"random", "dropout", "AlexNet"}  # vmap draws other numbers than a call per task
REFUSED = {"RNN", "LSTM", "instance norm, statistics", "batch norm"}  # by vmap, in one line


def problem(kind: str) -> tuple[nn.Module, nn.ModuleList, Tensor]:
    """Return the architecture, a head per task, and an input per task."""
    make, shape = KINDS[kind]
    torch.manual_seed(0)
    trunk, x = make().double(), torch.randn(TASKS, ROWS, *shape, dtype=torch.float64)
    width = joined(copy.deepcopy(trunk)(x[0])).shape[1]
    heads = nn.ModuleList(nn.Linear(width, 1).double() for _ in range(TASKS))
    return trunk, heads, x


def losses_of(heads: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(1)  # the draws of a forward pass belong to it, not to the heads
    return [(h(z) - 3 * (-1) ** i).square().mean()
            for i, (h, z) in enumerate(zip(heads, features, strict=True))]  # fmt: skip


def rows_of(losses: list[Tensor], parameters: list[Tensor]) -> Tensor:
    """Task gradients [T, P], zero where a loss misses a parameter."""
    found = [torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
             for loss in losses]  # fmt: skip
    return torch.stack([torch.cat([g.flatten() for g in one]) for one in found])


@pytest.mark.parametrize("kind", KINDS)
def test_backward_and_accumulator_give_algorithm_1(kind: str) -> None:
    made = problem(kind)
    updates = {}
    for route in ("oracle", "backward", "accumulator"):
        trunk, heads, x = copy.deepcopy(made)
        torch.manual_seed(2)
        losses = losses_of(heads, [joined(trunk(x[0]))] * TASKS)
        trained = [p for p in trunk.parameters() if p.requires_grad]
        if route == "oracle":
            sum(losses).backward(retain_graph=True)
            rows = rows_of(losses, trained)
            updates[route] = algorithm_1(rows, pcgrad.fixed_orders(TASKS)).sum(0)
            plain = [p.grad for p in heads.parameters()]
            continue
        if route == "backward":
            pcgrad.backward(losses, trunk.parameters(), orders="fixed")
        else:
            accumulator = pcgrad.Accumulator(trunk.parameters(), tasks=TASKS)
            for i, loss in enumerate(losses):
                accumulator.add([loss], tasks=[i], retain_graph=i + 1 < TASKS)
            accumulator.backward(orders="fixed")
        # What no loss reaches keeps its .grad of None.
        updates[route] = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                                    for p in trained])  # fmt: skip
        for p, gradient in zip(heads.parameters(), plain, strict=True):
            torch.testing.assert_close(p.grad, gradient, rtol=0, atol=0)
    for route in ("backward", "accumulator"):
        torch.testing.assert_close(updates[route], updates["oracle"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - DRAWS))
def test_batches_of_their_own_in_one_vectorized_pass(kind: str) -> None:
    trunk, heads, x = problem(kind)
    parameters = [p for p in trunk.parameters() if p.requires_grad]
    features = []
    for one in x:
        buffers = {name: buffer.clone() for name, buffer in trunk.named_buffers()}
        # A side effect would go on from task to task, where vmap starts all from one state.
        features.append(joined(functional_call(trunk, buffers, (one,))))
    truth = rows_of(losses_of(heads, features), parameters)
    named = dict(trunk.named_parameters())
    trained = {name: p for name, p in named.items() if p.requires_grad}
    own = {name: torch.stack([dict(head.named_parameters())[name] for head in heads]).detach()
           for name in ("weight", "bias")}  # fmt: skip
    targets = torch.tensor([3.0, -3.0, 3.0], dtype=torch.float64)

    def loss(shared: Any, own: Any, batch: Any) -> Tensor:
        features = joined(functional_call(trunk, shared, (batch[0],)))
        return (linear(features, own["weight"], own["bias"]) - batch[1]).square().mean()

    if kind in REFUSED:
        with pytest.raises(RuntimeError, match="vmap cannot take") as found:
            pcgrad.task_gradients_batched(loss, trained, own, (x, targets))
        assert "\n" not in str(found.value)
        return
    stacks = pcgrad.task_gradients_batched(loss, trained, own, (x, targets))[1]
    rows = torch.cat([stack.flatten(1) for stack in stacks.values()], 1)
    torch.testing.assert_close(rows, truth, rtol=1e-10, atol=1e-12)
