"""Writes sentences and short tables about the claims of the ledger."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reporting import render
from reporting.findings.results import Results, ledger
from reporting.ledger.claims import is_ours
from reporting.ledger.verdicts import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    NOT_TESTED,
    REPLICATED,
    VERDICTS,
)

HEADLINE_ROWS = 10
# Claims that open the report, before others that were tested.
HEADLINES = (
    "figure-3-mt10-solved", "figure-3-mt50-70", "table-1-miou", "table-1-depth",
    "table-2-independent", "table-2-routing", "table-3", "table-4-left", "table-4-right",
    "table-5-miou",
)  # fmt: skip


def claim_sentence(line: Mapping[Any, Any]) -> str:
    """One claim with its verdict and the numbers behind it."""
    text = f"{line['claim'][:1].upper()}{line['claim'][1:]}: **{line['verdict']}**"
    if line["verdict"] == NOT_TESTED:
        return f"{text} ({line['reason']})."
    parts = []
    # Names of files' keys, such as conflict_share, become words.
    reason = str(line["reason"] or "").replace("_", " ")
    if np.isfinite(line["effect"]):
        effect = render.significant(line["effect"], line["ci_low"], line["ci_high"])
        parts.append(f"effect toward the claim {effect} over {int(line['seeds'])} seeds")
    if reason:
        parts.append(reason)
    if np.isfinite(line["ours"]):
        ours = render.significant(line["ours"], line["ours_low"], line["ours_high"], 4)
        against = f" against {line['paper']:g} in the paper" if np.isfinite(line["paper"]) else ""
        parts.append(f"our level {ours}{against}")
    return f"{text} ({'; '.join(parts)}; scale {line['scale']})."


def count(claims: pd.DataFrame) -> dict[str, int]:
    """{verdict: number of claims}, in the order of the verdicts."""
    numbers = claims["verdict"].value_counts()
    # Published results can hold words of an earlier version; count them after the others.
    earlier = [word for word in numbers.index if word not in VERDICTS]
    return {word: int(numbers.get(word, 0)) for word in (*VERDICTS, *earlier)}


def counted(claims: pd.DataFrame) -> str:
    """The verdicts that occur, in words: "3 replicated, 2 inconclusive"."""
    return ", ".join(f"{number} {word}" for word, number in count(claims).items() if number)


def tally(claims: pd.DataFrame) -> str:
    """The number of claims and their verdicts, of the paper's and of ours."""
    mine = is_ours(claims)
    paper, ours = claims[~mine], claims[mine]
    text = f"The ledger has {len(claims)} claims. {len(paper)} are the paper's: {counted(paper)}."
    if ours.empty:
        return text
    return (
        f"{text} {len(ours)} are ours, repairs of its theorems and further experiments: "
        f"{counted(ours)}."
    )


def verdict_words(claims: pd.DataFrame) -> str:
    """The verdicts after the number of claims: "5 claims: 3 replicated, 2 inconclusive"."""
    return f"{len(claims)} {'claim' if len(claims) == 1 else 'claims'}: {counted(claims)}"


def by_id(claims: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    """The ledger as {claim's id: its line}."""
    return {str(line["id"]): line for line in claims.to_dict("records")}


def headlines(results: Sequence[Results]) -> pd.DataFrame:
    """The numbers that open the report: columns claim, paper, ours, verdict, scale.

    Tested headlines come first, then other tested claims with a number of the paper, then the
    headlines that are not tested, with the paper's number alone.
    """
    claims = by_id(ledger(results))
    tested = {name for name, line in claims.items() if line["verdict"] != NOT_TESTED}
    numbered = [name for name in claims if name in tested and np.isfinite(claims[name]["paper"])]
    own = [name for name in HEADLINES if name in claims]
    names = dict.fromkeys([*(name for name in own if name in tested), *numbered, *own])
    rows = []
    for line in (claims[name] for name in list(names)[:HEADLINE_ROWS]):
        tested = line["verdict"] != NOT_TESTED
        ours = render.significant(line["ours"], line["ours_low"], line["ours_high"], 4)
        rows.append(
            {
                "claim": f"{line['source']}: {line['claim']}",
                "paper": f"{line['paper']:g}",
                "ours": ours if tested else render.DASH,
                "verdict": line["verdict"],
                "scale": line["scale"] if tested else render.DASH,
            }
        )
    return pd.DataFrame(rows)


# Answers to "does it gain that much?" from the verdict on the claim at 1 million steps.
IN_SHORT = {
    REPLICATED: "Yes, already after 1 million steps. ",
    NOT_REPLICATED: "No, not after 1 million steps. ",
    INCONCLUSIVE: "Undecided after 1 million steps. ",
}
ON_MT10 = "figure-3-mt10-gain-1m"


def in_short(one: Results) -> str:
    """Yes or no to the claimed gain on MT10; empty if the ledger has no such claim."""
    line = by_id(one.claims).get(ON_MT10)
    return "" if line is None else IN_SHORT.get(line["verdict"], "")


def standing_of(one: Results, gain: float, claim: str = ON_MT10) -> str:
    """The verdict on a claim and why, as a sentence; empty if the ledger has no such claim.

    The ledger counts the effect from the claimed gain, so that the sentence must name it.
    """
    line = by_id(one.claims).get(claim)
    if line is None:
        return ""
    why = line["reason"]
    if np.isfinite(line["effect"]):
        effect = render.significant(line["effect"], line["ci_low"], line["ci_high"], 2)
        why = f"the difference minus the claimed {gain - line['effect']:.2f} is {effect}"
    return f" The claim at 1 million steps is {line['verdict']} ({why})."


def untested(results: Sequence[Results]) -> str:
    """The sources of claims that no scale tested, with the number of such claims."""
    claims = ledger(results)
    rows = claims[claims["verdict"] == NOT_TESTED]
    parts = [f"{source} ({len(part)})" for source, part in rows.groupby("source", sort=False)]
    # Sources of ours contain a comma.
    return "; ".join(parts)
