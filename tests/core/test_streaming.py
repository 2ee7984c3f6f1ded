"""Streaming: live bytes compared with the plain step's, and data parallelism layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import pcgrad
from tests.core.test_linear import agree, data, mlp
from tests.core.test_memory import Peak

T, ROWS, WIDTH, LAYERS = 8, 32, 64, 12
LAYER = 4 * T * WIDTH * WIDTH
"""Bytes of one layer's task gradients."""
DELTAS = 4 * T * ROWS * WIDTH * LAYERS


def peak(streaming: bool | None) -> int:
    """Return the live bytes of a second step; `None` means the plain step.

    Memory that the recorder keeps between steps is counted.
    """
    model, x = mlp(WIDTH, LAYERS), data(T, ROWS, 4).float()
    recorder = pcgrad.LinearRecorder(model, T, check=False)
    with Peak() as mode:
        for _ in range(2):
            model.zero_grad()
            with recorder:
                losses = model(x).square().mean((1, 2))
            if streaming is None:
                losses.sum().backward()
            else:
                recorder.backward(losses, orders="fixed", streaming=streaming)
            del losses
    return mode.peak


def test_streaming_holds_one_layer_and_the_deltas() -> None:
    plain, streamed = peak(None), peak(True)
    small = 4 * 2 * T * WIDTH * LAYERS  # biases, and the last layer
    assert streamed - plain >= LAYER
    assert streamed - plain <= 1.1 * (LAYER + DELTAS + small)


def test_all_gradients_are_held_once_without_it() -> None:
    """And no deltas: each is forgotten when its layer's gradients are formed."""
    plain, held = peak(None), peak(False)
    whole = (LAYERS - 1) * LAYER
    assert 0.9 * whole <= held - plain <= whole + DELTAS / 2


def test_the_update_needs_no_gradients_of_tasks() -> None:
    """Σᵢ (wᵢ δᵢ)ᵀ xᵢ from a call's rows equals the weighted sum of its task gradients."""
    model, x = mlp(layers=1).double(), data(5, 7, 4)
    recorder = pcgrad.LinearRecorder(model, 5, check=False)
    with recorder:
        losses = model(x).square().mean((1, 2))
    taps = list(recorder._taps)
    stacks, _ = recorder.task_gradients(losses, retain_graph=True)
    recorder.backward(losses, streaming=True, retain_graph=True)
    w = torch.tensor([0.5, -1.0, 2.0, 0.0, 3.0], dtype=torch.float64)
    for tap, stack in zip(taps, stacks[::2], strict=True):
        assert torch.allclose(
            tap.update(w), torch.einsum("t,toi->oi", w, stack), rtol=1e-12, atol=1e-15
        )


def step(
    rows: slice, seed: int, group: object, streaming: bool, drop: bool = False
) -> list[Tensor]:
    """Gradients of a step on some rows of every task; `drop` leaves a layer out on this rank."""
    model, heads = mlp(layers=2).double(), [nn.Linear(3, 1, dtype=torch.float64) for _ in range(4)]
    x, y = data(4, 8, 4)[:, rows], data(4, 8, 1)[:, rows]
    for k, head in enumerate(heads):
        head.load_state_dict({"weight": data(1, 3, seed=k), "bias": data(1, seed=k)})
    recorder = pcgrad.LinearRecorder(model, 4)
    for _ in range(2):  # with the check of rows and without
        for module in (model, *heads):
            module.zero_grad()
        with recorder:
            h = model[:-1](x)
            features = h[..., :3] if drop else model[-1](h)
        losses = [
            (head(f) - target).square().mean()
            for head, f, target in zip(heads, features, y, strict=True)
        ]
        generator = torch.Generator().manual_seed(seed)
        recorder.backward(losses, generator=generator, group=group, streaming=streaming)
    everything = [*model.parameters(), *(p for head in heads for p in head.parameters())]
    return [p.grad for p in everything if p.grad is not None]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    half, world = slice(4 * rank, 4 * rank + 4), dist.group.WORLD
    found = {f"{streaming}": step(half, rank, world, streaming) for streaming in (False, True)}
    found["dropped"] = step(half, rank, world, True, drop=rank == 1)
    found["dropped, held"] = step(half, rank, world, False, drop=rank == 1)
    found["local"] = step(half, rank, False, True)
    with pytest.raises(RuntimeError, match="pass a group"):
        step(half, rank, None, True)
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_ranks_equal_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    """With other seeds, and where a layer is called on one rank alone."""
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    expected = step(slice(0, 8), 0, None, False)
    for name in ("False", "True"):
        agree(first[name], expected, 1e-12)
        agree(second[name], expected, 1e-12)
    for a, b, c in zip(first["dropped"], second["dropped"], first["dropped, held"], strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
        assert torch.allclose(a, c, rtol=1e-12)
    assert len(first["dropped"]) == len(expected)
    assert not torch.allclose(first["local"][0], expected[0], rtol=1e-3)
