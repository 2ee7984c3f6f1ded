"""MT3 (ours), learned by multi-task SAC: the settings of MT10."""

from dataclasses import dataclass
from typing import Literal

from multitask.rl.settings import MetaWorld
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(MetaWorld):
    """Ours: three tasks for two CPU cores; settings as MT10."""

    tasks: Literal["MT3", "MT10", "MT50"] | tuple[str, ...] = given("MT3")
    collections: int = given(833, "the paper has no such set; as many as MT10")
    width: int = given(160, "Appendix J for MT10: 160")
