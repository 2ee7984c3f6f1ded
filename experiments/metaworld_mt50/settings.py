"""MT50, learned by multi-task SAC; Figures 3 and 8: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.rl.settings import MetaWorld
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(MetaWorld):
    """Figures 3, 8; Appendix J."""

    tasks: Literal["MT3", "MT10", "MT50"] | tuple[str, ...] = given("MT50")
    collections: int = given(667, "Figure 3: 20 million samples of all tasks are 667")
    width: int = given(300, "Appendix J: 300")
