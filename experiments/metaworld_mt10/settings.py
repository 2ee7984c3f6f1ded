"""MT10, learned by multi-task SAC; Figures 3, 7 and 9: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.rl.settings import MetaWorld
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(MetaWorld):
    """Figures 3, 7, 9; Appendix J."""

    tasks: Literal["MT3", "MT10", "MT50"] | tuple[str, ...] = given("MT10")
    collections: int = given(833, "Figure 3: 5 million samples of all tasks are 833")
