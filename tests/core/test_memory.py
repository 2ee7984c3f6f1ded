"""The price in memory: the stacks [T, P], and no second copy of them.

Live bytes are counted, not sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pcgrad

T, WIDTH, LAYERS, ROWS = 4, 120, 10, 16


class Peak(TorchDispatchMode):
    """The most bytes alive at once among those that operations under this mode allocated."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.before: set[int] = set()
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = [
            leaf.untyped_storage()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        ]
        self.before.update(s._cdata for s in given if s._cdata not in self.alive)
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if (
                isinstance(leaf, Tensor)
                and (key := leaf.untyped_storage()._cdata) not in self.before
            ):
                self.alive[key] = (
                    StorageWeakRef(leaf.untyped_storage()),
                    leaf.untyped_storage().nbytes(),
                )
        self.alive = {key: value for key, value in self.alive.items() if not value[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out

    def now(self, known: Sequence[Tensor]) -> int:
        """Bytes that are still alive beside those of the known tensors."""
        ours = {tensor.untyped_storage()._cdata for tensor in known}
        return sum(
            size
            for key, (storage, size) in self.alive.items()
            if key not in ours and not storage.expired()
        )


def model() -> tuple[nn.Module, nn.ModuleList, Tensor]:
    """Many layers of one size: what two blocks may take is far less than one task's gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = nn.Sequential(
            *(m for _ in range(LAYERS) for m in (nn.Linear(WIDTH, WIDTH), nn.Tanh()))
        )
        return trunk, nn.ModuleList(nn.Linear(WIDTH, 4) for _ in range(T)), torch.randn(ROWS, WIDTH)


def peak_of(step: Any, *, old_grads: bool) -> tuple[int, nn.Module]:
    trunk, heads, x = model()
    if old_grads:
        for p in [*trunk.parameters(), *heads.parameters()]:
            p.grad = torch.ones_like(p)
    with Peak() as mode:
        features = trunk(x)
        step([head(features).square().mean() for head in heads], trunk)
        del features
    return mode.peak, trunk


def surgery_step(losses: list[Tensor], trunk: nn.Module) -> None:
    pcgrad.backward(losses, trunk.parameters(), orders="fixed")


@pytest.mark.parametrize("old_grads", [False, True])
def test_peak_beyond_the_plain_step_is_one_copy_of_the_task_gradients(old_grads: bool) -> None:
    """And the two largest parameters; also where .grad is there already, to which a plain pass adds
    one by one.
    """
    plain, trunk = peak_of(
        lambda losses, _: torch.stack(losses).sum().backward(), old_grads=old_grads
    )
    ours, _ = peak_of(surgery_step, old_grads=old_grads)
    sizes = sorted(4 * p.numel() for p in trunk.parameters())
    stacks, beside = T * sum(sizes), sizes[-1] + sizes[-2]
    assert plain >= 4 * ROWS * WIDTH * LAYERS  # the counter sees the activations
    assert ours - plain >= 0.8 * stacks  # and the stacks
    assert ours - plain <= 1.05 * (stacks + beside)


def test_a_second_copy_would_show() -> None:
    def copying(losses: list[Tensor], trunk: nn.Module) -> None:
        stacks = pcgrad.task_gradients(losses, trunk.parameters())
        whole = torch.cat([stack.flatten(1) for stack in stacks], 1)
        pcgrad.apply_weights([torch.zeros(whole.shape[1])], [whole], torch.ones(T))

    plain, trunk = peak_of(lambda losses, _: torch.stack(losses).sum().backward(), old_grads=False)
    ours, _ = peak_of(copying, old_grads=False)
    sizes = sorted(4 * p.numel() for p in trunk.parameters())
    assert ours - plain > 1.05 * (T * sum(sizes) + sizes[-1] + sizes[-2])


def test_half_precision_is_upcast_parameter_by_parameter() -> None:
    """Products of half precision run in float32: one stack at a time is twice as long, not all."""
    stacks = [torch.ones(T, 1000, dtype=torch.bfloat16) for _ in range(9)]
    parameters = [torch.zeros(1000, dtype=torch.bfloat16) for _ in stacks]
    with Peak() as mode:
        weights = pcgrad.surgery(pcgrad.gramian(stacks), pcgrad.fixed_orders(T)).weights
        pcgrad.apply_weights(parameters, stacks, weights)
    largest, grads = 4 * T * 1000, 2 * 9 * 1000
    assert largest <= mode.peak <= 1.3 * (largest + grads)
