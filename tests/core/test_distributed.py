"""Two gloo processes on half batches agree with one process on the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import pcgrad

T = 4

pytestmark = pytest.mark.long


def model_and_data() -> tuple[nn.Module, nn.ModuleList, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Linear(5, 3), nn.Tanh()).double()
        heads = nn.ModuleList(nn.Linear(3, 1) for _ in range(T)).double()
        return (
            trunk,
            heads,
            torch.randn(8, 5, dtype=torch.float64),
            torch.randn(T, 8, 1, dtype=torch.float64),
        )


def step(
    rows: slice, seed: int, *, drop: bool = False, many: bool = False, **arguments: object
) -> dict[str, Tensor]:
    """Run one backward pass on some rows of the data.

    `drop` leaves the last task out of the trunk on this rank. `many` adds parameters that are kept
    in one matrix.
    """
    trunk, heads, x, y = model_and_data()
    features = trunk(x[rows])
    if many:
        trunk.more = nn.ParameterList(torch.full((3,), 0.01 * k).double() for k in range(300))
        features = features + sum((x[rows, :3] * p).tanh() for p in trunk.more)
    losses = [((head(features) - y[i, rows]) ** 2).mean() for i, head in enumerate(heads)]
    if drop:
        losses[-1] = ((heads[-1](features.detach()) - y[-1, rows]) ** 2).mean()
    generator = torch.Generator().manual_seed(seed)
    result = pcgrad.backward(losses, trunk.parameters(), generator=generator, **arguments)  # type: ignore[arg-type]
    grads = {
        f"{k}": p.grad
        for k, p in enumerate([*trunk.parameters(), *heads.parameters()])
        if p.grad is not None
    }
    return {"orders": result.orders, "gramian": result.gramian, **grads}


TABLES = {"sparse on both": (True, True), "on one": (True, None), "of two kinds": (False, True),
          "accumulated": (True, None)}  # fmt: skip


def table(kind: bool | None, rank: int, case: str = "", **arguments: object) -> Tensor:
    """Return the gradient of a head's table on one rank: sparse, dense, or none (``None``)."""
    torch.manual_seed(0)
    trunk, rows = nn.Linear(5, 3).double(), torch.tensor([1, 4, 4, 2]) + rank
    own = nn.Embedding(9, 3, sparse=bool(kind)).double()
    z = trunk(torch.ones(4, 5).double()) + (0 if kind is None else own(rows))
    losses = [z.square().mean(), (z - 1).square().mean()]
    listed = (trunk.parameters(), [own.weight])
    if case == "accumulated":
        accumulator = pcgrad.Accumulator(listed[0], tasks=2, own_parameters=listed[1])
        accumulator.add(losses)
        accumulator.backward(**arguments)  # type: ignore[arg-type]
    else:
        pcgrad.backward(losses, listed[0], own_parameters=listed[1], **arguments)  # type: ignore[arg-type]
    return torch.zeros(9, 3).double() if own.weight.grad is None else own.weight.grad


def expanded(rank: int, **arguments: object) -> Tensor:
    """Return the gradient of an own leaf that autograd gives as one number, expanded."""
    shared, own = (torch.ones(4, requires_grad=True) for _ in range(2))
    losses = [shared.sum() + (rank + 1) * own.sum(), shared.square().sum()]
    pcgrad.backward(losses, [shared], own_parameters=[own], **arguments)  # type: ignore[arg-type]
    assert own.grad is not None
    return own.grad


def broken(rank: int, **arguments: object) -> None:
    """Run the recorder where the gradient of one rank's own leaf is infinite."""
    trunk, own = nn.Linear(5, 3), torch.ones(3, requires_grad=True)
    recorder = pcgrad.LinearRecorder(trunk, tasks=2)
    with recorder:
        z = trunk(torch.ones(2, 4, 5))
    losses = [z[0].square().mean() + (own * (torch.inf if rank else 1)).sum(), z[1].mean()]
    recorder.backward(losses, own_parameters=[own], check_finite=True, **arguments)  # type: ignore[arg-type]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    half, world = slice(4 * rank, 4 * rank + 4), dist.group.WORLD
    results = {
        "averaged": step(half, rank, group=world),
        "per tensor": step(half, rank, group=world, granularity="per_tensor"),
        "dropped": step(half, rank, group=world, drop=rank == 1),
        "many": step(half, rank, group=world, many=True),
        "many, per tensor": step(half, rank, group=world, many=True, granularity="per_tensor"),
        "local": step(half, rank, group=False),
    }
    for name, kinds in TABLES.items():
        results[name] = {"table": table(kinds[rank], rank, name, group=world)}
    results["expanded"] = {"own": expanded(rank, group=world)}
    blocks = [torch.full((2, 3), float(rank))]
    results["gramian"] = {"found": pcgrad.gramian(blocks, group=world), "block": blocks[0]}
    messages = []
    attempts = [
        lambda: step(half, 0),
        lambda: pcgrad.gramian(blocks),
        lambda: step(half, 0, group=world, own_parameters=[] if rank else None),
        lambda: broken(rank, group=world),
    ]
    for attempt in attempts:
        try:
            attempt()
            messages.append("")
        except (RuntimeError, FloatingPointError) as error:
            messages.append(str(error))
    torch.save({"results": results, "messages": messages}, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        torch.allclose(a[key], b[key], rtol=1e-10, atol=1e-14) for key in a
    )


@pytest.mark.parametrize("case", ["averaged", "per tensor", "many", "many, per tensor"])
def test_ranks_equal_one_process_on_the_joined_batch(ranks: list[dict], case: str) -> None:
    arguments = {"granularity": "per_tensor"} if "per tensor" in case else {}
    many = "many" in case
    expected = step(slice(0, 8), 0, many=many, **arguments)  # with rank 0's seed
    assert len(expected) == 2 + 2 + 300 * many + 2 * T
    for rank in ranks:
        assert close(rank["results"][case], expected)


def test_local_surgery_is_something_else(ranks: list[dict]) -> None:
    for k, rank in enumerate(ranks):
        local = rank["results"]["local"]
        assert close(local, step(slice(4 * k, 4 * k + 4), k))
        assert not close(local, rank["results"]["averaged"])
    averaged = {
        key: (ranks[0]["results"]["local"][key] + ranks[1]["results"]["local"][key]) / 2
        for key in "01"
    }
    assert not any(
        torch.allclose(averaged[key], ranks[0]["results"]["averaged"][key], rtol=1e-3)
        for key in "01"
    )


def test_a_task_that_one_rank_does_not_reach_counts_as_zero_there(ranks: list[dict]) -> None:
    a, b = (rank["results"]["dropped"] for rank in ranks)
    assert close(a, b)
    assert not torch.allclose(a["gramian"], ranks[0]["results"]["averaged"]["gramian"], rtol=1e-3)


@pytest.mark.parametrize("case", TABLES)
def test_ranks_may_differ_in_the_layout_of_a_gradient(ranks: list[dict], case: str) -> None:
    """Bug: a rank that does not reach a sparse table waits for ever in a dense sum."""
    local = [table(kind, rank, group=False).to_dense() for rank, kind in enumerate(TABLES[case])]
    for rank in ranks:
        found = rank["results"][case]["table"]
        assert found.is_sparse == (case == "sparse on both")
        torch.testing.assert_close(found.to_dense(), sum(local) / 2)


def test_an_expanded_gradient_is_averaged(ranks: list[dict]) -> None:
    """Bug: the average is written into the one number that autograd expands."""
    for rank in ranks:
        assert rank["results"]["expanded"]["own"].tolist() == [1.5] * 4


def test_gramian_averages_in_place(ranks: list[dict]) -> None:
    for rank in ranks:
        assert torch.equal(rank["results"]["gramian"]["block"], torch.full((2, 3), 0.5))
        assert torch.equal(
            rank["results"]["gramian"]["found"], torch.full((2, 2), 0.75, dtype=torch.float64)
        )


def test_guessing_is_refused(ranks: list[dict]) -> None:
    for rank in ranks:
        no_group, no_group_either, different, _ = rank["messages"]
        assert "a process group of 2 ranks is initialised" in no_group
        assert no_group == no_group_either
        assert "ranks differ in (tasks, shared parameters, own parameters, elements)" in different


def test_check_finite_of_the_recorder_sees_own_leaves_of_all_ranks(ranks: list[dict]) -> None:
    """Bug: under a group the recorder looked at shared parameters alone."""
    assert all("own parameter [3]" in rank["messages"][3] for rank in ranks)


def test_one_process_needs_no_group() -> None:
    assert close(step(slice(0, 8), 1), step(slice(0, 8), 1, group=False))
