"""Targets for the measured times, and a table of whether the benchmark's CSV meets them."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

# Selects the rows of the CSV to which a target applies.
Rows = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Target:
    """An upper bound on a ratio or a time in all cases that it applies to.

    Attributes:
        words: the description in the table.
        rows: selects the cases.
        most: the bound.
        column: "ratio", to the case's reference; "ours_over", of ours to the row's code;
            "beyond_ms", ours in ms beyond 1.1 times the row's code; or "median_ms".
    """

    words: str
    rows: Rows
    most: float
    column: str = "ratio"


def step(code: str, name: str) -> Rows:
    """Select the rows of a code in the steps whose name contains a text."""
    return lambda t: (t["kind"] == "step") & (t["code"] == code) & t["case"].str.contains(name)


def surgery(low: int, high: int, size: int, device: str, code: str = "pcgrad") -> Rows:
    """Select rows in surgery alone, by numbers of tasks and least P (on a GPU: least T x P)."""
    return lambda t: (
        (t["kind"] == "surgery") & (t["code"] == code) & (t["device"] == device)
        & t["T"].between(low, high)
        & ((t["P"] if device == "cpu" else t["P"] * t["T"]) >= size)
    )  # fmt: skip


TARGETS = (
    Target("step on the paper's linear networks, recorder / plain", step("pcgrad", ", 6x"), 1.25),
    Target("the same as in the RL loop / plain", step("pcgrad_taps", ", 6x"), 1.25),
    Target("step on 3x400, recorder / plain", step("pcgrad", ", 3x400"), 1.5),
    Target("step with one batch per task, CIFAR-100 / plain", step("pcgrad", "CIFAR-100"), 1.5),
    Target(
        "step with shared input / T task gradients alone",
        lambda t: step("bound", "")(t) & ~t["case"].str.contains("tiny"),
        1.1,
        "ours_over",
    ),
    Target("2,000 tiny tensors, ours / literal code", step("literal", "tiny"), 1.2, "ours_over"),
    Target("2,000 tiny tensors, ours / T task gradients", step("bound", "tiny"), 1.2, "ours_over"),
    Target(
        "surgery alone, up to 20 tasks, P from 1e6 / two reads", surgery(2, 20, 10**6, "cpu"), 3.0
    ),
    Target(
        "surgery alone, 40 and 50 tasks, P from 1e6 / two reads", surgery(40, 50, 10**6, "cpu"), 4.0
    ),
    Target(
        "surgery alone, T=2, P=1e6: ms beyond 1.1 times torchjd's",
        lambda t: surgery(2, 2, 10**6, "cpu", "torchjd")(t) & (t["P"] == 10**6),
        0.1,
        "beyond_ms",
    ),
    Target("surgery alone, 1,000 tasks, ms", surgery(1000, 1000, 0, "cpu"), 500.0, "median_ms"),
    Target(
        "surgery alone on a GPU, T x P from 1e8 / two reads", surgery(2, 50, 10**8, "cuda"), 1.5
    ),
)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per target: its bound, how many cases meet it, and the others' ratios."""
    # Codes that were left out have no times.
    measured = table[table["repeats"] > 0].assign(
        beyond_ms=lambda t: (t["ours_over"] - 1.1) * t["median_ms"]
    )
    rows = []
    for target in TARGETS:
        found = measured[target.rows(measured)]
        if found.empty:
            continue
        missed = found[found[target.column] > target.most]
        rows.append(
            {
                "target": target.words,
                "at most": f"{target.most:g}",
                "holds": f"{len(found) - len(missed)} of {len(found)}",
                "not in": "; ".join(
                    f"{row['case']}: {row[target.column]:.2f}" for row in missed.to_dict("records")
                ),
            }
        )
    return pd.DataFrame(rows, columns=["target", "at most", "holds", "not in"])
