"""Draws three figures over all results: the claims, the paper's numbers against ours, the cost."""

import textwrap
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reporting import render
from reporting.figures import legend_above, save, stamp, style
from reporting.findings import Results, count, is_real, ledger, order, read
from reporting.ledger.verdicts import (
    FALSE,
    HOLDS,
    INCONCLUSIVE,
    MISPRINT,
    NOT_REPLICATED,
    NOT_TESTED,
    OPEN,
    READING,
    REPLICATED,
)

# {verdict: (color, sign)}; the signs keep verdicts apart without colors.
SIGNS = {
    REPLICATED: ("#009E73", "✔"),
    HOLDS: ("#009E73", "✔"),
    READING: ("#56B4E9", "✚"),
    INCONCLUSIVE: ("#E69F00", "?"),
    NOT_REPLICATED: ("#D55E00", "✘"),
    FALSE: ("#D55E00", "✘"),
    MISPRINT: ("#D55E00", "≠"),
    OPEN: ("#E69F00", "?"),
    NOT_TESTED: ("#9A9A9A", "–"),
}
DPI = 120  # tall figures, published for every scale
ROW = 0.185  # height of a claim's row in inches
LETTERS = 92  # letters of a claim that fit its row
# Panels of the paper's numbers against ours: {metric of the tables: title}.
QUANTITIES = {
    "test_accuracy": "accuracy, %",
    "test_error": "classification error, %",
    "test_mIoU_per_image": "mIoU, %",
    "test_PixAcc_per_image": "pixel accuracy, %",
    "test_AbsErr": "absolute depth error",
    "test_RelErr": "relative depth error",
    "test_mean_angle": "mean angle, °",
    "test_median_angle": "median angle, °",
    "test_within_11.25": "within 11.25°, %",
    "test_within_22.5": "within 22.5°, %",
    "test_within_30": "within 30°, %",
}
# {implementation in the benchmarks: (name, color, marker)}; the first is drawn first.
CODES = {
    "pcgrad": ("ours", "#D55E00", "o"),
    "torchjd": ("torchjd", "#56B4E9", "D"),
    "conflictfree": ("conflictfree", "#E69F00", "s"),
    "libmtl": ("LibMTL", "#009E73", "^"),
}
TABLES = tuple(f"table_{number}" for number in range(1, 9))
TABLE_COLORS = dict(
    zip(
        TABLES,
        ("#000000", "#0072B2", "#009E73", "#D55E00", "#E69F00", "#56B4E9", "#882255", "#999933"),
        strict=True,
    )
)


def scoreboard(results: Sequence[Results]) -> Figure:
    """Draw every claim by verdict, with its effect, our number and the paper's."""
    style()
    claims = ledger(results)
    numbers = {word: number for word, number in count(claims).items() if number}
    groups = [(word, claims[claims["verdict"] == word]) for word in numbers_in_order(numbers)]
    rows = sum(lines_of(word, part) + 1.4 for word, part in groups)
    fig = plt.figure(figsize=(9.6, ROW * rows + 1.3))
    # Axes are placed by hand, because every claim needs the same height.
    fig.set_layout_engine("none")
    _counts(fig, numbers)
    top = 1 - 0.95 / fig.get_figheight()
    ax = fig.add_axes((0, 0.3 / fig.get_figheight(), 1, top - 0.3 / fig.get_figheight()))
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(rows, 0)
    y = 0.0
    for word, part in groups:
        y = _group(ax, y, word, part)
    scales = ", ".join(dict.fromkeys(claims["scale"]))
    stamp(fig, scales, "effect: above 0 on the claimed side, with its 95% interval over seeds")
    return fig


def sign_of(word: str) -> tuple[str, str]:
    """Color and sign of a verdict; an unknown word gets those of an open verdict."""
    return SIGNS.get(word, SIGNS[INCONCLUSIVE])


def numbers_in_order(numbers: dict[str, int]) -> list[str]:
    """The verdicts that occur, in the order of SIGNS."""
    return sorted(
        numbers, key=lambda word: list(SIGNS).index(word) if word in SIGNS else len(SIGNS)
    )


def _counts(fig: Figure, numbers: dict[str, int]) -> None:
    """Draw a bar that is divided by verdict, with the number of claims of each."""
    height = fig.get_figheight()
    ax = fig.add_axes((0.02, 1 - 0.42 / height, 0.96, 0.34 / height))
    ax.set_axis_off()
    left, total = 0.0, sum(numbers.values())
    for word in numbers_in_order(numbers):
        number = numbers[word]
        ax.barh(0, number, left=left, color=sign_of(word)[0], edgecolor="white", height=1)
        ax.text(
            left + number / 2,
            0,
            str(number),
            color="white",
            ha="center",
            va="center",
            fontsize=12,
            weight="bold",
        )
        left += number
    ax.set_xlim(0, total)
    items = [
        f"{sign_of(word)[1]} {numbers[word]} {word.removesuffix(' at this scale')}"
        for word in numbers_in_order(numbers)
    ]
    # Lines break between verdicts only: chr(160) is the space that does not break.
    words = textwrap.fill("   ".join(item.replace(" ", chr(160)) for item in items), 125)
    fig.text(0.02, 1 - 0.52 / height, words, fontsize=8.5, va="top")


def _group(ax: Axes, y: float, word: str, part: pd.DataFrame) -> float:
    tint, _ = sign_of(word)
    y += 0.9
    ax.text(0.02, y, f"{word} ({len(part)})", weight="bold", color=tint, fontsize=9, va="center")
    if part[["effect", "ours"]].notna().any(axis=None):
        for x, name in ((0.70, "effect"), (0.85, "ours"), (0.97, "paper")):
            ax.text(x, y, name, color="gray", fontsize=7, ha="right", va="center")
    if word == NOT_TESTED:
        return _untested(ax, y, part)
    for line in part.to_dict("records"):
        y += 1
        _mark(ax, 0.02, y, line, word)
        numbers = {
            0.70: render.significant(line["effect"], line["ci_low"], line["ci_high"], 2),
            0.85: render.significant(line["ours"], np.nan, np.nan),
            0.97: "" if np.isnan(line["paper"]) else f"{line['paper']:g}",
        }
        # A claim without numbers can use their columns.
        free = all(text in ("", render.DASH) for text in numbers.values())
        _claim(ax, 0.14, y, line["claim"], LETTERS + 26 if free else LETTERS - 16)
        for x, text in numbers.items():
            if text != render.DASH:
                ax.text(x, y, text, fontsize=7, ha="right", va="center", family="DejaVu Sans")
    return y + 0.5


def _untested(ax: Axes, y: float, part: pd.DataFrame) -> float:
    """Draw the claims that nothing tested in two columns; they have no number of ours."""
    lines = part.to_dict("records")
    half = lines_of(NOT_TESTED, part)
    for number, line in enumerate(lines):
        x, row = 0.5 * (number // half), y + 1 + number % half
        paper = "" if np.isnan(line["paper"]) else f" (paper: {line['paper']:g})"
        _mark(ax, x + 0.02, row, line, NOT_TESTED)
        _claim(ax, x + 0.14, row, line["claim"], LETTERS - 30 - len(paper), paper)
    return y + half + 0.5


def lines_of(word: str, part: pd.DataFrame) -> int:
    """The lines that a verdict's claims take: two untested claims share one."""
    return -(-len(part) // 2) if word == NOT_TESTED else len(part)


def _mark(ax: Axes, x: float, y: float, line: Mapping[Hashable, Any], word: str) -> None:
    """Draw the sign of the verdict and the place in the paper."""
    tint, sign = sign_of(word)
    ax.text(x, y, sign, color=tint, fontsize=9, va="center", weight="bold")
    ax.text(x + 0.02, y, line["source"], fontsize=7, va="center", color="gray")


def _claim(ax: Axes, x: float, y: float, claim: str, width: int, after: str = "") -> None:
    words = textwrap.shorten(claim, width, placeholder=" …") + after
    ax.text(x, y, words, fontsize=7.2, va="center")


def paper_numbers(results: Sequence[Results]) -> pd.DataFrame:
    """Every number of Tables 1 to 8 with ours: table, method, metric, paper, ours, low, high, real.

    Our number is taken from the strongest scale that has one; real data precede generated data.
    """
    frames = []
    for one in results:
        for name in (name for name in one.tables() if name in TABLES):
            table = one.table(name)
            # Differences "a - b" have derived numbers only.
            table = table[table["paper"].notna() & ~table["method"].str.contains(" - ")]
            table = table[table["metric"].isin(QUANTITIES)]
            frames.append(table.assign(table=name, real=is_real(one.footer(name)), scale=one.scale))
    if not frames:
        return pd.DataFrame(columns=["table", "method", "task", "metric", "paper", "mean", "real"])
    lines = pd.concat(frames, ignore_index=True)
    # The stable sort keeps the strongest scale first within a rank; duplicates keep the first line.
    lines["rank"] = np.where(lines["mean"].isna(), 2, np.where(lines["real"], 0, 1))
    keys = ["table", "method", "task", "metric"]
    return (
        lines.sort_values("rank", kind="stable")
        .drop_duplicates(keys)
        .sort_values("table", key=lambda names: names.map(order), kind="stable")
    )


def paper_against_ours(results: Sequence[Results]) -> Figure:
    """Draw one panel per quantity with the paper's number as x and ours as y.

    Points on the line are equal. Filled points are real data, hollow ones generated data (no
    evidence); a tick at the bottom is a number without a run.
    """
    style()
    lines = paper_numbers(results)
    metrics = [metric for metric in QUANTITIES if metric in set(lines["metric"])] or [
        "test_accuracy"
    ]
    columns = min(4, len(metrics))
    rows = -(-len(metrics) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(2.4 * columns, 0.9 + 2.3 * rows), squeeze=False
    )
    for ax, metric in zip(axes.flat, metrics, strict=False):
        _scatter(ax, lines[lines["metric"] == metric])
        ax.set_title(QUANTITIES[metric])
    for ax in axes.flat[len(metrics) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("ours")
    fig.supxlabel("the paper's number")
    dot: dict[str, Any] = {"linestyle": "", "marker": "o"}
    handles = [
        Line2D([], [], color=TABLE_COLORS[name], label=name.replace("_", " ").title(), **dot)
        for name in dict.fromkeys(lines["table"])
    ]
    handles += [
        Line2D([], [], color="gray", label="real data", **dot),
        Line2D([], [], color="gray", fillstyle="none", label="generated: no evidence", **dot),
        Line2D([], [], color="gray", linestyle="", marker="|", label="not run"),
        Line2D([], [], color="gray", label="equal"),
    ]
    legend_above(fig, handles)
    return fig


def _scatter(ax: Axes, lines: pd.DataFrame) -> None:
    known = lines[lines["mean"].notna()]
    # Both axes have the same limits, so that the line of equality is the diagonal.
    ends = pd.concat([lines["paper"], known["mean"], known[known["real"]]["ci_low"]]).dropna()
    low, high = ends.min(), ends.max()
    # One failed run would squeeze all others together on a linear axis.
    if low > 0 and high > 30 * low:
        low, high = low / 1.5, high * 1.5
        ax.set(xscale="log", yscale="log")
    else:
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - margin, high + margin
        ax.locator_params(nbins=4)
    ax.plot([low, high], [low, high], color="gray", linewidth=0.8)
    ran = set(zip(known["table"], known["paper"], strict=True))
    for line in lines.to_dict("records"):
        tint = TABLE_COLORS[line["table"]]
        if np.isnan(line["mean"]):
            # Rows with and without tuning share the paper's number; one of them may have run.
            if (line["table"], line["paper"]) in ran:
                continue
            at = ax.get_xaxis_transform()
            ax.plot(line["paper"], 0.03, marker="|", color=tint, markersize=8, transform=at)
            continue
        if line["real"] and np.isfinite(line["ci_low"]):
            ax.vlines(line["paper"], line["ci_low"], line["ci_high"], color=tint, linewidth=1)
        fill = "full" if line["real"] else "none"
        ax.plot(line["paper"], line["mean"], marker="o", color=tint, fillstyle=fill, markersize=5)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)


def cost(table: pd.DataFrame) -> Figure:
    """Draw the cost of surgery alone over tasks T and parameters P.

    The unit of time is one read of the gradients; memory is counted without the gradients.

    Args:
        table: The benchmarks' `speed_cpu.csv`.
    """
    style()
    rows = table[(table["kind"] == "surgery") & table["median_ms"].notna()]
    sizes = sorted(rows["P"].unique())
    # More tasks than these are measured at few parameters only.
    tasks = sorted(rows.loc[rows["P"] == sizes[-1], "T"].unique())
    fig, axes = plt.subplots(2, 2, figsize=(8.2, 5.2), squeeze=False)
    big, many = sizes[-1], tasks[len(tasks) // 2]
    for code, (_, tint, mark) in CODES.items():
        # Ours is wider and drawn first, so both curves are visible where another equals it.
        wide = code == "pcgrad"
        line: dict[str, Any] = {"color": tint, "marker": mark, "markersize": 8 if wide else 4}
        line["linewidth"] = 3.5 if wide else 1.2
        own = rows[rows["code"] == code]
        over_tasks = own[own["P"] == big].sort_values("T")
        over_sizes = own[own["T"] == many].sort_values("P")
        axes[0, 0].plot(over_tasks["T"], over_tasks["median_ms"], **line)
        axes[0, 1].plot(over_sizes["P"], over_sizes["median_ms"], **line)
        axes[1, 0].plot(over_tasks["T"], over_tasks["beyond"] / 1e6, **line)
        axes[1, 1].plot(over_sizes["P"], over_sizes["beyond"] / 1e6, **line)
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.set_yscale("log")
    for ax in axes[:, 0]:
        ax.set_xlabel("tasks T")
        ax.set_title(f"P = {big:,} parameters")
        # On the axis of logarithms 40 and 50 are too near for two numbers.
        apart = [n for n, above in pairwise([*tasks, np.inf]) if above > 1.4 * n]
        ax.set_xticks(apart, [str(task) for task in apart])
        ax.minorticks_off()
    for ax in axes[:, 1]:
        ax.set_xlabel("parameters P")
        ax.set_title(f"T = {many} tasks")
    axes[0, 0].set_ylabel("milliseconds")
    axes[1, 0].set_ylabel("memory beyond\nthe gradients, MB")
    handles = [
        Line2D([], [], color=tint, marker=mark, label=name) for name, tint, mark in CODES.values()
    ]
    legend_above(fig, handles)
    first = rows.iloc[0]
    stamp(
        fig,
        "benchmarks",
        f"surgery alone · {first['machine']}, {first['threads']} thread(s) · {first['date']}",
    )
    return fig


def write(folders: Sequence[str | Path], out: Path, benchmarks: Path | None = None) -> None:
    """Write the overview figures as PNG and PDF into `out`."""

    results = read(folders)
    figures = {"scoreboard": scoreboard(results), "paper_against_ours": paper_against_ours(results)}
    if benchmarks is not None and benchmarks.is_file():
        figures["cost"] = cost(pd.read_csv(benchmarks))
    for name, fig in figures.items():
        save(fig, png=out / f"{name}.png", pdf=out / f"{name}.pdf", dpi=DPI)
