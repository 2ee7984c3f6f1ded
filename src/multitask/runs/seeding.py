"""One seed, many independent streams: each consumer of randomness gets a named child generator.

A stream depends on the seed and its own name alone, so that two methods under one seed see the same
data order, the same initialization and the same environments whatever else they draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # imported where it is used: worker processes of environments need no torch
    import torch


def child_seed(seed: int, name: str) -> int:
    """The seed of the stream `name`: the first 63 bits of sha256("seed/name")."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator for the stream `name` ("data", "batch", "order", "dropout", "action", ...)."""
    import torch

    return torch.Generator().manual_seed(child_seed(seed, name))


def numpy_generator(seed: int, name: str) -> np.random.Generator:
    """The same for NumPy consumers."""
    return np.random.default_rng(child_seed(seed, name))


@contextmanager
def initialization(seed: int, name: str = "initialization") -> Iterator[None]:
    """Run module constructors, which draw from torch's global generator, on the stream `name`, then
    restore it.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(seed, name))
        yield
