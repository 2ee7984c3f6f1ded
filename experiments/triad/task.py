"""Figure 4's runs: multi-task SAC on two Meta-World tasks, plain and with PCGrad (Section 5.3)."""

import hashlib
import inspect
from importlib import metadata
from pathlib import Path
from typing import Any

from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from multitask.checkpoint import Session
from multitask.envs import MetaWorld, check_names
from multitask.records import Records
from multitask.sac import train as train_sac

METHODS = ("sac", "sac_pcgrad")


def fingerprint(settings: dict[str, Any]) -> dict[str, Any]:
    """Meta-World is the data: its version, the simulator's, and a hash of the tasks' source files."""
    check_names(settings["tasks"], settings["reward_function_version"], settings["goals"])
    digest = hashlib.sha256()
    for source in (*(ALL_V3_ENVIRONMENTS[task] for task in settings["tasks"]), SawyerXYZEnv):
        digest.update(Path(inspect.getfile(source)).read_bytes())
    return {
        "metaworld": metadata.version("metaworld"),
        "mujoco": metadata.version("mujoco"),
        "tasks": list(settings["tasks"]),
        "sha256": digest.hexdigest(),
    }


def train(method: str, seed: int, settings: dict[str, Any], session: Session) -> Records:
    """Train one method under one seed; see `multitask.sac` for the algorithm and its choices."""
    choices = {key: settings[key] for key in ("horizon", "reward_function_version", "goals")}
    environments = [MetaWorld(task, seed=seed, **choices) for task in settings["tasks"]]
    return train_sac(settings, seed, session, environments, pcgrad=method == "sac_pcgrad")
