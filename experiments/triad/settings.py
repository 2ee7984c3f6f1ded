"""Figure 4, multi-task SAC on two Meta-World tasks: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.rl.settings import Sac
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Sac):
    """Figure 4; Section 5.3."""

    tasks: tuple[str, ...] = given(
        ("reach-v3", "button-press-topdown-v3"),
        "Figure 4's two tasks under Meta-World 3's names",
        "Meta-World's names of the tasks.",
        shortest=2,
    )
    collections: int = given(100, "Figure 4: the first 100")
    goals: Literal["fixed", "varied"] = given(
        "fixed",
        "not given; Meta-World's MT10 and MT50 of that time kept all positions fixed",
        "Positions of objects and goals, one draw per task for all runs, or a new draw every "
        "episode.",
    )
    evaluation_every: int = given(1, "not given")
    evaluation_episodes: int = given(1, "not given")
    final_evaluation_episodes: int = given(1, "not given")
    curvature_every: int = given(50, "not given")
