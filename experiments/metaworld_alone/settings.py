"""MT10's tasks, each learned alone (ours): the settings of MT10."""

from dataclasses import dataclass
from typing import Literal

from multitask.rl.settings import MetaWorld
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(MetaWorld):
    """Ours: MT10's row of independent networks, in two runs; settings as MT10."""

    tasks: Literal["MT3", "MT10", "MT50"] | tuple[str, ...] = given("MT10")
    collections: int = given(
        167, "no more than 300,000 steps of a task; as MT10 on a CPU: 100,200 steps of a task"
    )
