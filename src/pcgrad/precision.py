"""Products in full float32 (or float64), whatever the caller's autocast and TF32 settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of products: float64 for float64, float32 for everything shorter."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Switch autocast and reduced-precision float32 products (TF32, bfloat16) off, then back to what they were."""
    backend: Any = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    reduced = backend.matmul.fp32_precision not in ("ieee", "none")  # "none": never set, which is full precision here
    autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    if not reduced:
        return torch.autocast(device.type, enabled=False) if autocast else nullcontext()
    return _switched(device, backend.matmul, autocast)


@contextmanager
def _switched(device: torch.device, matmul: Any, autocast: bool) -> Iterator[None]:
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False) if autocast else nullcontext():
            yield
    finally:
        matmul.fp32_precision = before
