"""The precision of a network's forward and backward passes.

With "bfloat16", torch's autocast runs convolutions and matrix products in bfloat16. Weights and
their optimizer, losses, task gradients, Gramians and metrics stay in float32. A device without
bfloat16 units runs in float32; the training command reports it and run.json records what ran.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from multitask.runs.devices import has_bfloat16_units

PRECISIONS = ("float32", "bfloat16")


def computing(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Returns the context of a forward pass: autocast to bfloat16, or nothing."""
    # Emulated bfloat16 would be slower than float32 and less exact.
    if precision == "bfloat16" and has_bfloat16_units(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def full(x: Tensor) -> Tensor:
    """Prepares a network's output for its loss: bfloat16 becomes float32.

    Longer types stay as they are.
    """
    return x.float() if x.dtype == torch.bfloat16 else x
