"""Every verdict and every edge between two of them."""

import pytest

from reporting.ledger.verdicts import THEORY, Evidence, agreement, statistical, verdict
from reporting.statistics import Interval, interval

NAN = float("nan")
CLAIM = {"scales": ["laptop"], "seeds": 5, "smallest_effect": 0.1}


def effect(center, low, high, seeds=5, p=0.01):
    return Interval(center, low, high, seeds, "mean", p)


@pytest.mark.parametrize(
    ("found", "p_holm", "word", "reason"),
    [
        (effect(0.5, 0.2, 0.8), 0.01, "replicated", "claimed side"),
        (effect(0.5, 0.2, 0.8, seeds=2), 0.01, "not tested at this scale", "2 seeds; needs 5"),
        (effect(0.5, NAN, NAN, seeds=1), NAN, "not tested at this scale", "1 seed;"),
        (effect(-0.5, -0.8, -0.2, seeds=2), 0.01, "not tested at this scale", "2 seeds"),
        (effect(0.5, 0.2, 0.8, seeds=4), 0.01, "inconclusive", "4 seeds; needs 5"),
        (effect(0.05, 0.02, 0.08), 0.01, "inconclusive", "smaller than 0.1"),
        (effect(0.1, 0.02, 0.18), 0.01, "replicated", ""),  # exactly the smallest effect counts
        (effect(0.5, 0.2, 0.8), 0.05, "inconclusive", "Holm"),
        (effect(0.5, 0.2, 0.8), NAN, "inconclusive", "Holm"),
        (effect(0.5, 0.0, 0.8), 0.01, "inconclusive", "contains zero"),
        (effect(0.5, -0.2, 0.8), 0.5, "inconclusive", "contains zero"),
        (effect(0.01, -0.05, 0.08), 0.5, "inconclusive", "below the smallest effect"),
        (effect(-0.5, -0.8, -0.2), 0.01, "not replicated", "below zero"),
        (effect(-0.5, -0.8, 0.0), 0.05, "not replicated", "below zero"),
        (effect(-0.5, -0.8, -0.2, seeds=3), 0.01, "not replicated", "below zero"),
        (effect(0.0, 0.0, 0.0), 1.0, "not replicated", "below zero"),  # no seed differs at all
        (effect(NAN, NAN, NAN), NAN, "inconclusive", "no value"),
    ],
)
def test_statistical(found, p_holm, word, reason):
    got, why = statistical(found, seeds=5, smallest=0.1, p_holm=p_holm)
    assert got == word
    assert reason in why


def test_stand_in_data_is_never_a_test():
    found = Evidence(effect(9.0, 8.0, 10.0), missing="stand-in data: digits instead of mnist")
    assert verdict(CLAIM, found, "laptop", 0.001) == (
        "not tested at this scale",
        "stand-in data: digits instead of mnist",
    )


def test_other_scale_is_never_a_test():
    word, why = verdict(CLAIM, Evidence(effect(9.0, 8.0, 10.0)), "quick", 0.001)
    assert word == "not tested at this scale"
    assert "laptop" in why
    assert verdict(CLAIM, Evidence(decided="replicated"), "quick")[0] == "not tested at this scale"


def test_decided_evidence_speaks_for_itself():
    for word in ("replicated", "not replicated", *THEORY):
        assert verdict(CLAIM, Evidence(decided=word, note="n"), "laptop") == (word, "n")


def test_no_evidence_is_not_a_null_result():
    assert verdict(CLAIM, Evidence(), "laptop")[0] == "not tested at this scale"


def test_agreement_with_the_papers_number():
    ours = interval([95.0, 95.2, 95.4])
    assert agreement(ours, 95.3) == "yes"
    assert agreement(ours, 96.58) == "no"
    assert agreement(ours, ours.low) == "yes"
    assert agreement(ours, NAN) == ""
    assert agreement(None, 95.3) == ""
    assert agreement(interval([95.0]), 95.0) == ""
