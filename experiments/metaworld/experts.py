"""Can the environments be learned? Meta-World's scripted policy drives every task once.

    python -m experiments.metaworld.experts quick results/quick/metaworld/experts.json MT10 soccer-v3

An episode per task and reward version at the task's fixed positions: whether and when the policy
succeeds, its mean reward a step, and that of random actions and of standing still."""

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
from system.writing import write_json

HORIZON, LONG = 150, 500  # steps: the paper's time and Meta-World's own
MOST_DRAWS = 20  # of the positions of one task, before it counts as unsolvable

Policy = Callable[[np.ndarray], np.ndarray]


def environment(task: str, version: str, draw: int | None = None) -> MetaWorld:
    """A task at its fixed positions, or at those of another draw."""
    return MetaWorld(
        task, seed=0, horizon=LONG, reward_function_version=version, goals="fixed", draw=draw
    )


def scripted(task: str) -> Policy:
    """Meta-World's scripted policy of a task: observation -> action in [-1, 1]^4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Constant(s) may be too high": clipped below
        make: Any = ENV_POLICY_MAP[task]  # typed as the abstract class
        policy = make()

    def act(observation: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.clip(policy.get_action(observation), -1.0, 1.0)

    return act


def play(env: MetaWorld, act: Policy, *, longest: int = HORIZON) -> tuple[int, float]:
    """One episode: the step of the first success (0: none), mean reward over HORIZON steps.

    It goes on to `longest` steps where HORIZON do not succeed."""
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
    """Uniform in [-1, 1]^4, from a stream of the task's own."""
    draw = numpy_generator(0, f"random actions/{task}")
    return lambda _: draw.uniform(-1.0, 1.0, 4)


def solved(task: str, draw: int) -> bool:
    """Whether the scripted policy succeeds within HORIZON steps under both reward versions."""
    firsts = (play(environment(task, v, draw), scripted(task))[0] for v in REWARD_VERSIONS)
    return all(0 < first <= HORIZON for first in firsts)


def first_solved(task: str) -> int | None:
    """The rule behind `REDRAWN`: the first draw that is `solved`; None if MOST_DRAWS are not."""
    return next((draw for draw in range(MOST_DRAWS) if solved(task, draw)), None)


def look(task: str) -> dict[str, Any]:
    """A line of the table: what the three policies reach in one task."""
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
    """Drive the tasks and write what was seen; UserError where the fixed positions are not the
    rule's.
    """
    core, lines = time.process_time(), []
    for task in tasks:
        lines.append(look(task))
        print(lines[-1], flush=True)
        firsts = [lines[-1][f"success_step_{version}"] for version in REWARD_VERSIONS]
        if not all(0 < first <= HORIZON for first in firsts) and first_solved(task) is not None:
            raise UserError(
                f"{task}: the scripted policy fails at the fixed positions, draw "
                f"{lines[-1]['draw']}, "
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
    """The same as a command."""
    if len(sys.argv) < 4:
        raise UserError("give a scale, a file, and task sets (MT10) or tasks")
    tasks = {task for name in sys.argv[3:] for task in TASK_SETS.get(name, (name,))}
    check_names(sorted(tasks), "v1", "fixed")
    write(sys.argv[1], Path(sys.argv[2]), [task for task in MT50 if task in tasks])


if __name__ == "__main__":
    command.leave(main)
