"""Writes sentences about tables: which method is better than which."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reporting import render
from reporting.labels import label
from reporting.ledger.verdicts import SIGNIFICANCE
from reporting.statistics import LEAST_SEEDS

LOWER = ("error", "Err", "angle", "loss", "distance")  # parts of metrics where lower is better


def better_low(metric: str) -> bool:
    """Whether a low value of the metric is good."""
    return any(word in metric for word in LOWER)


def differences(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The lines "a - b" of a table that have enough seeds.

    Each line gets the keys left (a), right (b), gain (positive if a is better) and ends (the
    interval of the gain, ascending).
    """
    # Tables of other things than methods have no differences.
    if not {"method", "task", "metric", "mean", "ci_low", "ci_high", "seeds"} <= set(table.columns):
        return
    for line in table.to_dict("records"):
        left, minus, right = str(line["method"]).partition(" - ")
        if not minus or line["seeds"] < LEAST_SEEDS or not np.isfinite(line["mean"]):
            continue
        # Turn the difference so that a positive gain is an improvement.
        sign = -1.0 if better_low(line["metric"]) else 1.0
        ends = sorted((sign * line["ci_low"], sign * line["ci_high"]))
        named: dict[str, Any] = {str(key): value for key, value in line.items()}
        yield {**named, "left": left, "right": right, "gain": sign * line["mean"], "ends": ends}


def standing(table: pd.DataFrame, left: str) -> str:
    """For every metric, the methods that `left` beats, loses to, or is undecided against."""
    lines = [line for line in differences(table) if line["left"] == left]
    sentences = []
    for task, metric in dict.fromkeys((line["task"], line["metric"]) for line in lines):
        part = [line for line in lines if (line["task"], line["metric"]) == (task, metric)]
        own = table[
            (table["method"] == left) & (table["task"] == task) & (table["metric"] == metric)
        ]
        mean, low, high = own[["mean", "ci_low", "ci_high"]].to_numpy(dtype=float)[0]
        level = render.significant(mean, low, high, 4)
        where = "" if task == "all" else f" ({task})"
        words = metric.removeprefix("test_").replace("_", " ")
        groups = _groups(part)
        seeds = sorted({int(line["seeds"]) for line in part})
        paired = f"{'–'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} paired seeds"
        sentences.append(f"{label(left)} has {words}{where} {level}, {groups} ({paired})")
    return ". ".join(sentences) + "." * bool(sentences)


def _groups(lines: Sequence[Mapping[str, Any]]) -> str:
    better = [_named(line) for line in lines if line["ends"][0] > 0]
    worse = [_named(line) for line in lines if line["ends"][1] < 0]
    open_ = [label(line["right"]) for line in lines if line["ends"][0] <= 0 <= line["ends"][1]]
    parts = [
        f"better than {', '.join(better)}" if better else "",
        f"worse than {', '.join(worse)}" if worse else "",
        f"no clear difference from {', '.join(open_)}" if open_ else "",
    ]
    return "; ".join(filter(None, parts))


def _named(line: Mapping[str, Any]) -> str:
    """The other method with the difference; a star if it is not significant after Holm."""
    star = "" if line["p_holm"] < SIGNIFICANCE else "*"
    return f"{label(line['right'])} ({render.significant(line['mean'], np.nan, np.nan, 2)}{star})"


def compared(table: pd.DataFrame) -> list[str]:
    """The methods with PCGrad that a table compares with others, in the order of the table."""
    names = dict.fromkeys(line["left"] for line in differences(table))
    return [name for name in names if "pcgrad" in name]


MOST_NUMBERS = 2  # differences to the plain sum that a short answer prints
# The rows whose network is trained by the plain sum of losses, also at PCGrad's length.
PLAIN = ("sum", "one_fc", "sum_pcgrad_length")


def short_standing(table: pd.DataFrame, left: str) -> str:
    """A shorter `standing` for the table of answers: what Holm's correction leaves.

    It opens with the difference to the same network without surgery, whatever it is, unless there
    are too many metrics.
    """
    lines = [line for line in differences(table) if line["left"] == left]
    firm = [line for line in lines if line["p_holm"] < SIGNIFICANCE]
    groups = [
        f"{words} than {_names(part, lines)}"
        for words, part in (
            ("better", [line for line in firm if line["gain"] > 0]),
            ("worse", [line for line in firm if line["gain"] <= 0]),
        )
        if part
    ]
    rest = len(lines) - len(firm)
    of = label(left)
    none = rest == len(lines)
    many = f"All {rest} comparisons of {of}" if none else f"{rest} of {len(lines)} comparisons"
    plain = against_plain(table, left)
    parts = [
        plain if plain.count("[") <= MOST_NUMBERS else "",
        f"After Holm's correction {of} is {', and '.join(groups)}." if groups else "",
        f"{many} {'is' if rest == 1 else 'are'} undecided." if rest else "",
    ]
    return " ".join(filter(None, parts))


def against_plain(table: pd.DataFrame, left: str) -> str:
    """The differences of a method to the same network without surgery, in every metric."""
    lines = [line for line in differences(table) if line["left"] == left]
    plain = (left.removesuffix("_pcgrad"),) if left.endswith("_pcgrad") else PLAIN
    against = [
        line
        for line in lines
        if line["right"] in plain and not line["metric"].startswith("validation_")
    ]
    return f"{label(left)} against {_names(against, lines, interval=True)}." if against else ""


def _names(
    lines: Sequence[Mapping[str, Any]],
    every: Sequence[Mapping[str, Any]],
    *,
    interval: bool = False,
) -> str:
    """The other methods, each with its differences; `every` has all comparisons of the table."""
    found: dict[str, list[str]] = {}
    for line in lines:
        metrics = {one["metric"] for one in every if one["task"] == line["task"]}
        low, high = (line["ci_low"], line["ci_high"]) if interval else (np.nan, np.nan)
        words = [
            line["task"] if line["task"] != "all" else "",
            line["metric"].removeprefix("test_").replace("_", " ") if len(metrics) > 1 else "",
            "+" * (line["mean"] > 0) + render.significant(line["mean"], low, high, 2),
        ]
        found.setdefault(label(line["right"]), []).append(" ".join(filter(None, words)))
    # In italics, because labels contain commas.
    return ", ".join(f"*{name}* ({', '.join(parts)})" for name, parts in found.items())
