"""Products in full float32 or float64, independent of the caller's autocast and TF32 settings.

The sign of a dot product decides about a conflict, so products do not inherit a training step's
reduced precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of products: float64 for float64, float32 for all other dtypes."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_full(device: torch.device) -> bool:
    """Return whether autocast and reduced-precision float32 products (TF32, bfloat16) are off."""
    return not (_reduced(device) or _autocast(device))


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context that turns autocast and reduced-precision float32 products off."""
    # The float32 setting is process-wide, so it is written only if it has to change.
    if not _reduced(device):
        return torch.autocast(device.type, enabled=False) if _autocast(device) else nullcontext()
    return _switched(device)


def _matmul(device: torch.device) -> Any:
    return (torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn).matmul


def _reduced(device: torch.device) -> bool:
    # "none" means that nobody has set it, which is full precision here.
    return _matmul(device).fp32_precision not in ("ieee", "none")


def _autocast(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


@contextmanager
def _switched(device: torch.device) -> Iterator[None]:
    matmul = _matmul(device)
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False) if _autocast(device) else nullcontext():
            yield
    finally:
        matmul.fp32_precision = before
