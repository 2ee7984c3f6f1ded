"""A check of SAC itself (ours): the task reach at a fixed goal and at varied goals."""

from typing import Any

from multitask.rl import training as metaworld
from multitask.rl.sac.methods import settings_of_row
from multitask.rl.training import fingerprint
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records

__all__ = ["METHODS", "fingerprint", "train"]

METHODS = ("fixed_goal", "varied_goals", "fixed_goal_float32", "varied_goals_float32")


def train(method: str, seed: int, settings: dict[str, Any], session: Session) -> Records:
    """Train SAC with the goals that the method's name selects; see `multitask.rl.sac`."""
    settings = settings_of_row(method, settings)
    goals = method.partition("_")[0]
    return metaworld.train("sac", seed, {**settings, "goals": goals}, session)
