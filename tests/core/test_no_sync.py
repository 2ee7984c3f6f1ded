"""Without check_finite nothing waits for the device.

The tests use the meta device, which has no values to read.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pcgrad

T = 3
READS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
}


class WaitsError(RuntimeError):
    """An operation that makes the host wait for the device."""


class NoSync(TorchDispatchMode):
    """Refuse everything that would wait on a GPU.

    That is reading a value, and any blocking copy between host and device.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, tensors = (
            func._schema.name,
            [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)],
        )
        on_device = any(tensor.is_meta for tensor in tensors)
        arrays = [tensor for tensor in tensors if not tensor.is_meta and tensor.dim() > 0]
        if name in READS and on_device:
            raise WaitsError(name)
        if name == "aten::_to_copy":
            target = torch.device(kwargs.get("device") or tensors[0].device)
            if target.type != tensors[0].device.type and (
                on_device or not kwargs.get("non_blocking")
            ):
                raise WaitsError(f"{name} from {tensors[0].device} to {target}")
        elif on_device and arrays and not (name == "aten::copy_" and args[2:] == (True,)):
            raise WaitsError(f"{name} with an array of the host")
        return func(*args, **kwargs)


def step(**arguments: Any) -> None:
    """Two backward passes, so that .grad is new once and old once; one listed parameter is reached
    by no loss.
    """
    with torch.device("meta"):
        trunk = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2000)
        )
        heads, unused = (
            nn.ModuleList(nn.Linear(2000, 5) for _ in range(T)),
            nn.Parameter(torch.zeros(3)),
        )
        x, y = torch.zeros(7, 1, 8, 8), torch.zeros(7, dtype=torch.int64)
    for _ in range(2):
        losses = [nn.functional.cross_entropy(head(trunk(x)), y) for head in heads]
        with NoSync():
            result = pcgrad.backward(losses, [*trunk.parameters(), unused], **arguments)
    assert result.weights.is_meta
    assert all(
        p.grad is not None and p.grad.is_meta for p in [*trunk.parameters(), *heads.parameters()]
    )
    assert unused.grad is None


@pytest.mark.parametrize("granularity", ["global", "per_tensor"])
@pytest.mark.parametrize("orders", ["random", "shared", "fixed"])
def test_backward_waits_for_nothing(granularity: str, orders: str) -> None:
    step(granularity=granularity, orders=orders)


def test_checking_waits() -> None:
    with pytest.raises(WaitsError):
        step(check_finite=True)


EDITS = {
    "item": lambda products: products.sum().item(),
    "bool": lambda products: bool(products.isfinite().all()),
    "tolist": lambda products: products.tolist(),
    "mask": lambda products: products[products < 0],
    "equal": lambda products: torch.equal(products, products.mT),
    "to the host": lambda products: products.cpu(),
    "blocking copy to the device": lambda products: torch.zeros(T).to(products.device),
    "host array copied in": lambda products: products.diagonal().copy_(torch.zeros(T)),
    "index of the host": lambda products: products[torch.tensor([0, 1])],
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_waits_is_caught(edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard itself: one such line between Gramian and surgery."""
    surgery = pcgrad.surgery

    def waiting(products: Tensor, *arguments: Any, **named: Any) -> pcgrad.Surgery:
        EDITS[edit](products)
        return surgery(products, *arguments, **named)

    monkeypatch.setattr(sys.modules["pcgrad._method"], "surgery", waiting)
    with pytest.raises((WaitsError, NotImplementedError, RuntimeError)):
        step()
