"""From evidence to a verdict: the only place that knows the rules (experiments/claims.yaml states
them for readers).

Experiments: replicated · not replicated · inconclusive · not tested at this scale.
Theory: holds · holds in this reading · false as stated · misprint · open · not tested at this scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reporting.statistics import LEAST_SEEDS, NAN, Interval

REPLICATED, NOT_REPLICATED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"
NOT_TESTED = "not tested at this scale"
# Those of proofs/judgement.py, which decides them.
HOLDS, READING, FALSE = "holds", "holds in this reading", "false as stated"
MISPRINT, OPEN = "misprint", "open"
THEORY = (HOLDS, READING, FALSE, MISPRINT, OPEN)
VERDICTS = (REPLICATED, NOT_REPLICATED, INCONCLUSIVE, NOT_TESTED, *THEORY)
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Evidence:
    """What the result files say about one claim."""

    effect: Interval | None = None  # the claimed side is positive
    ours: Interval | None = None  # the quantity that stands beside the paper's number
    decided: str = ""  # verdict of evidence without chance (end points, proofs)
    missing: str = ""  # why there is no evidence
    note: str = ""  # what was seen, in words


def verdict(
    claim: Mapping[str, Any], evidence: Evidence, scale: str, p_holm: float = NAN
) -> tuple[str, str]:
    """The verdict on a claim and the reason in a few words."""
    if evidence.missing:
        return NOT_TESTED, evidence.missing
    if scale not in claim["scales"]:
        return NOT_TESTED, f"needs scale {' or '.join(claim['scales'])}"
    if evidence.decided:
        return evidence.decided, evidence.note
    if evidence.effect is None:
        return NOT_TESTED, "no evidence"
    return statistical(
        evidence.effect, seeds=claim["seeds"], smallest=claim["smallest_effect"], p_holm=p_holm
    )


def statistical(effect: Interval, *, seeds: int, smallest: float, p_holm: float) -> tuple[str, str]:
    """The verdict on an effect whose claimed side is positive.

    Not replicated: the interval lies wholly at or below zero. Replicated: wholly above zero, still
    so after Holm's correction, at least the smallest effect that counts, from enough seeds.
    Anything else is inconclusive."""
    if effect.seeds < LEAST_SEEDS:
        return NOT_TESTED, f"{effect.seeds} seed{'s' * (effect.seeds != 1)}; needs {seeds}"
    if np.isnan([effect.center, effect.low, effect.high]).any():
        return INCONCLUSIVE, "a run has no value"
    if effect.high <= 0:
        return NOT_REPLICATED, "the interval lies at or below zero effect"
    if effect.low <= 0:
        small = effect.high < smallest
        return INCONCLUSIVE, "the interval holds zero" + small * " and no effect that counts"
    if effect.seeds < seeds:
        return INCONCLUSIVE, f"on the claimed side, but {effect.seeds} of {seeds} seeds"
    if effect.center < smallest:
        return INCONCLUSIVE, f"on the claimed side, but smaller than {smallest:g}"
    if not p_holm < SIGNIFICANCE:
        return INCONCLUSIVE, "on the claimed side, but not after Holm's correction"
    return REPLICATED, "the interval lies on the claimed side"


def agreement(ours: Interval | None, paper: float) -> str:
    """Whether the paper's number lies in the interval around ours: yes, no, or empty where one of
    them is missing.
    """
    if ours is None or np.isnan([paper, ours.low, ours.high]).any():
        return ""
    return "yes" if ours.low <= paper <= ours.high else "no"
