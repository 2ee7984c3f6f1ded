"""Situations at the edge of what autograd allows: true gradients, or one line that says why."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import register_multi_grad_hook
from torch.distributed.optim import _apply_optimizer_in_backward
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

import pcgrad
from pcgrad._surgery import algorithm_1 as definition
from tests.core.oracle import algorithm_1

FIXED = {"orders": "fixed"}


def network(tasks: int = 3, width: int = 8) -> tuple[nn.Sequential, nn.ModuleList]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width))
    return trunk, nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))


def losses_of(heads: nn.ModuleList, z: Tensor) -> list[Tensor]:
    return [(h(z) - (-1) ** i * 2).square().mean() for i, h in enumerate(heads)]


def expected(losses: list[Tensor], parameters: list[Tensor]) -> Tensor:
    """Algorithm 1's update in fixed orders, from one plain backward pass per task."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten()
                               for g, p in zip(found, parameters, strict=True)]))  # fmt: skip
    return algorithm_1(torch.stack(rows), pcgrad.fixed_orders(len(losses))).sum(0)


def update(parameters: list[Tensor]) -> Tensor:
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("part", ["trunk", "head"])
def test_a_parameter_frozen_after_the_forward_pass(part: str, listed: bool) -> None:
    trunk, heads = network()
    losses = losses_of(heads, trunk(torch.randn(4, 6)))
    frozen = trunk[0].weight if part == "trunk" else heads[1].bias
    frozen.requires_grad_(False)
    kept = [p for p in trunk.parameters() if p.requires_grad]
    truth = expected(losses, kept)
    pcgrad.backward(losses, trunk.parameters() if listed else None, **FIXED)
    assert frozen.grad is None
    torch.testing.assert_close(update(kept), truth)
    assert all(p.grad is not None for p in heads.parameters() if p is not frozen)


def test_the_recorder_and_a_head_frozen_after_the_forward_pass() -> None:
    trunk, heads = network()
    recorder = pcgrad.LinearRecorder(trunk, tasks=3)
    with recorder:
        z = trunk(torch.randn(3, 4, 6))
    losses = [h(f).square().mean() for h, f in zip(heads, z, strict=True)]
    heads[0].weight.requires_grad_(False)
    recorder.backward(losses, **FIXED)
    assert heads[0].weight.grad is None
    assert heads[0].bias.grad is not None


class Joint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.heads = network()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        z = self.trunk(x)
        return tuple(head(z) for head in self.heads)


def stacked(net: Joint, x: Tensor) -> list[Tensor]:
    return list(torch.stack([y.square().mean() for y in net(x)]) * torch.ones(3))


def columns(net: Joint, x: Tensor) -> list[Tensor]:
    together = torch.cat(net(x), 1)
    return [together[:, i].square().mean() for i in range(3)]


def unbound(net: Joint, x: Tensor) -> list[Tensor]:
    return [2 * loss for loss in torch.stack([y.mean() for y in net(x)]).exp().unbind()]


def hooked(net: Joint, x: Tensor) -> list[Tensor]:
    net.register_full_backward_hook(lambda module, inputs, outputs: None)
    return [y.square().mean() for y in net(x.requires_grad_())]


def compiled(net: Joint, x: Tensor) -> list[Tensor]:
    found = torch.compile(net, backend="aot_eager")(x)
    return [y.square().mean() for y in found]


def reduced(net: Joint, x: Tensor) -> list[Tensor]:
    return list((torch.cat(net(x), 1) - 1).sigmoid().square().mean(0))


def routed(net: Joint, x: Tensor) -> list[Tensor]:
    task, outputs = torch.arange(4)[:, None] % 3, net(x)
    y = torch.where(task == 0, outputs[0], torch.where(task == 1, outputs[1], outputs[2]))
    return [y[task == i].square().mean() for i in range(3)]


def masked(net: Joint, x: Tensor) -> list[Tensor]:
    return list(torch.eye(3) @ torch.stack([y.square().mean() for y in net(x)]))


def written(net: Joint, x: Tensor) -> list[Tensor]:
    found = torch.zeros(3)
    for i, y in enumerate(net(x)):
        found[i] = y.square().mean()
    return list(found)


JOINS = [stacked, columns, unbound, hooked, compiled, reduced, routed, masked, written]


@pytest.mark.parametrize("join", JOINS)
def test_no_list_refuses_a_graph_that_hides_the_heads(join: Any) -> None:
    # Every loss reaches every head through the operation that joins them; with a list it works.
    net = Joint()
    with pytest.raises(
        ValueError, match=r"joins what belongs to different losses.*list the shared"
    ):
        pcgrad.backward(join(net, torch.randn(4, 6)))
    assert all(p.grad is None for p in net.parameters())
    losses = join(net, torch.randn(4, 6))
    if join is not compiled:  # a compiled graph cannot be walked twice by plain passes
        truth = expected(losses, list(net.trunk.parameters()))
        pcgrad.backward(losses, net.trunk.parameters(), **FIXED)
        torch.testing.assert_close(update(list(net.trunk.parameters())), truth)


def test_no_list_takes_a_leaf_whose_gradient_is_zero_for_one_task() -> None:
    """Bug: the boundary condition in x = 0, which does not move the first weight, is refused."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(1, 9), nn.Tanh(), nn.Linear(9, 1)), torch.rand(8, 1)
    for flat in (1.0, 0.0):  # at last a task without any gradient
        losses = [(net(x) - x).square().mean(), flat * (net(torch.zeros(1, 1)) - 3).square().sum()]
        parameters = list(net.parameters())
        net.zero_grad()
        truth = expected(losses, parameters)
        pcgrad.backward(losses, **FIXED)
        torch.testing.assert_close(update(parameters), truth)


def test_no_list_takes_trunks_that_join_their_own_parts() -> None:
    torch.manual_seed(0)
    left, right, heads = nn.Linear(6, 4), nn.Linear(6, 4), network()[1]
    x = torch.randn(4, 6)
    z = torch.cat([left(x), right(x)], 1)
    losses = losses_of(heads, torch.stack([z, z.tanh()]).sum(0))
    parameters = [*left.parameters(), *right.parameters()]
    truth = expected(losses, parameters)
    pcgrad.backward(losses, **FIXED)
    torch.testing.assert_close(update(parameters), truth)


def test_a_grad_that_nothing_can_be_added_to_changes_no_other() -> None:
    for old in (torch.zeros(1).expand(8, 8), _inference(8, 8)):
        trunk, heads = network()
        trunk[2].weight.grad = old
        with pytest.raises(RuntimeError, match=r"\.grad \[8, 8\] cannot be added to in place"):
            pcgrad.backward(losses_of(heads, trunk(torch.randn(4, 6))), trunk.parameters())
        assert all(p.grad is None for p in trunk.parameters() if p is not trunk[2].weight)


def _inference(*shape: int) -> Tensor:
    with torch.inference_mode():
        return torch.zeros(*shape)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"]
)
def test_copies_of_accumulator_and_recorder_work_by_themselves(clone: Callable[[Any], Any]) -> None:
    trunk, heads = network()
    recorder = pcgrad.LinearRecorder(trunk, tasks=3)
    accumulator = pcgrad.Accumulator(trunk.parameters(), tasks=3, dtype=torch.float64)
    x = torch.randn(3, 4, 6)

    def by_accumulator(trunk: Any, heads: Any, accumulator: Any, recorder: Any) -> Tensor:
        trunk.zero_grad()
        accumulator.add(losses_of(heads, trunk(x[0])))
        accumulator.backward(**FIXED)
        return update(list(trunk.parameters()))

    def by_recorder(trunk: Any, heads: Any, accumulator: Any, recorder: Any) -> Tensor:
        trunk.zero_grad()
        with recorder:
            z = trunk(x)
        losses = [h(f).square().mean() for h, f in zip(heads, z, strict=True)]
        recorder.backward(losses, retain_graph=True, **FIXED)  # keeps its calls
        return update(list(trunk.parameters()))

    originals = (trunk, heads, accumulator, recorder)
    for step in (by_accumulator, by_recorder):
        truth = step(*originals)
        copies = clone(originals)
        torch.testing.assert_close(step(*copies), truth, rtol=0, atol=0)
        torch.testing.assert_close(step(*originals), truth, rtol=0, atol=0)
    accumulator.add(losses_of(heads, trunk(x[0])))
    with pytest.raises(TypeError, match="holds sums cannot be copied"):
        clone(accumulator)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"]
)
def test_a_copy_made_while_recording_is_recorded_once(clone: Callable[[Any], Any]) -> None:
    """Bug: the copied hooks stay, and each later call of the copy counts twice."""
    trunk, heads = network()
    recorder, x = pcgrad.LinearRecorder(trunk, tasks=3), torch.randn(3, 4, 6)
    with recorder:
        trunk(x)
        trunk, copied = clone((trunk, recorder))
    for one in (copied, pcgrad.LinearRecorder(trunk, tasks=3)):
        with one:
            z = trunk(x)
        losses = [h(f).square().mean() for h, f in zip(heads, z, strict=True)]
        truth = expected(losses, list(trunk.parameters()))
        trunk.zero_grad()
        one.backward(losses, **FIXED)
        torch.testing.assert_close(update(list(trunk.parameters())), truth)


def test_an_add_that_fails_counts_nothing() -> None:
    trunk, heads = network()
    accumulator = pcgrad.Accumulator(trunk.parameters(), tasks=3)
    x = torch.randn(4, 6)

    def fail(_: Tensor) -> Tensor:
        raise ArithmeticError

    # The passes run from the last task to the first: two are done when this one fails.
    handle = heads[0].weight.register_hook(fail)
    with pytest.raises(ArithmeticError):
        accumulator.add(losses_of(heads, trunk(x)))
    handle.remove()
    losses = losses_of(heads, trunk(x))
    truth = expected(losses, list(trunk.parameters()))
    accumulator.add(losses)
    accumulator.backward(**FIXED)
    torch.testing.assert_close(update(list(trunk.parameters())), truth)


def test_a_listed_parameter_that_is_unfrozen_later_is_no_head() -> None:
    trunk, heads = network()
    trunk[0].requires_grad_(False)
    accumulator = pcgrad.Accumulator(trunk.named_parameters(), tasks=3)
    trunk[0].requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"0\.weight was frozen when this accumulator was made"):
        accumulator.add(losses_of(heads, trunk(torch.randn(4, 6))))


@contextmanager
def every_linear(function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    handle = register_module_forward_hook(
        lambda module, args, output: function(output) if isinstance(module, nn.Linear) else None
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def patched(function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    forward = nn.Linear.forward
    nn.Linear.forward = lambda self, x: forward(self, function(x))  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Linear.forward = forward  # type: ignore[method-assign]


class Doubling(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        found = function(*args, **(kwargs or {}))
        return found + found if function is nn.functional.linear else found


FOREIGN = {
    "output twice": lambda: every_linear(lambda y: y + y),
    "output scaled": lambda: every_linear(lambda y: torch.add(torch.zeros(1), y, alpha=3)),
    "linear's forward": lambda: patched(lambda x: 2 * x),
    "function mode": Doubling,
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_stands_between_a_layer_and_its_product_is_seen(foreign: str) -> None:
    trunk = network()[0]
    recorder = pcgrad.LinearRecorder(trunk, tasks=3, check=False)
    with pytest.raises(TypeError, match=r"use pcgrad\.backward"), FOREIGN[foreign](), recorder:
        trunk(torch.randn(12, 6))


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("layer", [nn.Linear(8, 8), nn.LayerNorm(8)], ids=["Linear", "LayerNorm"])
def test_other_pruning_is_refused(layer: nn.Module, part: str) -> None:
    layer = prune.random_unstructured(copy.deepcopy(layer), part, 0.3)
    trunk = nn.Sequential(nn.Linear(6, 8), layer)
    with (
        pytest.raises(TypeError, match=r"use pcgrad\.backward"),
        pcgrad.LinearRecorder(trunk, tasks=3),
    ):
        trunk(torch.randn(12, 6))


ROWS: dict[str, tuple[tuple[int, ...], list[int] | None]] = {
    "two dimensions": ((9, 4, 6), None),
    "sequences": ((9, 5, 4, 6), [2, 3, 4]),
    "a task without rows": ((7, 5, 4, 6), [3, 0, 4]),
    "one row": ((3, 4, 6), None),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [8, 0])
def test_rows_of_any_shape(rows: str, streaming: bool, width: int) -> None:
    # A LayerNorm over two dimensions has a weight of two dimensions, but is no product.
    torch.manual_seed(0)
    trunk = nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm((4, 8)), nn.Tanh(), nn.Linear(8, width), nn.Linear(width, 2)
    )
    shape, counts = ROWS[rows]
    recorder = pcgrad.LinearRecorder(trunk, tasks=3, rows=counts)
    with recorder:
        z = trunk(torch.randn(*shape))
    parts = z.split(counts) if counts else z.chunk(3)
    losses = [part.square().sum() + (-1) ** i * part.sum() for i, part in enumerate(parts)]
    parameters = list(trunk.parameters())
    truth = expected(losses, parameters)
    recorder.backward(losses, streaming=streaming, **FIXED)
    torch.testing.assert_close(update(parameters), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda t, r: r(t, 3, rows=[1.5, 2.5, 2]), ValueError, "3 integers from 0 on"),
        (lambda t, r: r(t, 3, rows=5), ValueError, "3 integers from 0 on"),
        (lambda t, r: r("trunk", 3), TypeError, "takes a module, got a str"),
        (lambda t, r: r(t, True), ValueError, "number of tasks must be a positive integer"),
        (lambda t, r: r(t, 3).backward(None), TypeError, "list of scalars, got a NoneType"),
        (lambda t, r: r(t, 3).backward(torch.ones(3)), ValueError, "no graph"),
        (lambda t, r: r(t, 1).backward([t[0].bias.sum() * 1j]), TypeError, "is complex"),
        (lambda t, r: pcgrad.Accumulator(t.parameters(), tasks=2.0), ValueError, "positive"),
        (lambda t, r: pcgrad.Accumulator(t, tasks=2, dtype="float64"), ValueError, "got 'float64'"),
        (lambda t, r: pcgrad.Accumulator(t, tasks=2, dtype=torch.float8_e5m2), ValueError, "16"),
    ],
)  # fmt: skip
def test_a_recorder_s_mistakes_get_one_line(call: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words) as found:
        call(network()[0], pcgrad.LinearRecorder)
    assert "\n" not in str(found.value)


def test_a_batched_loss_that_uses_other_parameters_is_refused() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 1))
    named, batch = dict(net.named_parameters()), torch.randn(3, 4, 6)
    with pytest.raises(ValueError, match="not its arguments"):
        pcgrad.task_gradients_batched(lambda s, own, x: net(x).mean(), named, None, batch)
    part = {"0.weight": named["0.weight"]}

    def loss(shared: Any, own: Any, x: Tensor) -> Tensor:
        return functional_call(net, shared, (x,)).square().mean()  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match="not its arguments"):
        pcgrad.task_gradients_batched(loss, part, None, batch)
    net.requires_grad_(False)
    values, gradients, _ = pcgrad.task_gradients_batched(loss, part, None, batch)
    assert not values.requires_grad
    assert gradients["0.weight"].abs().sum() > 0


@pytest.mark.parametrize("missing", ["nothing", "a small one", "a large one", "a task"])
@pytest.mark.parametrize("granularity", ["global", "per_tensor"])
def test_many_small_parameters_with_gaps(missing: str, granularity: Any) -> None:
    """From MANY small parameters on, one matrix holds them: with sums, gaps and views alike."""
    torch.manual_seed(0)
    small = [nn.Parameter(torch.randn(3, 2)) for _ in range(300)]
    large = [nn.Parameter(torch.randn(70, 70) / 70) for _ in range(2)]
    x = torch.randn(2, 3)

    def losses(shift: float) -> list[Tensor]:
        keep = small[:-1] if missing == "a small one" else small
        pieces = large[:1] if missing == "a large one" else large
        z = sum((x @ p).tanh().mean() for p in keep) + sum((p @ p).sum() for p in pieces)
        found = [(z - shift).square(), -z * shift, z * small[0].sum()]
        return found[:2] if missing == "a task" else found

    first, second = losses(1.0), losses(-2.0)
    zeros = [0 * small[0].sum()] * (3 - len(first))
    shared = [*small, *large]
    truth = [a + b for a, b in zip(first + zeros, second + zeros, strict=True)]
    if granularity == "global":
        wanted = expected(truth, shared)
    else:
        wanted = torch.cat([expected(truth, [p]) for p in shared])
    accumulator = pcgrad.Accumulator(shared, tasks=3)
    for found in (first, second):
        accumulator.add(found, tasks=range(len(found)))
    accumulator.backward(granularity=granularity, **FIXED)
    got = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                     for p in shared])  # fmt: skip
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def leaf() -> Tensor:
    return torch.ones(2, requires_grad=True)


def ragged() -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def curvature(loss: Any, theta: Any, **options: Any) -> Tensor:
    return pcgrad.multitask_curvature(loss, theta, theta, theta, **options)


def given(**options: Any) -> Any:
    p = leaf()
    return pcgrad.backward([p.sum()], [p], **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda: pcgrad.random_orders(10**20),
        lambda: pcgrad.fixed_orders(10**20),
        lambda: pcgrad.fixed_orders(torch.ones(3)),  # type: ignore[arg-type]
        lambda: pcgrad.random_orders(3, torch.ones(60, 9)),  # type: ignore[arg-type]
        lambda: pcgrad.random_orders(3, batch=4),  # type: ignore[arg-type]
        lambda: pcgrad.random_orders(3, batch=(1.5,)),  # type: ignore[arg-type]
        lambda: pcgrad.random_orders(3, batch=(-1,)),
        lambda: pcgrad.random_orders(3, batch="a"),  # type: ignore[arg-type]
        lambda: pcgrad.project_conflicting([1], torch.ones(3)),  # type: ignore[arg-type]
        lambda: pcgrad.gramian(3),  # type: ignore[arg-type]
        lambda: pcgrad.surgery(torch.eye(2), pcgrad.fixed_orders(2), reduction=torch.eye(9)),  # type: ignore[arg-type]
        lambda: pcgrad.backward([torch.ones(())], [torch.ones(2)], group=torch.ones(3)),
        lambda: pcgrad.backward([leaf().sum()], [(leaf(), leaf())]),  # type: ignore[list-item]
        lambda: pcgrad.backward([leaf().sum()], zip([leaf()], [leaf()], strict=True)),  # type: ignore[arg-type]
        lambda: given(orders=np.ones((1, 0))),
        lambda: given(orders=[[]]),
        lambda: given(reduction=np.ones(2)),
        lambda: pcgrad.direction_only(torch.eye(2), torch.ones(3)),
        lambda: pcgrad.magnitude_only(torch.eye(2), [1.0, 1.0]),  # type: ignore[arg-type]
        lambda: pcgrad.magnitude_only(torch.eye(2), torch.ones(2).to_sparse()),
        lambda: pcgrad.direction_only(torch.eye(2), torch.ones(2, device="meta")),
        lambda: pcgrad.condition_a(torch.eye(2).to_sparse_csr()),
        lambda: pcgrad.surgery(ragged(), pcgrad.fixed_orders(2)),
        lambda: pcgrad.surgery(torch.eye(2), pcgrad.fixed_orders(2).to("meta")),
        lambda: pcgrad.project_conflicting(torch.eye(2).to_sparse_csr(), pcgrad.fixed_orders(2)),
        lambda: pcgrad.gramian([ragged()]),
        lambda: given(reduction=ragged()),
        lambda: pcgrad.random_orders(3, batch=(torch.ones(2),)),  # type: ignore[arg-type]
        lambda: pcgrad.random_orders(3, batch=(True,)),
        lambda: pcgrad.LinearRecorder(nn.Linear(2, 2), 2, rows=np.eye(2)),
        lambda: pcgrad.LinearRecorder(nn.Linear(2, 2), 2, rows=torch.ones(2) > 0),  # type: ignore[arg-type]
        lambda: pcgrad.Accumulator([leaf()], tasks=2, dtype=torch.eye(3)),  # type: ignore[arg-type]
        lambda: pcgrad.Accumulator([leaf()], tasks=2, device="gpu"),
        lambda: pcgrad.Accumulator([leaf()], tasks=2, device=torch.eye(3)),  # type: ignore[arg-type]
        lambda: pcgrad.task_gradients_batched(3, leaf(), None, leaf()),  # type: ignore[arg-type]
        lambda: curvature(3, leaf()),
        lambda: curvature(Tensor.sum, np.ones(2)),
        lambda: curvature(Tensor.sum, torch.tensor([1, 2])),
        lambda: curvature(Tensor.sum, leaf(), nodes="many"),
        lambda: curvature(Tensor.sum, leaf(), weighting=np.ones(2)),
    ],
)
def test_wrong_types_get_one_line(call: Any) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=r"must|is a|unknown|no device|no values"
    ) as found:
        call()
    text = str(found.value)
    assert "\n" not in text
    assert len(text) < 300


@pytest.mark.parametrize("tasks", [128, 131, 200])
def test_many_tasks_follow_the_definition_for_any_gramian(tasks: int) -> None:
    generator = torch.Generator().manual_seed(tasks)
    g = torch.randn(tasks, 5, generator=generator, dtype=torch.float64)
    orders = pcgrad.random_orders(tasks, generator)
    tilted = g @ g.T + 0.1 * torch.randn(tasks, tasks, generator=generator, dtype=torch.float64)
    for gramian in (g @ g.T, tilted, 1e-310 * (g @ g.T)):
        expected = torch.tensor(definition(gramian.tolist(), orders.tolist()))
        torch.testing.assert_close(
            pcgrad.surgery_coefficients(gramian, orders), expected.double(), rtol=1e-6, atol=1e-8
        )


class Recomputed(torch.autograd.Function):
    """A layer that keeps no activations, and runs a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
        ctx.layer, ctx.variable = layer, None  # no leaf, though it has a `variable`
        ctx.save_for_backward(x)
        return layer(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(ctx.layer(x), gradient)
        return x.grad, None


@pytest.mark.parametrize("visible", [False, True])
@pytest.mark.parametrize("way", ["backward", "accumulator", "recorder", "no list"])
@pytest.mark.parametrize("old", [None, torch.ones(6, 6)], ids=["no grad", "old grad"])
def test_a_parameter_hidden_in_a_recomputed_layer_is_refused(
    way: str, old: Any, visible: bool
) -> None:
    """Bug: the hidden layer gets the plain sum, the visible one surgery on a part of the dots."""
    trunk, heads = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), [nn.Linear(6, 1) for _ in "ab"]
    trunk[1].weight.grad = old if old is None else old.clone()
    recorder = pcgrad.LinearRecorder(trunk, 2)
    with recorder:
        y = trunk[0](torch.randn(4, 6))
        z = Recomputed.apply(trunk[1](y) if visible or way == "no list" else y, trunk[1])
    losses = [h(part).square().mean() for h, part in zip(heads, z.chunk(2), strict=True)]
    run: dict[str, Callable[[], Any]] = {
        "backward": lambda: pcgrad.backward(losses, trunk.parameters()),
        "accumulator": lambda: pcgrad.Accumulator(trunk.parameters(), tasks=2).add(losses),
        "recorder": lambda: recorder.backward(losses),
        "no list": lambda: pcgrad.backward(losses),
    }
    with pytest.raises(RuntimeError, match=r"hides a shared parameter \[6(, 6)?\].*use_reentrant"):
        run[way]()
    found = trunk[1].weight.grad
    assert found is None if old is None else torch.equal(found, old)
    assert all(p.grad is None for p in trunk.parameters() if p is not trunk[1].weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [1, 2, 3])
def test_grad_dtype_is_obeyed(shared: int, dtype: torch.dtype) -> None:
    """Bug: the assignment to the second .grad raises, after the first was written."""
    w = [nn.Parameter(torch.ones(2, 3, dtype=d)) for d in (torch.float32, torch.bfloat16) * 2]
    w[1].grad_dtype = dtype
    losses = [(w[0] * w[1] * w[2] * w[3]).sum(), (w[0] + w[1] + w[2] - w[3]).square().sum()]
    sum(losses).backward(retain_graph=True)
    expected = [p.grad for p in w]
    for p in w:
        p.grad = None
    pcgrad.backward(losses, w[:shared], weighting=lambda gramian: torch.ones(2))
    for p, gradient in zip(w, expected, strict=True):
        assert p.grad.dtype == gradient.dtype
        torch.testing.assert_close(p.grad, gradient)


@pytest.mark.parametrize("kind", [int, np.int64, torch.tensor])
def test_an_accumulator_takes_task_numbers_of_any_kind(kind: Any) -> None:
    """Bug: a tensor names no row, so that this task's gradients are silently zero."""
    accumulator = pcgrad.Accumulator([p := leaf()], tasks=2)
    for task, scale in enumerate((1.0, -3.0)):
        accumulator.add([scale * p.sum()], tasks=[kind(task)])
    result = accumulator.backward(**FIXED)
    assert result.gramian.tolist() == [[2.0, -6.0], [-6.0, 18.0]]
    for wrong in (
        [0.5],
        0,
        "a",
        torch.ones(1),
        [True],
        torch.ones(1, dtype=torch.int64).to("meta"),
    ):
        with pytest.raises(TypeError, match="tasks must be integers, got"):
            accumulator.add([p.sum()], tasks=wrong)  # type: ignore[arg-type]


def test_threads_do_not_read_each_other_s_gradients() -> None:
    """Bug: a pass of another thread through a large parameter writes into this thread's rows."""
    w, wrong = nn.Parameter(torch.randn(70, 70) / 9), []

    def work(seed: int) -> None:
        x = torch.randn(9, 70, generator=torch.Generator().manual_seed(seed))
        for _ in range(40):
            z = ((x @ w).tanh() @ w).tanh() @ w
            losses = [z.square().sum(), -z.sum()]
            truth = [torch.autograd.grad(loss, w, retain_graph=True)[0] for loss in losses]
            (found,) = pcgrad.task_gradients(losses, [w])
            wrong.append(not torch.allclose(found, torch.stack(truth)))

    threads = [Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 80


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("fault", ["head", "sparse head", "weighting"])
def test_check_finite_sees_the_heads(fault: str, recorded: bool) -> None:
    """Bug: only the dot products are checked, so that a head's nan reaches ``.grad``."""
    trunk, heads = network()
    table = nn.Embedding(4, 1, sparse=True)
    recorder = pcgrad.LinearRecorder(trunk, 3)
    with recorder:
        z = trunk(torch.randn(3, 4, 6))
    losses = [h(part).square().mean() for h, part in zip(heads, z, strict=True)]
    nn.init.zeros_(heads[1].bias)
    nn.init.zeros_(table.weight)
    head = {"head": heads[1].bias, "sparse head": table(torch.arange(2))}
    options: dict[str, Any] = {"weighting": lambda gramian: gramian[0] / 0}
    match = r"the weighting gave \[inf, "
    if fault in head:
        losses[1] = losses[1] + head[fault].sum().sqrt()
        options, match = {}, r"not finite: own parameter \[(1|4, 1)\]$"
    run = (
        recorder.backward
        if recorded
        else partial(pcgrad.backward, shared_parameters=trunk.parameters())
    )
    with pytest.raises(FloatingPointError, match=match):
        run(losses, check_finite=True, **options)
    assert all(p.grad is None for p in [*trunk.parameters(), *heads.parameters(), table.weight])


def test_a_weighting_may_change_its_argument() -> None:
    p = leaf()
    result = pcgrad.backward([p.sum(), -p.sum()], [p], weighting=lambda g: g.fill_(1).sum(0))
    assert result.gramian.tolist() == [[2, -2], [-2, 2]]


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore")
def test_sparse_parameters(layout: torch.layout) -> None:
    """As own parameters they get the plain sum in their layout; as shared ones a refusal."""
    trunk, x = nn.Linear(2, 3), torch.randn(4, 2)

    def losses(table: Tensor) -> list[Tensor]:
        z = trunk(torch.sparse.mm(table, x))
        return [z.square().mean(), (z - 1).square().mean()]

    table, plain = (nn.Parameter(torch.eye(4).to_sparse(layout=layout)) for _ in "ab")
    pcgrad.backward(losses(table), trunk.parameters())
    sum(losses(plain)).backward()  # type: ignore[union-attr]
    assert table.grad.layout == plain.grad.layout == layout
    torch.testing.assert_close(table.grad.to_dense(), plain.grad.to_dense())
    table.grad = None
    with pytest.raises(TypeError, match=r"#0 \[4, 4\] is sparse"):
        pcgrad.backward(losses(table), [table])
    assert table.grad is None


def test_optimizers_in_hooks_of_the_graph_are_refused() -> None:
    """Bug: the optimizer of torch's _apply_optimizer_in_backward silently never steps."""
    trunk, heads = network()
    _apply_optimizer_in_backward(torch.optim.SGD, heads[0].parameters(), {"lr": 0.1})
    losses = losses_of(heads, trunk(torch.randn(4, 6)))
    with pytest.raises(RuntimeError, match=r"\[1(, 8)?\] has its optimizer in the backward pass"):
        pcgrad.backward(losses, trunk.parameters())
    assert all(p.grad is None for p in [*trunk.parameters(), *heads.parameters()])


def test_a_recorder_s_own_parameters_are_leaves() -> None:
    trunk, heads = network()
    recorder, w = pcgrad.LinearRecorder(trunk, 3), heads[0].weight * 1
    with recorder:
        z = trunk(torch.randn(3, 4, 6))
    with pytest.raises(ValueError, match=r"own parameter #0 \[1, 8\] is not a leaf"):
        recorder.backward([(part @ w.T).mean() for part in z], own_parameters=[w])


class CheckpointFunction(torch.autograd.Function):
    """Recomputes a layer whose weight is an input, as in guided-diffusion."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return (x @ weight).tanh()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = (x @ weight).tanh()
        return torch.autograd.grad(y, [x, weight], gradient)


@pytest.mark.parametrize("way", ["function", "hook"])
def test_a_pass_inside_the_pass_writes_no_rows(way: str) -> None:
    """Bug: its gradients are written into the running task's row, or count twice in a sum."""
    w = nn.Parameter(torch.randn(70, 70) / 9)  # large: its gradients are kept by hooks
    x, logs = torch.randn(9, 70, requires_grad=True), []

    def losses() -> list[Tensor]:
        z = x
        for _ in range(3):
            z = CheckpointFunction.apply(z, w) if way == "function" else (z @ w).tanh()
        logged = (x @ w).square().sum()
        if way == "hook":
            z.register_hook(
                lambda _: logs.append(torch.autograd.grad(logged, w, retain_graph=True))
            )
        return [z.square().sum(), -z.sum()]

    truth = expected(losses(), [w])
    pcgrad.backward(losses(), [w], **FIXED)
    torch.testing.assert_close(update([w]), truth)
    accumulator = pcgrad.Accumulator([w], tasks=2)
    for _ in range(2):
        accumulator.add(losses())
    accumulator.backward(**FIXED)  # added to the first update
    torch.testing.assert_close(update([w]), 3 * truth)


def test_a_hook_may_run_another_task_s_pass() -> None:
    """Bug: its gradients are taken for those of the task whose hook it is."""
    w, x = nn.Parameter(torch.randn(70, 70) / 9), torch.randn(9, 70)

    def losses() -> list[Tensor]:
        z = (x @ w).tanh()
        return [z.square().sum(), -z.sum(), (z - 1).square().sum()]

    truth, found = expected(losses(), [w]), losses()
    for one in found[1:]:
        one.register_hook(
            lambda _: torch.autograd.grad(found[0], w, retain_graph=True) and None  # a log
        )
    pcgrad.backward(found, [w], **FIXED)
    torch.testing.assert_close(update([w]), truth)


@pytest.mark.parametrize("kind", ["selective checkpoint", "hook that waits"])
def test_what_torch_allows_in_one_pass_alone_is_refused(kind: str) -> None:
    """Bug: torch's words, of a pass that the user has not called."""
    trunk, x = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), torch.randn(9, 6)

    def losses() -> list[Tensor]:
        context = partial(create_selective_checkpoint_contexts, [torch.ops.aten.addmm.default])
        options = {"context_fn": context} if kind == "selective checkpoint" else {}
        z = checkpoint(trunk, x, use_reentrant=False, **options)
        return [z.square().sum(), -z.sum()]

    if kind == "hook that waits":
        register_multi_grad_hook(list(trunk.parameters()), lambda _: None)
    with pytest.raises(RuntimeError, match=f"a {kind}.*; use ") as found:
        pcgrad.backward(losses(), trunk.parameters())
    assert "\n" not in str(found.value)
    assert all(p.grad is None for p in trunk.parameters())


def test_on_the_meta_device_there_is_nothing_to_check() -> None:
    """Bug: a check reads values that do not exist, and torch says so in its own words."""
    with torch.device("meta"):
        trunk, heads = nn.Linear(6, 6), nn.ModuleList(nn.Linear(6, 1) for _ in range(3))
        x = torch.ones(9, 6)
    pcgrad.backward([head(trunk(x)).mean() for head in heads])
    recorder = pcgrad.LinearRecorder(trunk, 3)
    with recorder:
        z = trunk(x)
    losses = [head(part).mean() for head, part in zip(heads, z.chunk(3), strict=True)]
    recorder.backward(losses)
    assert all(p.grad is not None for p in trunk.parameters())


def test_numpy_s_integers_are_numbers_of_tasks_and_rows() -> None:
    """Bug: numbers counted by numpy, as those of the rows of a batch, are refused."""
    counts = np.bincount([0, 0, 1, 2, 2, 2])
    trunk, tasks = nn.Linear(6, 6), np.int64(len(counts))
    for rows in (counts, list(counts), torch.tensor(counts)):
        recorder = pcgrad.LinearRecorder(trunk, tasks, rows=rows)  # type: ignore[arg-type]
        with recorder:
            z = trunk(torch.randn(6, 6))
        recorder.backward([part.square().sum() for part in z.split(counts.tolist())])
    assert type(pcgrad.Accumulator(trunk.parameters(), tasks=tasks).tasks) is int  # type: ignore[arg-type]
    assert pcgrad.random_orders(tasks, batch=counts[1:2]).shape == (1, 3, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("streaming", [False, True])
def test_recorded_calls_of_another_graph_count_for_no_task(streaming: bool) -> None:
    """Bug: an implicit layer's hook runs passes through a call that no loss reaches."""
    layer, heads = nn.Linear(6, 6), nn.ModuleList(nn.Linear(6, 1) for _ in range(3))
    torch.nn.init.orthogonal_(layer.weight, 0.5)
    x = torch.randn(12, 6)
    recorder = pcgrad.LinearRecorder(layer, tasks=3)

    def losses() -> list[Tensor]:
        layer(torch.randn(5, 6))  # logged, with rows of its own
        start = torch.zeros(12, 6, requires_grad=True)
        again = (layer(start) + x).tanh()

        def solve(gradient: Tensor) -> Tensor:
            y = gradient
            for _ in range(9):
                y = gradient + torch.autograd.grad(again, start, y, retain_graph=True)[0]
            return y

        z = (layer(start.detach()) + x).tanh()
        z.register_hook(solve)
        return [(h(part) - 4 * (-1) ** i).square().mean()
                for i, (h, part) in enumerate(zip(heads, z.chunk(3), strict=True))]  # fmt: skip

    parameters = list(layer.parameters())
    truth = expected(losses(), parameters)
    with recorder:
        found = losses()
    recorder.backward(found, streaming=streaming, **FIXED)
    torch.testing.assert_close(update(parameters), truth)


def test_biases_alone_under_the_recorder() -> None:
    """Bug: the first bias, added to a product without a gradient, looks like a foreign one."""
    trunk, heads = network()
    for layer in (trunk[0], trunk[2]):
        layer.weight.requires_grad_(False)
    recorder = pcgrad.LinearRecorder(trunk, tasks=3)
    with recorder:
        z = trunk(torch.randn(3, 6, 5).mT)  # not contiguous: product and sum are two operations
    losses = [h(part).square().mean() for h, part in zip(heads, z, strict=True)]
    parameters = [trunk[0].bias, trunk[2].bias]
    truth = expected(losses, parameters)
    recorder.backward(losses, **FIXED)
    torch.testing.assert_close(update(parameters), truth)


@pytest.mark.parametrize("kind", ["nested", "sparse"])
def test_a_recorded_layer_takes_dense_rows(kind: str) -> None:
    layer = nn.Linear(6, 8)
    x = torch.randn(4, 6)
    rows = torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged)
    with pytest.raises(TypeError, match="nested or sparse"), pcgrad.LinearRecorder(layer, tasks=2):
        layer(rows if kind == "nested" else x.to_sparse())


def test_an_old_grad_of_another_dtype_is_named_and_stays() -> None:
    """Bug: torch's words, and no old gradient is put back."""
    layer = nn.Linear(6, 8)
    recorder = pcgrad.LinearRecorder(layer, tasks=2)
    layer(torch.randn(4, 6)).sum().backward()
    old = [p.grad for p in layer.parameters()]
    for p in layer.parameters():
        p.data = p.data.double()
    with recorder:
        z = layer(torch.randn(4, 6).double())
    with pytest.raises(RuntimeError, match="clear it with zero_grad"):
        recorder.backward([part.square().sum() for part in z.chunk(2)])
    assert all(p.grad is grad for p, grad in zip(layer.parameters(), old, strict=True))
