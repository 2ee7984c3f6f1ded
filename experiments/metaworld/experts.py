"""Checks whether the environments can be solved: Meta-World's scripted policy plays every task.

    python -m experiments.metaworld.experts quick \\
        results/quick/metaworld/experts.json MT10 soccer-v3

Each task and reward version has one episode at the task's fixed positions. The output holds the
step at which the policy succeeds, and the mean reward per step of the policy, of random actions and
of standing still.
"""

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from multitask.rl.envs import (
    MT10,
    MT50,
    REDRAWN,
    REWARD_VERSIONS,
    SUCCESS_OF_V2,
    TASK_SETS,
    MetaWorld,
    check_names,
)
from multitask.runs.errors import UserError
from multitask.runs.provenance import commit, machine, versions
from multitask.runs.seeding import numpy_generator
from system import command
from system.writing import probe, write_json

HORIZON, LONG = 150, 500  # steps of an episode in the paper and in Meta-World
MOST_DRAWS = 20  # draws of a task's positions before the task counts as unsolvable

Policy = Callable[[np.ndarray], np.ndarray]


def environment(task: str, version: str, draw: int | None = None) -> MetaWorld:
    """A task at its fixed positions, or at those of another draw."""
    return MetaWorld(
        task, seed=0, horizon=LONG, reward_function_version=version, goals="fixed", draw=draw
    )


def scripted(task: str) -> Policy:
    """Meta-World's scripted policy of a task: observation -> action in [-1, 1]^4."""
    with warnings.catch_warnings():
        # The policy warns that constants may be too high; its actions are clipped below.
        warnings.simplefilter("ignore")
        # Any: the map is typed with the abstract class, which cannot be called.
        make: Any = ENV_POLICY_MAP[task]
        policy = make()

    def act(observation: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.clip(policy.get_action(observation), -1.0, 1.0)

    return act


def play(env: MetaWorld, act: Policy, *, longest: int = HORIZON) -> tuple[int, float]:
    """Play one episode.

    Without a success within HORIZON steps the episode goes on to `longest` steps.

    Returns:
        The step of the first success (0 for none) and the mean reward over HORIZON steps.
    """
    observation, success, rewards = env.reset(), 0, []
    for number in range(1, longest + 1):
        step = env.step(act(observation))
        observation = step.observation
        if number <= HORIZON:
            rewards.append(step.reward)
        if step.success and not success:
            success = number
        if success and number >= HORIZON:
            break
    return success, float(np.mean(rewards))


def random_actions(task: str) -> Policy:
    """A policy with uniform actions in [-1, 1]^4; each task has its own random stream."""
    draw = numpy_generator(0, f"random actions/{task}")
    return lambda _: draw.uniform(-1.0, 1.0, 4)


def solved(task: str, draw: int) -> bool:
    """Whether the scripted policy succeeds within HORIZON steps under both reward versions."""
    firsts = (play(environment(task, v, draw), scripted(task))[0] for v in REWARD_VERSIONS)
    return all(0 < first <= HORIZON for first in firsts)


def first_solved(task: str) -> int | None:
    """The first draw that is `solved`, which defines `REDRAWN`; None if MOST_DRAWS are not."""
    return next((draw for draw in range(MOST_DRAWS) if solved(task, draw)), None)


def look(task: str) -> dict[str, Any]:
    """Play one task with the three policies and return its line of the table."""
    line: dict[str, Any] = {"task": task, "mt10": task in MT10, "draw": REDRAWN.get(task, 0)}
    line["success_of_v2"] = task in SUCCESS_OF_V2
    for version in REWARD_VERSIONS:
        env = environment(task, version)
        success, reward = play(env, scripted(task), longest=LONG)
        line[f"success_step_{version}"] = success
        line[f"expert_reward_{version}"] = reward
        line[f"random_reward_{version}"] = play(env, random_actions(task))[1]
        line[f"still_reward_{version}"] = play(env, lambda _: np.zeros(4))[1]
    return line


def write(scale: str, path: Path, tasks: Sequence[str]) -> None:
    """Play the tasks and write the results.

    Raises:
        UserError: The policy fails at the fixed positions of a task but not at those of
            `first_solved`.
    """
    core, lines = time.process_time(), []
    for task in tasks:
        lines.append(look(task))
        print(lines[-1], flush=True)
        firsts = [lines[-1][f"success_step_{version}"] for version in REWARD_VERSIONS]
        if not all(0 < first <= HORIZON for first in firsts) and first_solved(task) is not None:
            raise UserError(
                f"{task}: the scripted policy fails at the fixed positions, "
                f"draw {lines[-1]['draw']}, "
                f"and succeeds at draw {first_solved(task)}; set it in REDRAWN of multitask.rl.envs"
            )
    write_json(
        path,
        {
            "scale": scale,
            "horizon": HORIZON,
            "long_horizon": LONG,
            "tasks": lines,
            "core_seconds": round(time.process_time() - core, 1),
            "versions": versions(),
            "machine": machine(),
            "commit": commit(),
        },
    )


def main() -> None:
    """Run the command."""
    if len(sys.argv) < 4:
        raise UserError("give a scale, a file, and task sets (MT10) or tasks")
    # A folder that cannot be written is reported before minutes of work.
    probe(Path(sys.argv[2]).parent)
    tasks = {task for name in sys.argv[3:] for task in TASK_SETS.get(name, (name,))}
    check_names(sorted(tasks), "v1", "fixed")
    write(sys.argv[1], Path(sys.argv[2]), [task for task in MT50 if task in tasks])


if __name__ == "__main__":
    command.leave(main)
