"""Training loops: mixed precision, micro-batches, compiled and data-parallel modules, dtypes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import pcgrad

from .oracle import CATALOGUE, algorithm_1, total_norm

T, STEPS, ROWS = 3, 4, 12
COMPILER = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler"
)
GRADIENTS = [name for name, matrix in CATALOGUE.items() if len(matrix) > 1]


class Net(nn.Module):
    """A trunk, a layer of tasks 0 and 1 only, heads, a frozen layer and an unused one."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
            self.some, self.unused = nn.Linear(8, 8), nn.Linear(2, 2)
            self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(T))
        self.trunk[0].bias.requires_grad_(False)

    def shared(self) -> list[nn.Parameter]:
        return [*self.trunk.parameters(), *self.some.parameters(), *self.unused.parameters()]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.trunk(x)
        inner = self.some(features).relu()
        return [head(h) for head, h in zip(self.heads, (inner, inner, features), strict=True)]


def data(steps: int = STEPS) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(2)
    return torch.randn(steps, ROWS, 6, generator=random), torch.randn(
        steps, T, ROWS, 1, generator=random
    )


def losses(outputs: list[Tensor], targets: Iterable[Tensor]) -> list[Tensor]:
    return [(out - y).square().mean() for out, y in zip(outputs, targets, strict=True)]


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def train(
    net: Any, rows: slice = slice(None), seed: int = 0, context: Any = nullcontext, **arguments: Any
) -> dict:
    """STEPS of SGD on some rows of every batch; ``net`` may be wrapped."""
    inner: Net = getattr(net, "module", net).double()
    optimizer, generator = (
        torch.optim.SGD(inner.parameters(), lr=0.1),
        torch.Generator().manual_seed(seed),
    )
    for x, y in zip(*(tensor.double() for tensor in data()), strict=True):
        optimizer.zero_grad()
        with context():
            outputs = net(x[rows])
        pcgrad.backward(
            losses(outputs, y[:, rows]), inner.shared(), generator=generator, **arguments
        )
        optimizer.step()
    return state(inner)


def close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-10) -> bool:
    assert a.keys() == b.keys()
    return all(
        torch.allclose(a[name].double(), b[name].double(), rtol=tolerance, atol=tolerance)
        for name in a
    )


# --- precision


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 0.02)]
)
def test_the_oracle_on_every_dtype(dtype: torch.dtype, tolerance: float) -> None:
    """Losses g_i . theta, whose task gradients are the catalogue's: .grad is Algorithm 1 on what
    the dtype holds, and half precision loses only what rounding the sum itself loses."""
    for name in GRADIENTS:
        g = CATALOGUE[name].to(dtype)
        sizes = [g.shape[1] // 2, g.shape[1] - g.shape[1] // 2]
        theta = [torch.zeros(size, dtype=dtype, requires_grad=True) for size in sizes]
        terms = [
            sum((part * p).sum() for part, p in zip(row.split(sizes), theta, strict=True))
            for row in g
        ]
        orders = pcgrad.random_orders(len(g), torch.Generator().manual_seed(3))
        result = pcgrad.backward(terms, theta, orders=orders)  # type: ignore[arg-type]
        exact = algorithm_1(g.double(), orders).sum(0)
        found = torch.cat([p.grad for p in theta if p.grad is not None])
        assert found.dtype == dtype
        assert (found.double() - exact).norm() <= tolerance * total_norm(g), name
        assert (result.weights @ g.double() - exact).norm() <= min(tolerance, 1e-4) * total_norm(
            g
        ), name


def test_a_loop_under_autocast_and_grad_scaler() -> None:
    """Mixed precision trains to the result of single precision.

    A step with an overflow changes no parameter.
    """
    nets, (x, y) = [Net(), Net()], data()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for k in range(STEPS):
        with torch.autocast("cpu", torch.bfloat16):
            mixed = losses(nets[0](x[k]), y[k])
        optimizers[0].zero_grad()
        result = pcgrad.backward(
            [scaler.scale(loss) for loss in mixed], nets[0].shared(), orders="fixed"
        )
        assert result.weights.dtype == torch.float64
        scaler.unscale_(optimizers[0])
        torch.nn.utils.clip_grad_norm_(nets[0].parameters(), 1e3)
        scaler.step(optimizers[0])
        scaler.update()
        optimizers[1].zero_grad()
        pcgrad.backward(losses(nets[1](x[k]), y[k]), nets[1].shared(), orders="fixed")
        optimizers[1].step()
    assert close(state(nets[0]), state(nets[1]), 0.02)
    assert not close(state(nets[0]), state(Net()), 0.02)
    before, scale = state(nets[0]), scaler.get_scale()
    optimizers[0].zero_grad()
    overflow = [
        scaler.scale(loss) * (torch.inf if i == 1 else 1)
        for i, loss in enumerate(losses(nets[0](x[0]), y[0]))
    ]
    pcgrad.backward(overflow, nets[0].shared())
    scaler.step(optimizers[0])
    scaler.update()
    assert close(before, state(nets[0]), 0.0)
    assert scaler.get_scale() == scale / 2


# --- micro-batches


def test_two_calls_are_two_surgeries_and_summed_task_gradients_are_one() -> None:
    net, (x, y) = Net().double(), (tensor[0].double() for tensor in data())
    halves = [slice(0, ROWS // 2), slice(ROWS // 2, ROWS)]
    used = [*net.trunk[0].parameters(), *net.trunk[2].parameters(), *net.some.parameters()]

    def of(rows: slice) -> list[Tensor]:
        return [loss / 2 for loss in losses(net(x[rows]), y[:, rows])]

    def taken() -> list[Tensor]:
        found = [p.grad.clone() for p in used if p.grad is not None]
        net.zero_grad()
        return found

    singles = []
    for rows in halves:
        pcgrad.backward(of(rows), net.shared(), orders="fixed")
        singles.append(taken())
    for rows in halves:
        pcgrad.backward(of(rows), net.shared(), orders="fixed")
    added = taken()
    assert all(
        torch.allclose(a, b + c, rtol=1e-12) for a, b, c in zip(added, *singles, strict=True)
    )

    pcgrad.backward(losses(net(x), y), net.shared(), orders="fixed")
    whole = taken()
    assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(added, whole, strict=True))
    stacks = [pcgrad.task_gradients(of(rows), used) for rows in halves]
    summed = [a + b for a, b in zip(*stacks, strict=True)]
    weights = pcgrad.surgery(pcgrad.gramian(summed), pcgrad.fixed_orders(T)).weights
    pcgrad.apply_weights(used, summed, weights)
    trainable = [p.grad for p in used if p.requires_grad and p.grad is not None]
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(trainable, whole, strict=True))


# --- compiled modules


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=[COMPILER, pytest.mark.long])]
)
def test_a_compiled_module_trains_alike(backend: str) -> None:
    """aot_eager: the compiled graph's backward pass without a C++ compiler; inductor's has kernels
    of its own.
    """
    net, twin = Net(), Net()
    expected = train(twin)
    net.double()
    compiled = torch.compile(net, backend=backend)
    found = train(type("Wrapped", (), {"module": net, "__call__": lambda _, x: compiled(x)})())
    assert close(found, expected, 1e-9)


# --- data parallelism


def attempt(call: Any) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return ""


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rows, world = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2), dist.group.WORLD
    found: dict[str, Any] = {"unwrapped": train(Net(), rows, rank, group=world)}
    wrapped = DistributedDataParallel(Net().double())
    found["no_sync"] = train(wrapped, rows, rank, wrapped.no_sync, group=world)
    inside = DistributedDataParallel(Net().double())
    found["module"] = train(inside.module, rows, rank, group=world)
    found["local"] = train(Net(), rows, rank, group=False)
    found["no group"] = attempt(lambda: train(Net(), rows, rank))
    found["wrapped"] = train(DistributedDataParallel(Net().double()), rows, rank, group=world)
    finding = DistributedDataParallel(Net().double(), find_unused_parameters=True)
    found["wrapped, finding unused"] = train(finding, rows, rank, group=world)
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp("training_ranks")
    torch.multiprocessing.spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(
    "case", ["unwrapped", "module", "no_sync", "wrapped", "wrapped, finding unused"]
)
def test_two_processes_with_different_seeds_train_as_one_on_the_joined_batch(
    ranks: list[dict], case: str
) -> None:
    """A wrapped call works in every form: no hook of DistributedDataParallel fires under
    torch.autograd.grad.
    """
    expected = train(Net())
    for rank in ranks:
        assert close(rank[case], expected)


def test_without_a_group_ranks_drift_apart_or_are_refused(ranks: list[dict]) -> None:
    assert not close(ranks[0]["local"], ranks[1]["local"], 1e-3)
    for rank in ranks:
        assert not close(rank["local"], train(Net()), 1e-3)
        assert "pass a group" in rank["no group"]
