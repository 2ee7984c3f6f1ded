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
from reporting.figures import PALE, legend_above, save, stamp, style
from reporting.findings import Results, count, is_real, ledger, order, read
from reporting.findings.results import read_table
from reporting.labels import label
from reporting.ledger import verdicts
from reporting.ledger.verdicts import NOT_TESTED

# {verdict: (color, sign)}; the signs keep verdicts apart without colors.
SIGNS = {
    verdicts.REPLICATED: ("#009E73", "✔"),
    verdicts.HOLDS: ("#009E73", "✔"),
    verdicts.READING: ("#56B4E9", "✚"),
    verdicts.INCONCLUSIVE: ("#E69F00", "?"),
    verdicts.NOT_REPLICATED: ("#D55E00", "✘"),
    verdicts.FALSE: ("#D55E00", "✘"),
    verdicts.MISPRINT: ("#D55E00", "≠"),
    verdicts.OPEN: ("#E69F00", "?"),
    NOT_TESTED: ("#9A9A9A", "–"),
}
DPI = 120  # tall figures, published for every scale
ROW = 0.185  # height of a claim's row in inches
NEXT = 0.68  # height of a claim's further lines in rows
# Letters of a claim that fit a line: beside numbers, in their columns, in half of the width.
BESIDE, WHOLE, HALF = 76, 150, 62
# Panels of the paper's numbers against ours: {metric of the tables: title}.
QUANTITIES = {
    "test_accuracy": "accuracy, %", "test_error": "classification error, %",
    "test_mIoU_per_image": "mIoU, %", "test_PixAcc_per_image": "pixel accuracy, %",
    "test_AbsErr": "absolute depth error", "test_RelErr": "relative depth error",
    "test_mean_angle": "mean angle, °", "test_median_angle": "median angle, °",
    "test_within_11.25": "within 11.25°, %", "test_within_22.5": "within 22.5°, %",
    "test_within_30": "within 30°, %",
}  # fmt: skip
# {implementation in the benchmarks: (name, color, marker)}; the first is drawn first.
CODES = {
    "pcgrad": ("ours", "#D55E00", "o"),
    "torchjd": ("torchjd", "#56B4E9", "D"),
    "conflictfree": ("conflictfree", "#E69F00", "s"),
    "libmtl": ("LibMTL", "#009E73", "^"),
}
TABLES = tuple(f"table_{number}" for number in range(1, 9))
STAMP = (
    "effect: above 0 on the claimed side, with its 95% interval over seeds · "
    "ours, paper: the level with PCGrad where two methods are compared"
)
OURS, PAPER = "#0072B2", "#D55E00"


def scoreboard(results: Sequence[Results]) -> Figure:
    """Draw every claim by verdict, with its effect, our number and the paper's."""
    style()
    claims = ledger(results)
    numbers = {word: number for word, number in count(claims).items() if number}
    groups = [(word, claims[claims["verdict"] == word]) for word in numbers_in_order(numbers)]
    rows = sum(sum(heights(word, part)) + 1.4 for word, part in groups)
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
    stamp(fig, scales, STAMP)
    return fig


def sign_of(word: str) -> tuple[str, str]:
    """Color and sign of a verdict; an unknown word gets those of an open verdict."""
    return SIGNS.get(word, SIGNS[verdicts.INCONCLUSIVE])


def numbers_in_order(numbers: dict[str, int]) -> list[str]:
    """The verdicts that occur, in the order of SIGNS."""
    return sorted(numbers, key=lambda word: [*SIGNS, word].index(word))


def _counts(fig: Figure, numbers: dict[str, int]) -> None:
    """Draw a bar that is divided by verdict, with the number of claims of each."""
    height = fig.get_figheight()
    ax = fig.add_axes((0.02, 1 - 0.42 / height, 0.96, 0.34 / height))
    ax.set_axis_off()
    left, total = 0.0, sum(numbers.values())
    for word in numbers_in_order(numbers):
        number = numbers[word]
        ax.barh(0, number, left=left, color=sign_of(word)[0], edgecolor="white", height=1)
        style: dict[str, Any] = {"color": "white", "fontsize": 12, "weight": "bold"}
        ax.text(left + number / 2, 0, str(number), ha="center", va="center", **style)
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
    for line, height in zip(part.to_dict("records"), heights(word, part), strict=True):
        _mark(ax, 0.02, y + 1, line, word)
        _claim(ax, 0.14, y + 1, claim_lines(line, word))
        for x, text in _numbers(line).items():
            if text != render.DASH:
                ax.text(x, y + 1, text, fontsize=7, ha="right", va="center", family="DejaVu Sans")
        y += height
    return y + 0.5


def _numbers(line: Mapping[Hashable, Any]) -> dict[float, str]:
    """The texts of the columns effect, ours and paper, by their right ends."""
    return {
        0.70: render.significant(line["effect"], line["ci_low"], line["ci_high"], 2),
        0.85: render.significant(line["ours"], np.nan, np.nan),
        0.97: "" if np.isnan(line["paper"]) else f"{line['paper']:g}",
    }


def _untested(ax: Axes, y: float, part: pd.DataFrame) -> float:
    """Draw the claims that nothing tested in two columns; they have no number of ours."""
    tall = heights(NOT_TESTED, part)
    for number, line in enumerate(part.to_dict("records")):
        x, row = 0.5 * (number // len(tall)), y + 1 + sum(tall[: number % len(tall)])
        _mark(ax, x + 0.02, row, line, NOT_TESTED)
        _claim(ax, x + 0.14, row, claim_lines(line, NOT_TESTED))
    return y + sum(tall) + 0.5


def claim_lines(line: Mapping[Hashable, Any], word: str) -> list[str]:
    """The claim in lines that fit the width that its numbers leave."""
    claim = str(line["claim"])
    if word == NOT_TESTED:
        paper = "" if np.isnan(line["paper"]) else f" (paper:{chr(160)}{line['paper']:g})"
        return textwrap.wrap(claim + paper, HALF)
    free = all(text in ("", render.DASH) for text in _numbers(line).values())
    return textwrap.wrap(claim, WHOLE if free else BESIDE)


def heights(word: str, part: pd.DataFrame) -> list[float]:
    """The heights of a verdict's rows, in lines of one claim; two untested claims share a row."""
    tall = [1 + NEXT * (len(claim_lines(line, word)) - 1) for line in part.to_dict("records")]
    if word != NOT_TESTED:
        return tall
    half = -(-len(tall) // 2)
    return [max(tall[row::half]) for row in range(half)]


def _mark(ax: Axes, x: float, y: float, line: Mapping[Hashable, Any], word: str) -> None:
    """Draw the sign of the verdict and the place in the paper."""
    tint, sign = sign_of(word)
    ax.text(x, y, sign, color=tint, fontsize=9, va="center", weight="bold")
    ax.text(x + 0.02, y, line["source"], fontsize=7, va="center", color="gray")


def _claim(ax: Axes, x: float, y: float, lines: Sequence[str]) -> None:
    for number, words in enumerate(lines):
        ax.text(x, y + NEXT * number, words, fontsize=7.2, va="center")


def paper_numbers(results: Sequence[Results]) -> pd.DataFrame:
    """Every number of Tables 1 to 8 that we measured on real data, beside ours, once.

    It comes from the strongest scale that has it. Generated data are no evidence.
    """
    frames = [pd.DataFrame(columns=["table", "method", "task", "metric", "paper", "mean"])]
    for one in results:
        for name in (name for name in one.tables() if name in TABLES and is_real(one.footer(name))):
            table = one.table(name)
            # Differences "a - b" have derived numbers only.
            table = table[~table["method"].str.contains(" - ") & table["metric"].isin(QUANTITIES)]
            table = table.dropna(subset=["paper", "mean"])
            if len(table):
                frames.append(table.assign(table=name, scale=one.scale))
    lines = pd.concat(frames[1:] or frames, ignore_index=True)
    # Results are sorted, the strongest scale first.
    lines = lines.drop_duplicates(["table", "method", "task", "metric"])
    return lines.sort_values("table", key=lambda names: names.map(order), kind="stable")


def paper_against_ours(results: Sequence[Results]) -> Figure:
    """Draw a panel per table, task and quantity: the paper's number and ours of every method."""
    style()
    panels = list(paper_numbers(results).groupby(["table", "metric", "task"], sort=False))
    columns = min(3, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    longest = max((len(part) for _, part in panels), default=4)
    size = (max(5.0, 3.4 * columns), 0.9 + rows * (0.7 + 0.22 * longest))
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax, ((table, metric, task), part) in zip(axes.flat, panels, strict=False):
        heights = np.arange(len(part))[::-1]
        reach = [part["mean"] - part["ci_low"], part["ci_high"] - part["mean"]]
        ax.errorbar(part["mean"], heights, xerr=np.nan_to_num(reach), fmt="o", color=OURS)
        ax.plot(part["paper"], heights, "D", color=PAPER, fillstyle="none")
        ax.set_yticks(heights, [label(method) for method in part["method"]])
        ax.set_ylim(-0.5, len(part) - 0.5)
        where = str(table).replace("_", " ").title()
        ax.set_title(f"{where}{'' if task == 'all' else f', {task}'}: {QUANTITIES[str(metric)]}")
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    if not panels:
        axes[0, 0].text(0.5, 0.5, "no real data at this scale", ha="center", color="gray")
        return fig
    handles = [
        Line2D([], [], color=OURS, marker="o", label="ours, 95% interval over seeds"),
        Line2D([], [], color=PAPER, marker="D", linestyle="", fillstyle="none", label="the paper"),
    ]
    legend_above(fig, handles)
    return fig


def cost(table: pd.DataFrame) -> Figure:
    """Draw the cost of surgery alone, of `speed_cpu.csv`, over tasks T and parameters P.

    The unit of time is one read of the gradients; memory is counted without the gradients.
    """
    style()
    rows = table[(table["kind"] == "surgery") & table["median_ms"].notna()]
    sizes = sorted(rows["P"].unique())
    # More tasks than these are measured at few parameters only.
    tasks = sorted(rows.loc[rows["P"] == sizes[-1], "T"].unique())
    fig, axes = plt.subplots(2, 2, figsize=(8.2, 5.2), squeeze=False)
    big, many = sizes[-1], tasks[len(tasks) // 2]
    for code, (_, tint, mark) in CODES.items():
        line = {"color": tint, "marker": mark, "markersize": 4, "linewidth": 1.4, **_pale(code)}
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
        Line2D([], [], color=tint, marker=mark, label=name, **_pale(code))
        for code, (name, tint, mark) in CODES.items()
    ]
    legend_above(fig, handles)
    first = rows.iloc[0]
    machine = f"{first['machine']}, {first['threads']} thread(s)"
    stamp(fig, "benchmarks", f"surgery alone · {machine} · {first['date']}")
    return fig


def _pale(code: str) -> dict[str, Any]:
    """Ours is wide, pale and drawn first, so both curves are visible where another equals it."""
    return {"linewidth": 7, "markersize": 9, "alpha": PALE} if code == "pcgrad" else {}


def write(folders: Sequence[str | Path], out: Path, benchmarks: Path | None = None) -> None:
    """Write the overview figures as PNG and PDF into `out`."""
    results = read(folders)
    figures = {"scoreboard": scoreboard(results), "paper_against_ours": paper_against_ours(results)}
    if benchmarks is not None and benchmarks.is_file():
        figures["cost"] = cost(read_table(benchmarks))
    for name, fig in figures.items():
        save(fig, png=out / f"{name}.png", pdf=out / f"{name}.pdf", dpi=DPI)
