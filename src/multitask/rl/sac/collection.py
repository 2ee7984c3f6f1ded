"""Episodes of all tasks, in lockstep."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from multitask.rl.fleet import Fleet
from multitask.rl.replay import Batch


def collect(
    fleet: Fleet,
    policy: Callable[[Tensor], Tensor],
    episodes: int,
    store: Callable[[Batch], None] | None,
) -> dict[str, Tensor]:
    """Play whole episodes in all tasks, in lockstep, and store every transition (where there is
    somewhere to store it).

    `policy`: observations `[T, O]` -> actions `[T, A]`; `store` gets an episode at a time, `[T,
    horizon, ...]`. Returns per task `[T, episodes]`: `return` (undiscounted, raw), `success` (at
    any step), `success_last` and `distance` (from object to goal, m; nan where a task has none) at
    the last step.
    """
    found: dict[str, list[np.ndarray]] = {
        "return": [],
        "success": [],
        "success_last": [],
        "distance": [],
    }
    for _ in range(episodes):
        observation = fleet.reset()
        rows: list[list[np.ndarray]] = []
        total, ever = np.zeros(len(observation)), np.zeros(len(observation), dtype=bool)
        running = True
        while running:
            action = policy(torch.from_numpy(observation)).cpu().numpy()
            step = fleet.step(action)
            # The observation of a step is the final one at a time limit: the reset comes later, in
            # the next episode.
            rows.append([observation, action, step.reward, step.observation, step.terminated])
            total, ever = total + step.reward, ever | step.success
            observation = step.observation
            ended = step.terminated | step.truncated
            running = not ended.any()
        if not ended.all():
            raise RuntimeError(
                "the tasks' episodes ended at different steps; lockstep needs one horizon for all"
            )
        if store is not None:
            columns = (
                np.stack(part, axis=1).astype(np.float64) for part in zip(*rows, strict=True)
            )
            store(Batch(*(torch.from_numpy(column) for column in columns)))
        for metric, values in zip(found, (total, ever, step.success, step.distance), strict=True):
            found[metric].append(values.astype(float))
    return {metric: torch.from_numpy(np.stack(values, axis=1)) for metric, values in found.items()}
