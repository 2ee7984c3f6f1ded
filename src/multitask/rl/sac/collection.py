"""Plays whole episodes of all tasks in lockstep."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from multitask.rl.fleet import Fleet
from multitask.rl.replay import Batch
from multitask.runs.errors import UserError


def collect(
    fleet: Fleet,
    policy: Callable[[Tensor], Tensor],
    episodes: int,
    store: Callable[[Batch], None] | None,
    when: str = "collection",
) -> dict[str, Tensor]:
    """Plays whole episodes in all tasks, in lockstep, and stores every transition.

    Args:
        fleet: The environments of the T tasks.
        policy: Observations `[T, O]` -> actions `[T, A]`.
        episodes: Episodes per task.
        store: Receives one episode at a time, `[T, horizon, ...]`; None stores nothing.
        when: Where in the run this happens, for error messages.

    Returns:
        Per task `[T, episodes]`: `return` (undiscounted, raw), `success` (at any step),
        `success_last` and `distance` (from object to goal, m; nan where a task has none) at the
        last step.

    Raises:
        UserError: An observation, reward or success is not finite. The message names task, `when`
            and step; nothing of that episode is stored.
    """
    metrics = ("return", "success", "success_last", "distance")
    found: dict[str, list[np.ndarray]] = {metric: [] for metric in metrics}
    for episode in range(1, episodes + 1):
        observation = fleet.reset()
        refuse_not_finite(fleet, f"{when}, episode {episode}, step 0")
        rows: list[list[np.ndarray]] = []
        # Kept as arrays over tasks, because all tasks step at once.
        total, ever = np.zeros(len(observation)), np.zeros(len(observation), dtype=bool)
        running = True
        while running:
            action = policy(torch.from_numpy(observation)).cpu().numpy()
            step = fleet.step(action)
            refuse_not_finite(fleet, f"{when}, episode {episode}, step {len(rows) + 1}")
            # At a time limit this is the final observation: the reset follows in the next episode.
            rows.append([observation, action, step.reward, step.observation, step.terminated])
            total, ever = total + step.reward, ever | step.success
            observation = step.observation
            ended = step.terminated | step.truncated
            running = not ended.any()
        # Lockstep needs that all episodes end at the same step.
        if not ended.all():
            raise RuntimeError(
                "the tasks' episodes ended at different steps; lockstep needs one horizon for all"
            )
        # One episode of all tasks [T, horizon, ...]: the rows so far are step by step.
        if store is not None:
            columns = (
                np.stack(part, axis=1).astype(np.float64) for part in zip(*rows, strict=True)
            )
            store(Batch(*(torch.from_numpy(column) for column in columns)))
        for metric, values in zip(found, (total, ever, step.success, step.distance), strict=True):
            found[metric].append(values.astype(float))
    return {metric: torch.from_numpy(np.stack(values, axis=1)) for metric, values in found.items()}


def refuse_not_finite(fleet: Fleet, when: str) -> None:
    """Raises a UserError if the last reset or step returned nan or inf."""
    broken = fleet.not_finite()
    if broken:
        raise UserError(
            f"the simulator returned a value that is not finite: {', '.join(broken)} at {when}; "
            "it was not stored, the last checkpoint is intact, the same command resumes from it"
        )
