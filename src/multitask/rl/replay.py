"""Replay buffers of all tasks in one preallocated tensor.

A batch that is balanced over tasks is then a single gather.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions of all tasks, with leading dimensions `[T, B]`.

    Attributes:
        observation: `[T, B, O]`.
        action: `[T, B, A]`.
        reward: `[T, B]`.
        next_observation: `[T, B, O]`; at a time limit the final observation, never the one after
            the reset.
        terminated: `[T, B]`, 1 where the episode ended for good, 0 at a time limit.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor

    def to(self, dtype: torch.dtype) -> "Batch":
        """Returns the same batch in another dtype."""
        return Batch(*(part.to(dtype) for part in self))


class Replay:
    """A ring of the newest `capacity` transitions of every task; the tasks advance together.

    A transition of Meta-World has 84 numbers, 336 bytes in float32.
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
        """Returns the number of transitions held per task."""
        return min(self.added, self.storage.shape[1])

    def add(self, batch: Batch) -> None:
        """Appends n new transitions per task, `[T, n, ...]`.

        Once the ring is full they replace the oldest ones.
        """
        # One row per transition, so that a batch is gathered at once.
        packed = torch.cat(
            [part.unsqueeze(-1) if part.dim() == 2 else part for part in batch], dim=-1
        )
        # Positions wrap around: the oldest transitions are overwritten first.
        slots = torch.arange(self.added, self.added + packed.shape[1]) % self.storage.shape[1]
        self.storage[:, slots.to(self.storage.device)] = packed.to(self.storage)
        self.added += packed.shape[1]

    def draw_indices(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Draws uniform positions `[updates, T, size]` with replacement, task by task."""
        # Drawn on the CPU, so that every device sees the same batches.
        return torch.randint(len(self), (updates, self.storage.shape[0], size), generator=generator)

    def gather(self, indices: Tensor) -> Batch:
        """Returns the transitions at positions `[T, B]`."""
        o, a, r, n, t = self.storage[self._rows, indices].split(self.widths, dim=-1)
        return Batch(o, a, r.squeeze(-1), n, t.squeeze(-1))

    def reward_deviation(self) -> Tensor:
        """Returns the standard deviation of the rewards in every task's buffer, `[T]`.

        A deviation of zero counts as 1, so that rewards can be divided by it.
        """
        column = self.widths[0] + self.widths[1]
        deviation = self.storage[:, : len(self), column].std(1, correction=0)
        return torch.where(deviation > 0, deviation, 1.0)

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps: the filled part."""
        # A copy: the ring goes on changing before a checkpoint is compared or written.
        return {"added": self.added, "storage": self.storage[:, : len(self)].clone()}

    def load(self, state: dict[str, Any]) -> None:
        """Restores `state()` of a buffer of the same shape."""
        self.added = state["added"]
        self.storage[:, : len(self)] = state["storage"]
