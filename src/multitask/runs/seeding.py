"""Named, independent random streams from one seed, one for each consumer of randomness.

A stream depends only on the seed and its name. Two methods under one seed therefore see the same
data order, initialization and environments, however many numbers other streams draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

# Imported where it is used: the worker processes of environments need no torch.
if TYPE_CHECKING:
    import torch


def child_seed(seed: int, name: str) -> int:
    """Returns the seed of the stream `name`: the first 63 bits of sha256("seed/name")."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    # 63 bits: torch and NumPy both accept such a seed.
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """Returns a CPU generator for the stream `name`, such as "data", "batch" or "dropout"."""
    import torch

    return torch.Generator().manual_seed(child_seed(seed, name))


def numpy_generator(seed: int, name: str) -> np.random.Generator:
    """Returns a NumPy generator for the stream `name`."""
    return np.random.default_rng(child_seed(seed, name))


@contextmanager
def initialization(seed: int, name: str = "initialization") -> Iterator[None]:
    """Runs module constructors on the stream `name` of torch's global generator.

    Constructors draw from the global generator; its state is restored afterwards.
    """
    import torch

    # Initial values are drawn on the CPU, so no device's generator needs saving.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(seed, name))
        yield
