"""Helpers that the notebooks share: results, verdicts and tables in Markdown, panels."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BINS = np.linspace(-6, 3, 37)  # log10, as in proofs/tally.py
COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#7F7F7F")
BLUE, VERMILION, GREEN, ORANGE, PURPLE, GRAY = COLORS
PLAIN, SURGERY = BLUE, VERMILION  # colors of the plain sum and of PCGrad
SMALL = dict(zip("0123456789ijk", "₀₁₂₃₄₅₆₇₈₉ᵢⱼₖ", strict=True))
ROOT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """Return the folder of the results that the notebooks show."""
    return Path(os.environ.get("PCGRAD_RESULTS", ROOT / "results" / "quick"))


def results(statement: str, place: Path | None = None) -> dict[str, Any]:
    """Read the JSON of a statement, by default from `folder()`.

    Raises:
        FileNotFoundError: It is missing; the message names the command that makes it.
    """
    path = (place or folder()) / "proofs" / f"{statement}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; run `snakemake theory`, or set PCGRAD_RESULTS to a results folder"
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def small(text: str) -> str:
    """Return the checks' plain text with small indices: g₁^PC becomes g₁ᴾᶜ."""
    text = text.replace("^PC", "ᴾᶜ").replace("^MT", "ᴹᵀ").replace("_{k+3}", "ₖ₊₃")
    return re.sub(r"_([0-9ijk])(?![\w{])", lambda match: SMALL[match[1]], text)


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format rows as a Markdown table."""
    lines = [list(headers), ["---"] + ["---:"] * (len(headers) - 1)]
    lines += [[cell(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: Any) -> str:
    """Format a value for a reader: thousands grouped, three digits, a dash for None."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def formulas(report: dict[str, Any], names: Sequence[str]) -> str:
    """Format the named identities in Markdown, as they are proved, with their sentences."""
    found = {row["name"]: row for row in report["certificates"] if row["kind"] == "proof"}
    return "\n\n".join(f"{found[name]['says']}\n\n$${found[name]['latex']}$$" for name in names)


def verdicts(report: dict[str, Any], names: Sequence[str] = ()) -> str:
    """Format the judgements of a report, or the named ones, as a Markdown table."""
    rows = [row for row in report["judgements"] if not names or row["name"] in names]
    lines = ["| statement | verdict | decided by | why |", "|---|---|---|---|"]
    for row in rows:
        reading = f" (reading: {row['reading']})" if row["reading"] else ""
        cells = (row["statement"] + reading, f"**{row['verdict']}**", " · ".join(row["decided_by"]))
        lines.append(
            "| " + " | ".join(small(cell(text)) for text in (*cells, row["sentence"])) + " |"
        )
    return "\n".join(lines)


def instance(report: dict[str, Any], name: str) -> str:
    """Format a counterexample in Markdown.

    Its hypotheses are ticked off, and the routes that confirm it are named.
    """
    found = {row["name"]: row["counterexample"] for row in report["judgements"]}
    example = found[name]
    ticks = "\n".join(f"- ✓ {text}" for text in example["hypotheses"])
    routes = ", ".join(example["routes"])
    return small(
        f"**Instance.** {example['says']}\n\n"
        f"**Hypotheses**, each checked by the file:\n\n{ticks}\n\n"
        f"**Violated.** {example['violated']}.\n\n**Confirmed by** {routes}."
    )


def counts(rows: dict[str, dict[str, Any]]) -> str:
    """Format the trials by family as a Markdown table."""
    shown = {
        "trials": "drawn",
        "accepted": "satisfy the hypotheses",
        "undecided": "undecided",
        "violations": "violations",
        "smallest_margin": "smallest margin",
    }
    cells = [[name.replace("_", " "), *(row[k] for k in shown)] for name, row in rows.items()]
    return table(("family", *shown.values()), cells)


def panels(columns: int, height: float = 3.6) -> tuple[Figure, Sequence[Axes]]:
    """Make a row of panels."""
    figure, axes = plt.subplots(
        1, columns, figsize=(4.9 * columns, height), layout="constrained", squeeze=False
    )
    for ax in axes[0]:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[0])


def margins(parts: dict[str, dict[str, Any]], unit: str) -> Figure:
    """Draw histograms of the margins of every family."""
    figure, axes = panels(len(parts))
    for ax, (title, report) in zip(axes, parts.items(), strict=True):
        for color, (family, row) in zip(COLORS, report["families"].items(), strict=False):
            # The last bin has no upper end and is not drawn.
            shares = np.array(row["histogram"][:-1]) / row["accepted"]
            ax.step(BINS, shares, where="pre", color=color, lw=1.3, label=family.replace("_", " "))
        ax.set_xticks([-6, -4, -2, 0, 2], ["$10^{-6}$", "$10^{-4}$", "$10^{-2}$", "1", "100"])
        ax.set(title=f"{title}: {report['violations']:,} of {report['accepted']:,} violate")
        ax.set(xlabel=f"margin / {unit}")
        ax.set_ylim(bottom=0)
    axes[0].set_ylabel("share of instances")
    axes[-1].legend(frameon=False, fontsize=8)
    return figure
