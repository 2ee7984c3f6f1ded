"""The `theory` block of a config, as `check.load` has tested it."""

from __future__ import annotations

from typing import TypedDict


class Theory(TypedDict):
    """The sizes of the checks; `experiments/theory/settings.py` describes every key."""

    seed: int
    instances: int
    trajectories: int
    updates: int
    high_dimensions: list[int]
    search_rounds: int
