"""Goal-conditioned pushing; Figure 6: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.rl.settings import Fleet
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Fleet):
    """Figure 6; Appendix J."""

    goals_per_seed: int = given(
        9,
        "Appendix J: 9 goals per minibatch; here the same 9 in every minibatch",
        "Pairs of the puck's start and goal that one run learns, each a task.",
        least=2,
    )
    collections: int = given(833, "not given")
    width: int = given(200, "Appendix J: 200")
    temperature: Literal["table", "network"] = given(
        "network",
        "Appendix J: predicted from the goal",
        "One temperature per task in a table, or predicted from the task's code by a network.",
    )
