"""The size of the checks of Appendix A."""

from dataclasses import dataclass
from typing import Literal

from system.settings import Block, given


@dataclass(frozen=True, kw_only=True)
class Settings(Block):
    """Numerical checks of every statement of Appendix A."""

    seed: int = given(0, "", "Seed of the random problems.", least=0)
    instances: int = given(
        100000,
        "",
        "Random problems per family on which one step is tested, for each form of a statement.",
        least=1,
    )
    trajectories: int = given(
        5000, "", "Trajectories per family, for statements on convergence.", least=1
    )
    updates: int = given(
        5000,
        "",
        "Updates of a trajectory, at most; one that needs more counts as unfinished.",
        least=1,
    )
    high_dimensions: tuple[Literal[100, 300, 1000], ...] = given(
        (100, 300, 1000),
        "",
        "Dimensions of which each gets at least 20 problems with prescribed spectra.",
    )
    search_rounds: int = given(
        1000,
        "",
        "Rounds of each of scipy's optimizers that search for violations (generations of "
        "differential evolution).",
        least=1,
    )
