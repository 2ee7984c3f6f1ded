"""Products in full float32 (or float64), whatever the caller's autocast and TF32 settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of products: float64 for float64, float32 for everything shorter."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast and reduced-precision float32 products (TF32, bfloat16) off, then back to what they were."""
    backend: Any = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    backend = backend.matmul
    before = backend.fp32_precision
    reduced = before not in ("ieee", "none")  # "none": never set, which is full precision for products
    if reduced:
        backend.fp32_precision = "ieee"
    autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    try:
        with torch.autocast(device.type, enabled=False) if autocast else nullcontext():
            yield
    finally:
        if reduced:
            backend.fp32_precision = before
