"""MT10's tasks, each learned alone: the method `independent` of MT10, in two runs.

Independent networks share nothing, so the tasks can be trained apart: each row trains one half of
them, and two CPU cores take about as long for both as for one.
"""

from typing import Any

from multitask.rl import training as metaworld
from multitask.rl.training import fingerprint, task_names
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records

__all__ = ["METHODS", "fingerprint", "train"]

METHODS = ("first_half", "second_half")


def train(method: str, seed: int, settings: dict[str, Any], session: Session) -> Records:
    """Train independent networks on the half of the tasks that the row names."""
    names = task_names(settings["tasks"])
    middle = len(names) // 2
    half = names[:middle] if method == "first_half" else names[middle:]
    return metaworld.train("independent", seed, {**settings, "tasks": half}, session)
