"""Situations of public reports: each is the true gradient, or one line that says what to use."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

import pcgrad
from pcgrad._graph import Reach
from tests.core.test_memory import Peak

T, ROWS = 3, 4


def squares(z: Tensor) -> list[Tensor]:
    return [(part - i).square().mean() for i, part in enumerate(z.chunk(T))]


def algorithm(losses: list[Tensor], parameters: list[Tensor]) -> Tensor:
    """The task gradients [T, P], complex numbers as two."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        parts = [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
        ]
        parts = [
            torch.view_as_real(g.to_dense()) if g.is_complex() else g.to_dense() for g in parts
        ]
        rows.append(torch.cat([g.flatten() for g in parts]))
    return torch.stack(rows)


# --- The recorder: the layer's weight is not the parameter that it sees.

OLD = {
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": lambda layer: nn.utils.weight_norm(layer),
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    "parametrization": nn.utils.parametrizations.weight_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("wrap", OLD)
def test_a_layer_that_computes_its_weight_is_refused_by_name(wrap: str, when: str) -> None:
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8))
    if when == "before":
        OLD[wrap](trunk[2])
        with pytest.raises(TypeError, match=r"2 \(.*Linear\) computes its weight"):
            pcgrad.LinearRecorder(trunk, T)
        return
    recorder = pcgrad.LinearRecorder(trunk, T)
    OLD[wrap](trunk[2])
    with pytest.raises(TypeError, match=r"2 \(.*Linear\) computes its weight"), recorder:
        pass


class Lora(nn.Module):
    """A frozen layer with a trainable detour, as adapters wrap it."""

    def __init__(self, base: nn.Linear, *, merged: bool) -> None:
        super().__init__()
        self.base, self.merged = base.requires_grad_(False), merged
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return nn.functional.linear(x, self.base.weight + self.up.weight @ self.down.weight)
        return self.base(x) + self.up(self.down(x))


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def own_forward(layer: nn.Linear) -> nn.Linear:
    layer.forward = lambda x: nn.functional.linear(x, 2 * layer.weight)  # type: ignore[method-assign]
    return layer


def swapped(trunk: nn.Module, x: Tensor) -> Tensor:
    weights = {name: p.detach().clone().requires_grad_() for name, p in trunk.named_parameters()}
    return functional_call(trunk, weights, (x,))


def derived(trunk: nn.Module, x: Tensor) -> Tensor:
    return functional_call(trunk, {n: p * 2 for n, p in trunk.named_parameters()}, (x,))


def again_in_backward(trunk: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(trunk, x, use_reentrant=False)


def hook(p: Tensor) -> None:
    p.register_hook(lambda g: 2 * g)


def plain_call(trunk: nn.Module, x: Tensor) -> Tensor:
    return trunk(x)


def mlp(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(
        *(layers or (nn.Linear(6, 8),)), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)
    )


TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "no bias": lambda: mlp(nn.Linear(6, 8, bias=False)),
    "frozen layer": lambda: mlp(nn.Linear(6, 8).requires_grad_(False)),
    "frozen bias": lambda: mlp(_frozen_bias()),
    "lora": lambda: mlp(Lora(nn.Linear(6, 8), merged=False)),
    "lora merged": lambda: mlp(Lora(nn.Linear(6, 8), merged=True)),
    "called twice": lambda: mlp(nn.Linear(6, 8), *[nn.Linear(8, 8)] * 2),
    "subclass": lambda: mlp(Doubled(6, 8)),
    "own forward": lambda: mlp(own_forward(nn.Linear(6, 8))),
    "inplace": lambda: mlp(nn.Linear(6, 8), nn.ReLU(inplace=True)),
    "output doubled by a hook": lambda: mlp(_hooked(lambda *a: a[-1] * 2)),
    "prelu": lambda: mlp(nn.Linear(6, 8), nn.PReLU()),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (6, 1)), nn.Conv1d(6, 3, 1), nn.Flatten(1)
    ),
    "batch norm": lambda: mlp(nn.Linear(6, 8), nn.BatchNorm1d(8)),
    "softmax over rows": lambda: mlp(nn.Linear(6, 8), nn.Softmax(0)),
    "complex": lambda: nn.Sequential(nn.Linear(6, 3, dtype=torch.cfloat), _Real()),
}


def _frozen_bias() -> nn.Linear:
    layer = nn.Linear(6, 8)
    layer.bias.requires_grad_(False)
    return layer


def _hooked(function: Callable[..., Tensor]) -> nn.Linear:
    layer = nn.Linear(6, 8)
    layer.register_forward_hook(function)
    return layer


class _Real(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.abs()


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "none": lambda trunk: None,
    "tensor hook": lambda trunk: hook(next(p for p in trunk.parameters() if p.requires_grad)),
    "full backward hook": lambda trunk: [
        m.register_full_backward_hook(
            lambda m, gi, go: tuple(None if g is None else 3 * g for g in gi)
        )
        for m in trunk.modules()
    ],
    "old backward hook": lambda trunk: [
        m.register_backward_hook(lambda *a: None) for m in list(trunk.modules())[1:2]
    ],
    "forward pre-hook": lambda trunk: trunk.register_forward_pre_hook(lambda m, a: (a[0] + 1,)),
}
CALLS = {
    "plain": plain_call,
    "checkpoint": again_in_backward,
    "swapped": swapped,
    "derived": derived,
}


def either_true_or_refused(
    trunk: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], x: Tensor, rows: list[int] | None
) -> str:
    """The recorder's task gradients against autograd's; or the line of its refusal."""
    split = [ROWS] * T if rows is None else rows

    def losses() -> list[Tensor]:
        parts = call(trunk, x).split(split)
        return [((z - i).square().sum() + 0 * z.sum()) for i, z in enumerate(parts)]

    try:
        recorder = pcgrad.LinearRecorder(trunk, T)
        for _ in range(2):
            with recorder:
                values = losses()
            stacks, _ = recorder.task_gradients(values, None, rows=rows)
    except (TypeError, RuntimeError, ValueError) as error:
        return str(error).replace("\n", " NEW LINE ")
    parameters = [p for p in trunk.parameters() if p.requires_grad]
    expected = algorithm(losses(), parameters)
    found = [s for p, s in zip(trunk.parameters(), stacks, strict=True) if p.requires_grad]
    real = [torch.view_as_real(s) if s.is_complex() else s for s in found]
    flat = torch.cat([s.flatten(1) for s in real], 1)
    torch.testing.assert_close(flat, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    return "equal"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rows", [None, [5, 1, 6], [8, 0, 4]], ids=["equal", "unequal", "empty"])
@pytest.mark.parametrize("hooks", HOOKS)
@pytest.mark.parametrize("kind", TRUNKS)
def test_the_recorder_is_right_or_says_so(kind: str, hooks: str, rows: list[int] | None) -> None:
    """Bug: a layer, hook, call or row count silently gives other gradients."""
    torch.manual_seed(0)
    outcomes = set()
    for name, call in CALLS.items():
        trunk = TRUNKS[kind]()
        HOOKS[hooks](trunk)
        x = torch.randn(T * ROWS, 6, dtype=torch.cfloat if kind == "complex" else torch.float32)
        outcome = either_true_or_refused(trunk, call, x, rows)
        if name in ("swapped", "derived"):
            assert outcome != "equal" or not any(p.requires_grad for p in trunk.parameters())
        outcomes.add(outcome)
    assert not any("NEW LINE" in outcome for outcome in outcomes)
    plain = ("mlp", "no bias", "frozen layer", "frozen bias", "lora", "called twice", "inplace")
    if kind in plain and hooks in ("none", "forward pre-hook"):
        assert "equal" in outcomes, outcomes


def record(recorder: pcgrad.LinearRecorder, trunk: nn.Module, x: Tensor) -> Tensor:
    with recorder:
        return trunk(x)


def test_unequal_rows_need_to_be_said() -> None:
    trunk = mlp()
    recorder = pcgrad.LinearRecorder(trunk, T)
    z = record(recorder, trunk, torch.randn(12, 6))
    with pytest.raises(RuntimeError, match=r"rows of several tasks are mixed .*rows=\[n_1"):
        recorder.backward([part.square().mean() for part in z.split([6, 2, 4])])
    z = record(recorder, trunk, torch.randn(11, 6))
    with pytest.raises(ValueError, match=r"pass rows=\[n_1, ...\] where they differ"):
        recorder.backward([part.square().mean() for part in z.split([5, 2, 4])])
    for wrong in ([4, 4], [4, 4, -4], [4, 4, 5]):
        with pytest.raises(ValueError, match="rows"):
            recorder.backward([z.mean()] * T, rows=wrong)
    assert all(p.grad is None for p in trunk.parameters())
    pcgrad.LinearRecorder(trunk, T, rows=[5, 2, 4])


def test_a_new_row_count_is_checked_again() -> None:
    """Equal rows prove nothing of a later batch that is divided otherwise."""
    trunk = mlp()
    recorder = pcgrad.LinearRecorder(trunk, T)
    for _ in range(3):
        recorder.backward(squares(record(recorder, trunk, torch.randn(12, 6))), orders="fixed")
    z = record(recorder, trunk, torch.randn(9, 6))
    with pytest.raises(RuntimeError, match="mixed"):
        recorder.backward([part.square().mean() for part in z.split([1, 4, 4])])


def test_zero_gradients_prove_nothing() -> None:
    """A head that begins at zero hides that rows are mixed; so does a gate at zero."""
    trunk, head = mlp(), nn.Linear(3, 1)
    nn.init.zeros_(head.weight)
    recorder = pcgrad.LinearRecorder(trunk, T)
    for step in range(2):
        z = record(recorder, trunk, torch.randn(12, 6))
        losses = squares(head(z - z.mean(0)))
        if step == 0:
            recorder.backward(losses)
            nn.init.ones_(head.weight)
        else:
            with pytest.raises(RuntimeError, match="mixed"):
                recorder.backward(losses)


def test_a_gate_that_opens_is_seen() -> None:
    trunk, gate = mlp(), torch.zeros(())
    recorder = pcgrad.LinearRecorder(trunk, T)
    recorder.backward(
        squares((z := record(recorder, trunk, torch.randn(12, 6))) + gate * z.mean(0))
    )
    gate.fill_(0.5)
    z = record(recorder, trunk, torch.randn(12, 6))
    with pytest.raises(RuntimeError, match="mixed"):
        recorder.backward(squares(z + gate * z.mean(0)))


# --- backward is what sum(losses).backward() is.


class Box:
    def __init__(self, value: Tensor) -> None:
        self.value = value


def alive(make: Callable[[], tuple[list[Tensor], list[Tensor]]], run: Callable[..., Any]) -> int:
    """Bytes that the graph of the losses holds after a pass, while the losses are held."""
    held: dict[int, int] = {}

    def pack(value: Tensor) -> Box:
        box = Box(value)
        held[id(box)] = value.nbytes
        weakref.finalize(box, held.pop, id(box), None)
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.value):
        losses, shared = make()
    assert held
    run(losses, shared)
    return sum(held.values())


def heads_of(trunk: nn.Module, z: Tensor) -> list[Tensor]:
    heads = [nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)) for _ in range(T)]
    return [h(z).square().mean() for h in heads]


def one_trunk() -> tuple[list[Tensor], list[Tensor]]:
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    return heads_of(trunk, trunk(torch.randn(9, 6))), list(trunk.parameters())


def a_graph_per_task() -> tuple[list[Tensor], list[Tensor]]:
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    return [trunk(torch.randn(9, 6)).square().mean() for _ in range(T)], list(trunk.parameters())


def the_last_misses_the_trunk() -> tuple[list[Tensor], list[Tensor]]:
    losses, shared = one_trunk()
    return [*losses, nn.Linear(2, 1)(torch.randn(3, 2)).square().mean()], shared


def the_first_misses_the_trunk() -> tuple[list[Tensor], list[Tensor]]:
    losses, shared = the_last_misses_the_trunk()
    return losses[::-1], shared


def towers() -> tuple[list[Tensor], list[Tensor]]:
    """Every task reads two depths of the trunk, as MTAN and U-Nets do."""
    lower, upper = nn.Linear(6, 8), nn.Linear(8, 8)
    a = lower(torch.randn(9, 6)).tanh()
    b = upper(a).tanh()
    mine = [nn.Linear(8, 8) for _ in range(2 * T)]
    losses = [(mine[2 * i](a).sin() * mine[2 * i + 1](b).cos()).mean() for i in range(T)]
    return losses, [*lower.parameters(), *upper.parameters()]


def depths() -> tuple[list[Tensor], list[Tensor]]:
    """The second pass frees what the first one, of the last loss, had to keep."""
    lower, upper, mine = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
    a = lower(torch.randn(9, 6)).tanh()
    b = upper(a).tanh()
    losses = [lower(torch.randn(9, 6)).square().mean(), b.square().mean(), (mine(a) * b).mean()]
    return losses, [*lower.parameters(), *upper.parameters()]


def tied() -> tuple[list[Tensor], list[Tensor]]:
    """The heads read the trunk's first weight again."""
    w = nn.Parameter(torch.randn(8, 6))
    z = (torch.randn(9, 6) @ w.T).tanh()
    return [(i + (z @ w).exp() * (i + 1)).mean() for i in range(T)], [w]


GRAPHS = {f.__name__: f for f in (one_trunk, a_graph_per_task, the_last_misses_the_trunk,
                                  the_first_misses_the_trunk, towers, depths, tied)}  # fmt: skip


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_graph_stays_alive(graph: str) -> None:
    assert alive(GRAPHS[graph], lambda losses, shared: sum(losses).backward()) == 0
    assert alive(GRAPHS[graph], lambda losses, shared: pcgrad.backward(losses, shared)) == 0
    assert alive(
        GRAPHS[graph], lambda losses, shared: pcgrad.backward(losses, shared, retain_graph=True)
    )


@pytest.mark.parametrize("saved_by_hooks", [True, False])
def test_no_input_of_a_recorded_layer_stays_alive(saved_by_hooks: bool) -> None:
    """Bug: the pass ends at the lowest layers' outputs, whose inputs stay while the losses do."""

    class Values(torch.autograd.graph.saved_tensors_hooks):
        def __init__(self) -> None:
            super().__init__(Box, lambda box: box.value)

    for dtype, rows in ((torch.float32, (T, 4)), (torch.bfloat16, (T * 4,))):
        trunk = nn.Sequential(nn.Linear(6, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 1))
        trunk[1].requires_grad_(False)
        recorder = pcgrad.LinearRecorder(trunk, T)
        for checked in (True, False):
            x = torch.randn(*rows, 6)
            with (
                Values() if saved_by_hooks else nullcontext(),
                torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
                recorder,
            ):
                z = trunk(x)
            losses = squares(z)
            inputs = [weakref.ref(x), weakref.ref(x.untyped_storage())]
            del x
            gradients = recorder.task_gradients(losses, retain_graph=True)[0]
            assert any(one() is not None for one in inputs), checked
            again = recorder.task_gradients(losses)[0]
            assert not any(one() is not None for one in inputs), checked
            assert all(map(torch.equal, gradients, again))


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_saved_tensor_stays_alive(graph: str) -> None:
    """The same without hooks on saved tensors, where each task's part is freed after its pass."""

    def remaining(retain_graph: bool) -> int:
        with Peak() as memory:
            losses, shared = GRAPHS[graph]()
            pcgrad.backward(losses, shared, retain_graph=retain_graph)
        leaves = Reach(losses).leaves()
        known = [*losses, *leaves, *(p.grad for p in leaves if p.grad is not None)]
        return memory.now(known)

    assert remaining(False) == 0
    assert remaining(True) > 0


def test_tensor_hooks_run_once_per_task() -> None:
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    z = trunk(torch.randn(9, 6))
    seen: list[bool] = []
    z.register_hook(lambda gradient: seen.append(bool(gradient.any())))
    pcgrad.backward(heads_of(trunk, z), trunk.parameters())
    assert seen == [True] * T


@pytest.mark.parametrize("graph", GRAPHS)
def test_freeing_changes_no_gradient(graph: str) -> None:
    """And a second backward through the graph is refused, in both ways of freeing."""
    for retain in (True, False):
        torch.manual_seed(1)
        losses, shared = GRAPHS[graph]()
        expected = algorithm(losses, shared)
        result = pcgrad.backward(losses, shared, orders="fixed", retain_graph=retain)
        torch.testing.assert_close(
            result.gramian, (expected @ expected.T).double(), rtol=1e-4, atol=1e-6
        )
        found = torch.cat([p.grad.flatten() for p in shared if p.grad is not None])
        torch.testing.assert_close(found, result.weights.float() @ expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError):
        sum(losses).backward()  # type: ignore[union-attr]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_hook_and_a_retained_gradient_at_the_border(graph: str) -> None:
    """Gradient reversal at the trunk's output; what retain_grad keeps is the plain sum."""
    trunk, heads = nn.Linear(6, 8), [nn.Linear(8, 1) for _ in range(T)]
    x = torch.randn(5, 6)
    for own in (False, True):
        z = trunk(x)
        z.register_hook(lambda g: -g)
        z.retain_grad()
        losses = [(h(z) - i).square().mean() for i, h in enumerate(heads)]
        shared = trunk.parameters()
        expected = algorithm(losses, list(trunk.parameters()))
        (plain,) = torch.autograd.grad(sum(losses), [z], retain_graph=True)  # type: ignore[arg-type]
        z.grad = None
        result = pcgrad.backward(losses, shared, own_parameters=None if own else [])
        torch.testing.assert_close(
            result.gramian, (expected @ expected.T).double(), rtol=1e-4, atol=1e-6
        )
        assert z.grad is not None
        torch.testing.assert_close(z.grad, plain)


@pytest.mark.parametrize("recorded", [False, True])
def test_own_sparse_gradients_stay_sparse_and_add_up(recorded: bool) -> None:
    trunk, table = nn.Linear(4, 3), nn.Embedding(100, 4, sparse=True)
    dense = nn.Embedding(100, 4)
    dense.load_state_dict(table.state_dict())
    for _ in range(2):
        for embedding in (table, dense):
            recorder = pcgrad.LinearRecorder(trunk, 2)
            with recorder:
                z = trunk(embedding(torch.arange(8)))
            losses = [z[:4].square().mean(), (z[4:] - 2).square().mean()]
            if recorded:
                recorder.backward(losses)
            else:
                pcgrad.backward(losses, trunk.parameters())
    assert table.weight.grad is not None
    assert dense.weight.grad is not None
    assert table.weight.grad.layout == torch.sparse_coo
    torch.testing.assert_close(table.weight.grad.to_dense(), dense.weight.grad)
    torch.optim.SparseAdam([table.weight]).step()
    z = table(torch.arange(3)).sum()
    pcgrad.backward([z * 1, z * 2], [table.weight])  # shared: dense added to sparse
    assert table.weight.grad.layout == torch.strided


def test_post_accumulate_hooks_run_once_all_is_added() -> None:
    """Optimizers in the backward pass: each leaf once, and no leaf sees a half-written step."""
    trunk, heads = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(2))
    leaves = [*trunk.parameters(), *heads.parameters()]
    ran: list[Tensor] = []

    def step(p: Tensor) -> None:
        assert all(leaf.grad is not None or any(leaf is q for q in ran) for leaf in leaves)
        ran.append(p)
        p.grad = None

    for p in leaves:
        p.register_post_accumulate_grad_hook(step)
    z = trunk(torch.randn(4, 6))
    pcgrad.backward([h(z).square().mean() for h in heads], trunk.parameters())
    assert {id(p) for p in ran} == {id(p) for p in leaves}
    assert len(ran) == len(leaves)


def failing(_: Tensor) -> Tensor:
    raise RuntimeError("solver failed")


@pytest.mark.parametrize("fault", ["weighting", "weights", "hook", "grad elsewhere", "not finite"])
def test_nothing_is_added_where_anything_raises(fault: str) -> None:
    trunk, heads = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(2))
    z = trunk(torch.randn(4, 6))
    losses = [h(z).square().mean() for h in heads]
    arguments: dict[str, Any] = {}
    untouched = [*trunk.parameters(), *heads.parameters()]
    if fault == "weighting":
        arguments["weighting"] = failing
    elif fault == "weights":
        arguments["weighting"] = lambda gramian: gramian
    elif fault == "hook":
        heads[0].weight.register_hook(failing)
    elif fault == "grad elsewhere":
        last = untouched.pop()
        last.grad = torch.zeros_like(last)
        last.grad.data = torch.zeros(7)
    else:
        losses[1] = losses[1] * float("nan")
        arguments["check_finite"] = True
    with pytest.raises((RuntimeError, ValueError, FloatingPointError)):
        pcgrad.backward(losses, trunk.parameters(), **arguments)
    assert all(p.grad is None for p in untouched)


@pytest.mark.parametrize("frozen", [
    torch.zeros(3, dtype=torch.uint8), torch.zeros(3, device="meta"),
    torch.zeros(3, dtype=torch.bfloat16),
    torch.zeros(3, dtype=torch.int32, device="meta")])  # fmt: skip
def test_frozen_parameters_may_be_of_any_kind(frozen: Tensor) -> None:
    trunk, heads = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(2))
    trunk.base = nn.Parameter(frozen, requires_grad=False)
    z = trunk(torch.randn(4, 6))
    losses = [h(z).square().mean() for h in heads]
    stacks = pcgrad.task_gradients(losses, trunk.parameters(), retain_graph=True)
    assert pcgrad.gramian(stacks).shape == (2, 2)
    pcgrad.backward(losses, trunk.parameters(), own_parameters=[*heads.parameters(), trunk.base])
    assert trunk.weight.grad is not None
    recorder = pcgrad.LinearRecorder(nn.Sequential(trunk, Holder(frozen)), 2)
    z = record(recorder, recorder.module, torch.randn(4, 6))
    stacks, _ = recorder.task_gradients(
        [h(part).sum() for h, part in zip(heads, z.chunk(2), strict=True)]
    )
    assert pcgrad.gramian(stacks).shape == (2, 2)
    assert [tuple(s.shape) for s in stacks] == [(2, 8, 6), (2, 8), (2, 3), (2, 3)]


class Holder(nn.Module):
    """A module of one frozen parameter that it does not use."""

    def __init__(self, frozen: Tensor) -> None:
        super().__init__()
        self.frozen = nn.Parameter(frozen.clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("tasks", [2, 12])
def test_orders_are_the_cpu_s_under_any_default_device(tasks: int) -> None:
    plain = pcgrad.random_orders(tasks, torch.Generator().manual_seed(0))
    with torch.device("meta"):
        moved = pcgrad.random_orders(tasks, torch.Generator().manual_seed(0))
        fixed = pcgrad.fixed_orders(tasks)
        shared = pcgrad.random_orders(tasks, shared=True)
    assert torch.equal(plain, moved)
    assert fixed.device.type == shared.device.type == "cpu"
    gramian = torch.eye(tasks, dtype=torch.float64) - 0.4
    with torch.device("meta"):
        assert pcgrad.surgery(gramian, moved).weights.device.type == "cpu"
    with torch.inference_mode():
        pcgrad.random_orders(tasks)
    assert not pcgrad.random_orders(tasks).is_inference()


def _fsdp(rank: int, port: int, folder: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
    fully_shard(net, mesh=mesh)
    lines = []
    y = net(torch.randn(4, 6))
    w = distribute_tensor(torch.ones(2), mesh, [Replicate()]).requires_grad_()
    for parameters in (net.parameters(), [w]):
        try:
            pcgrad.backward([y.mean(), y.std()], parameters, group=dist.group.WORLD)
        except TypeError as error:
            lines.append(str(error))
    assert isinstance(w, DTensor)
    trunk, head = nn.Linear(6, 8), nn.Linear(8, 2)
    fully_shard(head, mesh=mesh)
    z = trunk(torch.randn(4, 6))
    y, accumulator = head(z), pcgrad.Accumulator(trunk.parameters(), tasks=2)
    losses = [y.mean(), y.std()]
    for call in (lambda: pcgrad.backward(losses, trunk.parameters(), group=dist.group.WORLD),
                 lambda: accumulator.add(losses)):  # fmt: skip
        try:
            call()
        except TypeError as error:
            lines.append(str(error))
    assert trunk.weight.grad is None
    Path(folder, f"{rank}.txt").write_text("\n".join(lines))
    dist.destroy_process_group()


@pytest.mark.long
def test_sharded_parameters_are_refused_by_name(tmp_path: Path) -> None:
    mp.spawn(_fsdp, args=(29_700 + os.getpid() % 200, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        sharded, tensor, *own = Path(tmp_path, f"{rank}.txt").read_text().splitlines()
        assert "#0 [8, 6] is sharded (FSDP)" in sharded
        assert "is a DTensor" in tensor
        assert len(own) == 2
        assert all(
            line.startswith("own parameter [2") and "is sharded (FSDP)" in line for line in own
        )


# --- Choices.


def test_no_list_shares_what_two_losses_reach() -> None:
    """Inputs with gradients (a PINN's) are not parameters; heads are own."""
    trunk, heads = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(2))
    x = torch.randn(4, 6, requires_grad=True)
    for shared in (None, trunk.parameters()):
        z = trunk(x)
        result = pcgrad.backward([h(z).square().mean() for h in heads], shared, orders="fixed")
        if shared is None:
            first = result.gramian
    torch.testing.assert_close(result.gramian, first)
    w = torch.ones(3, requires_grad=True)
    assert pcgrad.backward([w.sum(), (2 * w).sum()]).gramian.tolist() == [[3, 6], [6, 12]]
    scale = torch.tensor(3.0, requires_grad=True)  # no dimension, as CLIP's temperature
    assert pcgrad.backward([scale * 2, -scale]).gramian.tolist() == [[4, -2], [-2, 1]]
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match="no leaf is reached by two losses"):
        pcgrad.backward([a.sum(), b.sum()])


@pytest.mark.parametrize("dtype", [torch.cfloat, torch.cdouble])
def test_complex_parameters_count_as_two_real_ones(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    w, real = nn.Parameter(torch.randn(5, dtype=dtype)), nn.Parameter(torch.randn(2))
    z = torch.fft.irfft(torch.fft.rfft(torch.randn(16, 8).to(w.real.dtype)) * w, n=8) * real.sum()
    losses = [(z - 1).square().mean(), (z + z.detach().sign()).square().mean()]
    g = algorithm(losses, [w, real]).double()
    result = pcgrad.backward(losses, [w, real])
    torch.testing.assert_close(result.gramian, g @ g.T, rtol=1e-5, atol=1e-6)
    assert w.grad is not None
    expected = torch.view_as_complex((result.weights @ g)[:10].view(5, 2)).to(dtype)
    torch.testing.assert_close(w.grad, expected, rtol=1e-4, atol=1e-5)


def test_groups_are_surgeries_of_their_own() -> None:
    a, b, head = nn.Linear(6, 8), nn.Linear(8, 8), [nn.Linear(8, 1) for _ in range(T)]
    x = torch.randn(5, 6)

    def losses() -> list[Tensor]:
        return [(h(b(a(x).tanh())) - 9 * (-1) ** i).square().mean() for i, h in enumerate(head)]

    groups = {"first": list(a.parameters()), "second": b.named_parameters()}
    both = [*a.parameters(), *b.parameters()]
    result = pcgrad.backward(losses(), both, granularity=groups, orders="fixed")
    assert result.weights.shape == (2, T)
    grouped = [p.grad for p in both]
    for p in both:
        p.grad = None
    for part in (a, b):
        pcgrad.backward(losses(), part.parameters(), own_parameters=[], orders="fixed")
    torch.testing.assert_close([p.grad for p in both], grouped)
    for wrong, message in (
        ({"first": a.parameters()}, "in no group"),
        ({"first": both, "second": b.parameters()}, "is in groups first and second"),
        ({"first": both, "second": head[0].parameters()}, "not listed as shared"),
    ):
        with pytest.raises(ValueError, match=message):
            pcgrad.backward(losses(), both, granularity=wrong)


@pytest.mark.parametrize("store", [{}, {"dtype": torch.float64}, {"device": "cpu"}])
def test_an_accumulator_is_one_surgery_on_the_sum(store: dict[str, Any]) -> None:
    """One graph at a time, and micro-batches, against one backward on their sum."""
    trunk, heads = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(T))
    x = torch.randn(2, 4, 6)

    def loss(i: int, micro: int) -> Tensor:
        return (heads[i](trunk(x[micro])) - 5 * (-1) ** i).square().mean()

    everything = [*trunk.parameters(), *heads.parameters()]
    pcgrad.backward([loss(i, 0) + loss(i, 1) for i in range(T)], trunk.parameters(), orders="fixed")
    expected = [p.grad for p in everything]
    for p in everything:
        p.grad = None
    accumulator = pcgrad.Accumulator(trunk.parameters(), tasks=T, **store)
    for _ in range(2):  # its memory is used again
        for p in everything:
            p.grad = None
        for i in range(T):
            accumulator.add([loss(i, 0)], tasks=[i])
        accumulator.add([loss(i, 1) for i in range(T)])
        assert all(p.grad is None for p in everything)
        accumulator.backward(orders="fixed")
        torch.testing.assert_close([p.grad for p in everything], expected)


def test_many_small_parameters_are_kept_in_one_matrix() -> None:
    w = [nn.Parameter(torch.randn(3)) for _ in range(300)]
    large = nn.Parameter(torch.randn(5000))
    for granularity in ("global", "per_tensor"):
        total = torch.stack([p.sum() for p in w]).square().sum() + large.square().sum()
        losses = [total * 1.0, (total - 3).square(), sum(p[0] for p in w) - large.sum()]
        expected = algorithm(losses, [*w, large])
        result = pcgrad.backward(losses, [*w, large], granularity=granularity, orders="fixed")
        if granularity == "global":
            got = torch.cat([p.grad.flatten() for p in [*w, large] if p.grad is not None])
            torch.testing.assert_close(got, result.weights.float() @ expected, rtol=1e-4, atol=1e-2)
            for p in [*w, large]:
                p.grad = None


# --- Messages and numbers.


def test_mistakes_get_one_line() -> None:
    trunk, head = nn.Linear(2, 2), nn.Linear(2, 1)
    w = torch.ones(2, requires_grad=True)
    losses = [trunk(torch.ones(1, 2)).sum(), (2 * trunk(torch.ones(1, 2))).sum()]
    generator = torch.Generator()
    gru = nn.GRU(3, 5, batch_first=True)
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: pcgrad.backward(losses, trunk), r"got a Linear; pass its .parameters\(\)"),
        (lambda: pcgrad.backward(losses, nn.ParameterDict({"a": nn.Parameter(w)})),
         "ParameterDict"),
        (lambda: pcgrad.backward(dict(enumerate(losses)), [w]), "got a dict"),
        (lambda: pcgrad.backward(losses, [w], generator=0),
         "a generator is a torch.Generator, got 0"),
        (lambda: pcgrad.backward(losses, [w], generator), "got generator=... by position"),
        (lambda: pcgrad.backward(losses, generator), "pass generator=..."),
        (lambda: pcgrad.random_orders(2, 0), "a generator is a torch.Generator"),
        (lambda: pcgrad.surgery([[1.0]], pcgrad.fixed_orders(1)), "a Gramian is a tensor"),
        (lambda: pcgrad.cosine(w, w), "takes 1|a Gramian"),
        (lambda: pcgrad.cosine(w), "pcgrad.gramian makes it from task gradients"),
        (lambda: pcgrad.backward([w.sum() * 1j] * 2, [w]), "is complex"),
        (
            lambda: pcgrad.task_gradients_batched(
                lambda s, own, x: functional_call(gru, s, (x,))[0].square().mean(),
                dict(gru.named_parameters()), None, torch.randn(2, 4, 7, 3)),
            "vmap cannot take GRU"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises((TypeError, ValueError, RuntimeError), match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    recorder = pcgrad.LinearRecorder(head, 2)
    with recorder:
        z = head(torch.ones(4, 2))
    with pytest.raises(RuntimeError, match="behind the recorded Linear"):
        recorder.backward([z.mean(), z.std()])


def test_a_parameter_reached_in_this_step_alone_is_not_called_a_head() -> None:
    net, x = (
        nn.Sequential(nn.Linear(1, 9), nn.Tanh(), nn.Linear(9, 1)),
        torch.rand(8, 1, requires_grad=True),
    )
    (du,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pcgrad.backward(
            [(du - 1).square().mean(), net(torch.zeros(1, 1)).square().mean()], net.parameters()
        )


def test_direction_only_stands_still_where_the_update_vanishes() -> None:
    """g and -.3 g: what is left is rounding, and its direction means nothing."""
    for dtype in (torch.float32, torch.float64):
        for scale in (1e-6, 1e-3, 1.0, 7.3, 1e5):
            for factor in (-0.3, -1.0, -1 / 3, -2.7):
                g = torch.tensor([0.1, 0.7, 0.3], dtype=dtype) * scale
                stack = torch.stack([g, factor * g])
                gramian = pcgrad.gramian([stack])
                weights = pcgrad.surgery(gramian, pcgrad.fixed_orders(2)).weights
                assert pcgrad.direction_only(gramian, weights).tolist() == [0, 0]


def test_losses_of_one_operation_cannot_be_told_apart() -> None:
    w = torch.ones(2, requires_grad=True)
    losses = list((w.sum() * torch.tensor([1.0, float("nan")])).unbind())
    with pytest.raises(FloatingPointError, match=r"Unbind.*: the tasks cannot be told apart"):
        pcgrad.backward(losses, [w], check_finite=True)


def test_kept_gradients_are_sums_over_tasks() -> None:
    """`retain_grad` adds up over the passes of the tasks, as in one pass over the sum."""
    p = torch.tensor(1.0, requires_grad=True)
    a = 2 * p
    a.retain_grad()
    f = 3 * a
    pcgrad.backward([2 * f, 3 * f], [p])
    assert a.grad is not None
    assert a.grad.item() == 15


@pytest.mark.parametrize("tasks", [128, 200])
def test_many_tasks_go_by_blocks(tasks: int) -> None:
    """Against one visit at a time; with a zero gradient, and with one that is not finite."""
    g = torch.randn(tasks, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g[5] = 0
    orders = pcgrad.random_orders(tasks, torch.Generator().manual_seed(1))
    for value in (0.0, float("nan")):
        g[7, 0] += value
        gramian = g @ g.T
        blocks = pcgrad.surgery_coefficients(gramian, orders)
        steps = pcgrad.surgery_coefficients(gramian.unsqueeze(0), orders)[0]
        torch.testing.assert_close(blocks, steps, equal_nan=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pcgrad.random_orders(3, 5), "a generator is a torch.Generator, got 5"),
        (lambda: pcgrad.random_orders(True), "positive integer up to 32768, got True"),
        (
            lambda: pcgrad.apply_weights([torch.zeros(3)], [torch.ones(2, 3)], [1.0, 2.0]),
            "weights must be a tensor, got a list",
        ),
        (lambda: pcgrad.backward(*two_losses(), group=5), "group must be .* got 5"),
        (lambda: pcgrad.backward(*two_losses(), group=np.ones(2)), "group must be .* got"),
        (lambda: apply(nn.Linear(3, 1)), r"got a Linear; pass its \.parameters\(\)"),
        (
            lambda: apply(list(torch.ones(2, 3)), 1j * torch.ones(2)),
            "weights must be .* a complex one",
        ),
        (lambda: apply([torch.zeros(3)] * 2), "are the same tensor"),
        (lambda: pcgrad.gramian([torch.eye(2).to_sparse()]), "and dense, got .*sparse_coo"),
        (lambda: pcgrad.Accumulator(nn.LazyLinear(2).parameters(), tasks=2), "not initialised yet"),
        (lambda: pcgrad.LinearRecorder(nn.LazyLinear(2), tasks=2), "call the module once before"),
        (lambda: batched(nn.Linear(3, 1)), "dicts of tensors; they hold a Linear"),
        (lambda: batched([torch.ones(2), 3]), "dicts of tensors; they hold a int"),
        (lambda: pcgrad.backward(*two_losses(1j)), "the loss of task 1 is complex"),
    ],
)
def test_an_argument_of_another_kind_is_named_in_one_line(call, words):
    """Bug: torch's or Python's own words, about something inside."""
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def apply(parameters, weights=torch.ones(2)):  # noqa: B008
    pcgrad.apply_weights(parameters, [torch.ones(2, 3)] * 2, weights)


def batched(own):
    pcgrad.task_gradients_batched(lambda s, o, b: (s * b).sum(), torch.ones(3), own, torch.ones(2))


def two_losses(factor=1.0):
    x = torch.ones(3, requires_grad=True)
    return [x.sum(), (x * factor).sum()], [x]
