"""Decides the verdict on a claim from its evidence.

`experiments/claims.yaml` explains the rules to readers; this module alone applies them.

Experiments: replicated · not replicated · inconclusive · not tested at this scale.
Theory: holds · holds in this reading · false as stated · misprint · open · not tested at this
scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reporting.labels import seeds_text
from reporting.statistics import LEAST_SEEDS, NAN, Interval

REPLICATED, NOT_REPLICATED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"
NOT_TESTED = "not tested at this scale"
# The words of proofs/judgement.py, which decides these verdicts.
HOLDS, READING, FALSE = "holds", "holds in this reading", "false as stated"
MISPRINT, OPEN = "misprint", "open"
THEORY = (HOLDS, READING, FALSE, MISPRINT, OPEN)
VERDICTS = (REPLICATED, NOT_REPLICATED, INCONCLUSIVE, NOT_TESTED, *THEORY)
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Evidence:
    """The evidence of the result files on one claim."""

    effect: Interval | None = None  # over seeds; positive on the claimed side
    ours: Interval | None = None  # our value of the quantity for which the paper gives a number
    decided: str = ""  # the verdict, if the evidence is deterministic (end points, proofs)
    missing: str = ""  # why there is no evidence
    note: str = ""  # the observation in words, or how many seeds are on the claimed side


def verdict(
    claim: Mapping[str, Any], evidence: Evidence, scale: str, p_holm: float = NAN
) -> tuple[str, str]:
    """The verdict on a claim and the reason in a few words."""
    if evidence.missing:
        return NOT_TESTED, evidence.missing
    # Evidence of another scale decides nothing.
    if scale not in claim["scales"]:
        return NOT_TESTED, f"needs scale {' or '.join(claim['scales'])}"
    if evidence.decided:
        return evidence.decided, evidence.note
    if evidence.effect is None:
        return NOT_TESTED, "no evidence"
    word, why = statistical(
        evidence.effect, seeds=claim["seeds"], smallest=claim["smallest_effect"], p_holm=p_holm
    )
    # An interval of heavy-tailed values can contain zero although no seed is below.
    return word, f"{why}; {evidence.note}" if evidence.note and word == INCONCLUSIVE else why


def statistical(effect: Interval, *, seeds: int, smallest: float, p_holm: float) -> tuple[str, str]:
    """The verdict on an effect whose claimed side is positive, and the reason.

    Not replicated: the whole interval is at or below zero. Replicated: the whole interval is above
    zero, the effect is significant after Holm's correction and not below `smallest`, and there are
    enough seeds. Anything else is inconclusive. `smallest` is in the unit of the effect.
    """
    if effect.seeds < LEAST_SEEDS:
        return NOT_TESTED, f"{seeds_text(effect.seeds)}; needs {seeds}"
    if np.isnan([effect.center, effect.low, effect.high]).any():
        return INCONCLUSIVE, "a run has no value"
    # A claim that is refuted needs no number of seeds beyond the least for an interval.
    if effect.high <= 0:
        return NOT_REPLICATED, "the interval lies at or below zero effect"
    if effect.low <= 0:
        if effect.high < smallest:
            return INCONCLUSIVE, "the interval contains zero and lies below the smallest effect"
        return INCONCLUSIVE, "the interval contains zero"
    if effect.seeds < seeds:
        return INCONCLUSIVE, f"on the claimed side, but {seeds_text(effect.seeds)}; needs {seeds}"
    if effect.center < smallest:
        return INCONCLUSIVE, f"on the claimed side, but smaller than {smallest:g}"
    # "not <" also catches a p-value that is nan.
    if not p_holm < SIGNIFICANCE:
        return INCONCLUSIVE, "on the claimed side, but not after Holm's correction"
    return REPLICATED, "the interval lies on the claimed side"


def agreement(ours: Interval | None, paper: float) -> str:
    """Whether our interval contains the paper's number: "yes", "no", or "" if one is missing."""
    if ours is None or np.isnan([paper, ours.low, ours.high]).any():
        return ""
    return "yes" if ours.low <= paper <= ours.high else "no"
