"""One replay buffer per task, all in one preallocated tensor, so that a balanced batch is a single
gather.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions of all tasks: leading dimensions `[T, B]`."""

    observation: Tensor  # [T, B, O]
    action: Tensor  # [T, B, A]
    reward: Tensor  # [T, B]
    next_observation: (
        Tensor  # [T, B, O]: at a time limit the final observation, never the one after the reset
    )
    terminated: Tensor  # [T, B]: 1 where the episode ended for good, 0 at a time limit

    def to(self, dtype: torch.dtype) -> "Batch":
        """The same batch in another dtype."""
        return Batch(*(part.to(dtype) for part in self))


class Replay:
    """A ring of the newest `capacity` transitions of every task; the tasks advance together.

    A transition of Meta-World is 84 numbers, 336 bytes in float32.
    """

    def __init__(
        self,
        tasks: int,
        capacity: int,
        observation: int,
        action: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.widths = (observation, action, 1, observation, 1)
        self.storage = torch.zeros(tasks, capacity, sum(self.widths), dtype=dtype, device=device)
        self.added = 0
        self._rows = torch.arange(tasks, device=device).unsqueeze(-1)

    def __len__(self) -> int:
        """Transitions held per task."""
        return min(self.added, self.storage.shape[1])

    def add(self, batch: Batch) -> None:
        """Append n new transitions per task (`[T, n, ...]`), in place of the oldest ones once the
        ring is full.
        """
        packed = torch.cat(
            [part.unsqueeze(-1) if part.dim() == 2 else part for part in batch], dim=-1
        )
        slots = torch.arange(self.added, self.added + packed.shape[1]) % self.storage.shape[1]
        self.storage[:, slots.to(self.storage.device)] = packed.to(self.storage)
        self.added += packed.shape[1]

    def draw_indices(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Uniform positions `[updates, T, size]` with replacement, every task its own; drawn on the
        CPU.
        """
        return torch.randint(len(self), (updates, self.storage.shape[0], size), generator=generator)

    def gather(self, indices: Tensor) -> Batch:
        """The transitions at positions `[T, B]`."""
        o, a, r, n, t = self.storage[self._rows, indices].split(self.widths, dim=-1)
        return Batch(o, a, r.squeeze(-1), n, t.squeeze(-1))

    def reward_deviation(self) -> Tensor:
        """Standard deviation of the rewards that every task's buffer holds `[T]`; 1 where it is
        zero.
        """
        column = self.widths[0] + self.widths[1]
        deviation = self.storage[:, : len(self), column].std(1, correction=0)
        return torch.where(deviation > 0, deviation, 1.0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the filled part."""
        return {"added": self.added, "storage": self.storage[:, : len(self)].clone()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state()` of a buffer of the same shape."""
        self.added = state["added"]
        self.storage[:, : len(self)] = state["storage"]
