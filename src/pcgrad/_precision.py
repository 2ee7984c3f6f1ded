"""Products in full float32 or float64: the sign of a dot product decides about a conflict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

FULL = ("ieee", "none")
"""Settings of float32 products in full precision; "none" means that nobody has set it."""


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of products: float64 for float64, float32 for all other dtypes."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_full(device: torch.device) -> bool:
    """Return whether autocast and reduced-precision float32 products (TF32, bfloat16) are off."""
    return _matmul(device).fp32_precision in FULL and not _autocast(device)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Turn autocast and reduced-precision float32 products off."""
    matmul = _matmul(device)
    before = matmul.fp32_precision
    # The setting is process-wide, so it is written only if it has to change.
    if before not in FULL:
        matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False) if _autocast(device) else nullcontext():
            yield
    finally:
        if before not in FULL:
            matmul.fp32_precision = before


def _matmul(device: torch.device) -> Any:
    return (torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn).matmul


def _autocast(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
