"""What the notebooks share: the results they show, tables in Markdown, panels."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, ORANGE, PURPLE, GRAY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#7F7F7F",
)
PLAIN, SURGERY = BLUE, VERMILION  # the sum of the losses, and PCGrad
ROOT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """The results that the notebooks show."""
    return Path(os.environ.get("PCGRAD_RESULTS", ROOT / "results" / "quick"))


def results(statement: str) -> dict[str, Any]:
    """The JSON of a statement; FileNotFoundError names the command that makes it."""
    path = folder() / "proofs" / f"{statement}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; run `snakemake theory`, or set PCGRAD_RESULTS to a results folder"
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(rows: dict[str, dict[str, Any]], columns: Sequence[str]) -> str:
    """Markdown: one line per key of `rows`."""
    lines = [
        ["", *(column.replace("_", " ") for column in columns)],
        ["---"] + ["---:"] * len(columns),
    ]
    lines += [
        [name.replace("_", " "), *(markdown_cell(row.get(column)) for column in columns)]
        for name, row in rows.items()
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_cell(value: Any) -> str:
    """A value as a reader likes it: thousands in groups, three digits, a dash for none."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.3g}"
        if isinstance(value, float)
        else str(value)
    )


def identities_table(report: dict[str, Any], names: Sequence[str]) -> str:
    """Markdown: the named identities as formulas, with what they say."""
    found = {row["name"]: row for row in report["identities"]}
    return "\n\n".join(
        f"**{name}.** {found[name]['says']}\n\n$${found[name]['latex']}$$" for name in names
    )


def verdicts(*reports: dict[str, Any]) -> str:
    """Markdown: scale, seed and the verdicts of one or several statements."""
    found = {name: verdict for report in reports for name, verdict in report["verdicts"].items()}
    listed = ", ".join(f"{name.replace('_', ' ')} **{verdict}**" for name, verdict in found.items())
    return f"Scale **{reports[0]['scale']}**, seed {reports[0]['settings']['seed']}. Verdicts: {listed}."


def panels(columns: int, height: float = 3.6) -> tuple[Figure, Sequence[Axes]]:
    """A row of panels."""
    figure, axes = plt.subplots(
        1, columns, figsize=(4.9 * columns, height), layout="constrained", squeeze=False
    )
    for ax in axes[0]:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[0])


def margins(parts: dict[str, dict[str, Any]], unit: str) -> Figure:
    """Histograms of the margins of every family; bars left of the dashed line are violations."""
    figure, axes = panels(len(parts))
    for ax, (title, report) in zip(axes, parts.items(), strict=True):
        for k, (family, row) in enumerate(report["families"].items()):
            bins, counts = (
                np.array(row["margins"]["log10_bins"]),
                np.array(row["margins"]["counts"]),
            )
            color = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GRAY)[k]
            ax.step(
                bins,
                counts[:-1] / row["accepted"],
                where="pre",
                color=color,
                lw=1.3,
                label=family.replace("_", " "),
            )
            ax.bar(
                bins[0] - 2.2 + 0.27 * k,
                row["violations"] / row["accepted"],
                width=0.27,
                color=color,
            )
        ax.axvline(bins[0] - 0.5, color="black", lw=0.8, ls="--")
        ax.set_xticks(
            [bins[0] - 1.5, -4, -2, 0, 2], ["violated", "$10^{-4}$", "$10^{-2}$", "1", "100"]
        )
        ax.set(
            title=f"{title}: {report['violations']:,} of {report['accepted']:,} violate",
            xlabel=f"margin / {unit}",
        )
        ax.set_ylim(bottom=0)
    axes[0].set_ylabel("share of accepted instances")
    axes[-1].legend(frameon=False, fontsize=8)
    return figure


def dropped_table(*reports: dict[str, Any]) -> str:
    """Markdown: what happens to a statement without each of its hypotheses, and the numbers that
    show it.
    """
    lines = [("statement", "without", "the claim", "shown by"), ("---",) * 4]
    for report in reports:
        for name, row in report["dropped"].items():
            word = "**fails**" if _fails(row) else "still holds: idle"
            without = row.get("hypothesis", name).replace("|", "\\|").replace("_", " ")
            lines.append((report["statement"], without, word, _scalars(row)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def routes_table(*reports: dict[str, Any]) -> str:
    """Markdown: every counterexample with the numbers of each route (exact, 50 digits, float64)
    that confirms it.
    """
    lines = [("statement", "counterexample", "numbers"), ("---",) * 3]
    for report in reports:
        for name, row in report["counterexamples"].items():
            if isinstance(row, dict):
                lines.append((report["statement"], name.replace("_", " "), _scalars(row, 700)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _fails(row: dict[str, Any]) -> bool:
    """Whether a report of a dropped hypothesis says that the claim fails without it; of several
    forms, any.
    """
    for key in ("claim_fails", "fails", "violations"):
        if key in row:
            return bool(row[key])
    if "idle" in row:
        return not row["idle"]
    return any(_fails(part) for part in row.values() if isinstance(part, dict))


def _scalars(row: dict[str, Any], longest: int = 260) -> str:
    """The numbers and short texts of a report, nested ones too, in one line."""
    parts: list[str] = []
    for key, value in row.items():
        if isinstance(value, dict):
            inner = _scalars(value, longest)
            parts.append(f"**{key.replace('_', ' ')}:** {inner}" if inner else "")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            parts.append(_scalars(value[-1]))
        elif isinstance(value, list) and value and not isinstance(value[0], list):
            parts.append(f"{key}: {', '.join(str(item) for item in value)}")
        elif (
            not isinstance(value, (bool, list))
            and value is not None
            and key not in ("hypothesis", "identity")
        ):
            parts.append(f"{key} = {markdown_cell(value)}")
    text = "; ".join(part for part in parts if part).replace("|", "\\|")
    return text if len(text) <= longest else text[: text.rfind(";", 0, longest)] + "; …"
