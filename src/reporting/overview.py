"""Draws three figures over all results: the claims, the paper's numbers against ours, the cost."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
ROW = 0.24  # height of a row of the scoreboard in inches
# Where a row's squares begin, and their distance, in widths of a column.
SQUARES, SQUARE = 0.555, 0.0285
CENTER: dict[str, Any] = {"ha": "center", "va": "center"}
OURS_ALONE = "ours, beyond the paper"
# {subject: {place in the paper: what it shows}}; sources that are not named here are ours.
SUBJECTS: dict[str, dict[str, str]] = {
    "optimization landscape": {"Figure 1": "two tasks, Adam", "Figure 2": "the projection"},
    "supervised learning": {
        "Table 1": "NYUv2", "Table 2": "CIFAR-100 as 20 tasks", "Table 3": "CelebA",
        "Table 4": "MultiMNIST", "Table 5": "CityScapes", "Table 6": "NYUv2, architectures",
        "Table 7": "CityScapes, weightings", "Table 8": "NYUv2, weightings",
        "Figure 5": "NYUv2, generalization", "Section 5": "cost of training",
    },
    OURS_ALONE: {},
    "reinforcement learning": {
        "Figure 3": "MT10 and MT50", "Figure 4": "conflict and curvature",
        "Figure 6": "pushing to goals", "Figure 7": "CosReg on MT10", "Figure 8": "order of tasks",
        "Figure 9": "multi-head SAC", "Figure 10": "the 50 tasks",
    },
    "theory": {
        "Theorem 1": "two convex tasks", "Proposition 1": "without convexity",
        "Corollary 1": "more than two tasks", "Theorem 2": "a step ends lower if …",
        "Theorem 3": "… only if", "Theorem 4": "rate with momentum",
        "Section 2.4": "minibatch noise",
    },
}  # fmt: skip
COLUMNS = (
    ("optimization landscape", "supervised learning", OURS_ALONE),
    ("reinforcement learning", "theory"),
)
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
OURS, PAPER = "#0072B2", "#D55E00"


def scoreboard(results: Sequence[Results]) -> Figure:
    """Draw a row per figure, table and theorem, with a square for each of its claims."""
    style()
    claims = ledger(results)
    columns = [rows_of(claims, subjects) for subjects in COLUMNS]
    most = max(len(rows) for rows in columns)
    fig = plt.figure(figsize=(9.6, ROW * most + 1.2))
    # The axes are placed by hand, so that both columns have rows of the same height.
    fig.set_layout_engine("none")
    height = fig.get_figheight()
    _counts(fig, {word: number for word, number in count(claims).items() if number})
    for place, rows in enumerate(columns):
        ax = fig.add_axes((0.02 + 0.49 * place, 0.25 / height, 0.47, ROW * most / height))
        ax.set_axis_off()
        ax.set_xlim(0, 1)
        ax.set_ylim(most - 0.5, -0.5)
        for y, (source, words, found) in enumerate(rows):
            text: dict[str, Any] = {"fontsize": 8.5 if found else 9.5, "va": "center"}
            ax.text(0, y, source, **text, color="gray")
            ax.text(0.195 if found else 0, y, words, **text, weight="normal" if found else "bold")
            for number, word in enumerate(sorted(found, key=[*SIGNS].index)):
                tint, sign = SIGNS[word]
                x = SQUARES + SQUARE * number
                ax.scatter(x, y, s=66, marker="s", color=tint, linewidth=0, clip_on=False)
                ax.text(x, y, sign, color="white", weight="bold", fontsize=7, **CENTER)
    stamp(fig, ", ".join(dict.fromkeys(claims["scale"])), "a square is a claim")
    return fig


def rows_of(claims: pd.DataFrame, subjects: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Source, words and the verdicts of its claims, below a row for each subject."""
    rows: list[tuple[str, str, list[str]]] = []
    for subject in subjects:
        words = SUBJECTS[subject]
        if subject == OURS_ALONE:
            words = {source: source.removeprefix("Ours, ") for source in sorted(others(claims))}
        found = {source: list(claims[claims["source"] == source]["verdict"]) for source in words}
        if any(found.values()):
            rows.append(("", subject, []))
        # "Ours, CamVid" is told by its row's words.
        rows += [(one.partition(",")[0], words[one], found[one]) for one in words if found[one]]
    return rows


def others(claims: pd.DataFrame) -> set[str]:
    """The sources of claims that are no figure, table or theorem of the paper."""
    return set(claims["source"]) - {source for words in SUBJECTS.values() for source in words}


def _counts(fig: Figure, numbers: dict[str, int]) -> None:
    """Draw a bar that is divided by verdict, with the number of claims of each."""
    height = fig.get_figheight()
    ax = fig.add_axes((0.02, 1 - 0.42 / height, 0.96, 0.34 / height))
    ax.set_axis_off()
    left, total = 0.0, sum(numbers.values())
    for word in sorted(numbers, key=[*SIGNS].index):
        number = numbers[word]
        ax.barh(0, number, left=left, color=SIGNS[word][0], edgecolor="white", height=1)
        if number > total / 50:  # a narrower part has no room for its number
            middle = left + number / 2
            ax.text(middle, 0, str(number), color="white", fontsize=12, weight="bold", **CENTER)
        left += number
    ax.set_xlim(0, total)
    items = [
        f"{SIGNS[word][1]} {numbers[word]} {word.removesuffix(' at this scale')}"
        for word in sorted(numbers, key=[*SIGNS].index)
    ]
    # Lines break between verdicts only: chr(160) is the space that does not break.
    words = textwrap.fill("   ".join(item.replace(" ", chr(160)) for item in items), 170)
    fig.text(0.02, 1 - 0.52 / height, words, fontsize=7.8, va="top")


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
    stamp(fig, "", f"surgery alone · {machine} · {first['date']}")
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
