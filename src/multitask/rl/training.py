"""Training on Meta-World's task sets: the data's fingerprint and the run of one method."""

import hashlib
import inspect
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from multitask.rl.envs import TASK_SETS, MetaWorld, check_names
from multitask.rl.fleet import Fleet
from multitask.rl.sac import train as train_sac
from multitask.rl.sac.methods import settings_of_row
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records


def task_names(tasks: str | Sequence[str]) -> list[str]:
    """Returns the names of the tasks of a task set, or those of a list."""
    return list(TASK_SETS[tasks] if isinstance(tasks, str) else tasks)


def fingerprint(settings: dict[str, Any]) -> dict[str, Any]:
    """Identifies Meta-World as the data: versions and a hash of the tasks' source files."""
    names = task_names(settings["tasks"])
    check_names(names, settings["reward_function_version"], settings["goals"])
    return {**sources(names), "tasks": settings["tasks"]}


def sources(tasks: Sequence[str]) -> dict[str, str]:
    """Returns the versions of Meta-World and MuJoCo and a hash of the tasks' source files."""
    digest = hashlib.sha256()
    for source in (*(ALL_V3_ENVIRONMENTS[task] for task in tasks), SawyerXYZEnv):
        # The base class too: it has the reset, the observation and the limits of all tasks.
        digest.update(Path(inspect.getfile(source)).read_bytes())
    return {
        "metaworld": metadata.version("metaworld"),
        "mujoco": metadata.version("mujoco"),
        "sha256": digest.hexdigest(),
    }


def train(method: str, seed: int, settings: dict[str, Any], session: Session) -> Records:
    """Trains one method under one seed; see `multitask.rl.sac` for the algorithm."""
    # Some rows differ from others only by their settings.
    settings = settings_of_row(method, settings)
    choices = {key: settings[key] for key in ("horizon", "reward_function_version", "goals")}
    makers = [
        partial(MetaWorld, task, seed=seed, **choices) for task in task_names(settings["tasks"])
    ]
    with Fleet(makers, settings.get("workers", 0)) as fleet:
        return train_sac(settings, seed, session, fleet, method=method)
