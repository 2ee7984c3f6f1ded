"""Time Meta-World's environments alone: making, stepping and lockstep; without importing torch.

    python -m benchmarks.environments --out results/benchmarks

- *making*: seconds to make a fleet that can be reset, including the start and the imports of its
  processes.
- *steps*: environment steps per second of all tasks together, over whole episodes with resets.
- *lockstep*: microseconds per step of all tasks if the environments do nothing.

The values are medians. The numbers of workers take turns, so that a drift of the machine affects
all alike. Writes `environments.csv`.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import write_csv
from multitask.rl.envs import MT10, MT50, MetaWorld, Step
from multitask.rl.fleet import Fleet
from system import command

SETS = {"MT10": MT10, "MT50": MT50}
WORKERS = (0, 1, 2)
EPISODE = 150
LOCKSTEPS = 2000


class Idle:
    """An environment with Meta-World's sizes that does nothing."""

    horizon, observation_size, action_size = EPISODE, 39, 4
    code: np.ndarray | None = None

    def __init__(self, name: str) -> None:
        self.name, self.observation = name, np.zeros(39)

    def reset(self) -> np.ndarray:
        """Return the constant observation."""
        return self.observation

    def step(self, action: np.ndarray) -> Step:
        """Return a step without reward or end."""
        return Step(self.observation, 0.0, False, False, False, 0.0)

    def state(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Ignore the state."""


def seconds_of(fleet: Fleet, steps: int) -> float:
    """Return the seconds of one reset and a number of steps under random actions."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, len(fleet.names), fleet.action_size))
    start = time.perf_counter()
    fleet.reset()
    for action in actions:
        fleet.step(action)
    return time.perf_counter() - start


def once(tasks: Sequence[str], workers: int) -> dict[str, float]:
    """Run one repeat and return seconds of making, steps per second and lockstep microseconds."""
    make = partial(MetaWorld, seed=0, horizon=EPISODE, reward_function_version="v1", goals="fixed")
    start = time.perf_counter()
    with Fleet([partial(make, task) for task in tasks], workers) as fleet:
        making = time.perf_counter() - start
        seconds_of(fleet, EPISODE)  # warm-up
        speed = EPISODE * len(tasks) / seconds_of(fleet, EPISODE)
    # Environments that do nothing leave the time of the communication alone.
    with Fleet([partial(Idle, task) for task in tasks], workers) as fleet:
        seconds_of(fleet, LOCKSTEPS)
        lockstep = seconds_of(fleet, LOCKSTEPS) / LOCKSTEPS
    return {
        "making_seconds": making,
        "steps_per_second": speed,
        "lockstep_microseconds": 1e6 * lockstep,
    }


def measure(repeats: int) -> pd.DataFrame:
    """Return medians per set of tasks and number of workers."""
    rows = [
        {"tasks": name, "workers": workers, **once(tasks, workers)}
        for name, tasks in SETS.items()
        for _ in range(repeats)
        for workers in WORKERS
    ]
    return pd.DataFrame(rows).groupby(["tasks", "workers"], sort=False).median().reset_index()


def main() -> None:
    """Run the benchmark, write its table and print it."""
    words = (__doc__ or "").partition("\n")[0]
    parser = command.Parser(prog="python -m benchmarks.environments", description=words)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = measure(args.repeats)
    write_csv(table, args.out / "environments.csv")
    print(table.to_markdown(index=False, floatfmt=".4g"))


if __name__ == "__main__":
    # Imported by name, because workers do not import the main module and would not find `Idle`.
    from benchmarks import environments

    command.leave(environments.main)
