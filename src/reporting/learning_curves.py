"""Draws learning curves of multi-task RL: a metric against environment steps, in panels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from reporting import reported
from reporting.figures import (
    band,
    color,
    legend_above,
    save,
    seed_handle,
    side_by_side,
    stamp,
    style,
)
from reporting.labels import label, seeds_text
from reporting.runs import Runs, read_runs
from reporting.statistics import iqm
from reporting.tables import EVALUATIONS

SMOOTH = 10  # collections of the running mean; evaluations have the tables' number
FEW = 10  # curves with fewer collections get dots, because a single point draws no line
PANEL = (2.75, 2.5)  # width and height of a panel in inches
MIDDLE = "interquartile mean"  # the id of its lines
END = "paper's end"  # the id of the paper's numbers
BUDGETS = {"MT10": "5M", "MT50": "20M"}  # environment steps of the paper's curves
MARGIN = 0.55  # width in inches of the paper's numbers beside a panel
SHARE = (-0.03, 1.03)  # limits for shares; curves at 0 and 1 stay clear of the frame


@dataclass(frozen=True)
class Panel:
    """One comparison of methods.

    `metric` is taken from the evaluations of the deterministic policy; from training if the runs
    have no evaluations.
    """

    experiment: str
    title: str
    methods: tuple[str, ...]
    metric: str = "success"
    words: str = "success, mean over tasks"
    task: str = "all"
    limits: tuple[float | None, float | None] = SHARE
    paper: str = ""  # group of Figure 3's numbers that are drawn: MT10 or MT50

    @property
    def has_middle(self) -> bool:
        """Whether the panel shows a mean over tasks.

        A few tasks can dominate such a mean, so the interquartile mean is drawn as well.
        """
        return self.task == "all" and self.metric == "success"

    @property
    def possible(self) -> tuple[float, float]:
        """The smallest and the largest possible value, at which intervals end."""
        if self.limits == SHARE:
            return 0.0, 1.0
        low, high = self.limits
        return -np.inf if low is None else low, np.inf if high is None else high


def paper_ends(group: str, methods: Sequence[str]) -> list[tuple[str, float, bool]]:
    """(method, success at the end, whether the text says "less than") of Figure 3."""
    frame = reported.read("figures")
    frame = frame[
        (frame["source"] == "figure_3") & (frame["group"] == group) & (frame["column"] == "success")
    ]
    found = {line["row"]: line for line in frame.to_dict("records")}
    lines = [(method, found[label(method)]) for method in methods if label(method) in found]
    return [(method, line["value"] / 100, line["note"] == "less than") for method, line in lines]


def measured(runs: Runs, metric: str) -> str:
    """`evaluation_<metric>` if the runs record it, else `<metric>`."""
    evaluated = f"evaluation_{metric}"
    return evaluated if (runs.frame["metric"] == evaluated).any() else metric


def curve(runs: Runs, method: str, task: str, metric: str) -> pd.DataFrame:
    """The metric against the environment steps of all tasks: columns seed, steps, value."""
    rows = runs.select(method=method, task=task, metric=metric)[["seed", "step", "value"]]
    steps = runs.select(method=method, task="all", metric="environment_steps")
    steps = steps[["seed", "step", "value"]].rename(columns={"value": "steps"})
    return rows.merge(steps, on=["seed", "step"])


def window(experiment: str, metric: str) -> int:
    """The number of values of the running mean: that of the tables for evaluations."""
    return EVALUATIONS.get(experiment, SMOOTH) if metric.startswith("evaluation_") else SMOOTH


def middle(runs: Runs, method: str, metric: str, smooth: int = SMOOTH) -> pd.DataFrame:
    """The interquartile mean over all tasks and seeds at once: columns steps, value.

    It averages the running means of the single curves. It is empty if the runs have no metric per
    task.
    """
    tasks = [
        task for task in runs.select(method=method, metric=metric)["task"].unique() if task != "all"
    ]
    if not tasks:
        return pd.DataFrame(columns=["steps", "value"])
    frame = pd.concat(
        [curve(runs, method, task, metric).assign(task=task) for task in tasks], ignore_index=True
    )
    values = frame.sort_values("step", kind="stable").groupby(["task", "seed"])["value"]
    frame["value"] = values.transform(lambda v: v.rolling(smooth, min_periods=1).mean())
    rows = [(steps, iqm(group["value"])) for steps, group in frame.groupby("steps")]
    return pd.DataFrame(rows, columns=["steps", "value"])


def draw(ax: Axes, panel: Panel, runs: Runs) -> list[str]:
    """Draw one panel and return the methods that have runs."""
    runs = runs.of(panel.experiment)
    metric = measured(runs, panel.metric)
    smooth = window(panel.experiment, metric)
    present = [
        m for m in panel.methods if not runs.select(method=m, task=panel.task, metric=metric).empty
    ]
    seeds = runs.frame.groupby("method")["seed"].nunique()
    several = [method for method in present if seeds[method] > 1]
    # Intervals of a few successes reach over the whole panel, and a mean hides which seeds have
    # it; lines of more methods would cover each other.
    single = panel.metric == "success" and len(several) <= 2
    groups = []
    for method in present:
        frame = curve(runs, method, panel.task, metric)
        few = frame["steps"].nunique() < FEW
        count = len(ax.lines)
        band(
            ax,
            frame,
            method,
            x="steps",
            smooth=smooth,
            marker="." if few else "",
            single=single,
            limits=panel.possible,
        )
        if panel.has_middle:
            inner = middle(runs, method, metric, smooth)
            if len(inner):
                ax.plot(
                    inner["steps"],
                    inner["value"],
                    color=color(method),
                    linestyle="--",
                    linewidth=0.8,
                    gid=MIDDLE,
                )
        groups.append(ax.lines[count:])
    # Only of methods that are drawn: the legend names no other color.
    if panel.paper:
        draw_ends(ax, panel.paper, paper_ends(panel.paper, present))
    ax.set_title(panel.title)
    ax.set_xlabel("environment steps, all tasks")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.ticklabel_format(axis="y", useOffset=False)
    low, high = panel.limits
    top = ax.dataLim.y1
    # matplotlib's automatic end leaves no margin above a curve that is far from `low`.
    if low is not None and high is None and np.isfinite(top):
        high = low + (1.08 * (top - low) or 1.0)
    ax.set_ylim(low, high)
    ax.margins(x=0.02)
    if fig := ax.get_figure(root=True):
        side_by_side(fig, groups)
    return present


def draw_ends(ax: Axes, group: str, ends: Sequence[tuple[str, float, bool]]) -> None:
    """Draw the paper's ends as dotted lines, with the numbers to the right of the axes.

    The paper trains for longer, so a mark within the axes would be read as a value at its place.
    """
    for turn, (method, value, below) in enumerate(ends):
        # Shifted dots keep equal numbers of several methods visible.
        ax.axhline(value, color=color(method), linestyle=(2 * turn, (1, 5)), linewidth=1.2, gid=END)
        same = [other for other, number, _ in ends if number == value]
        ax.annotate(
            f"paper at\n{BUDGETS[group]}: {'< ' if below else ''}{value:.1f}",
            (1.0, value),
            (4, 18 * ((len(same) - 1) / 2 - same.index(method))),
            ax.get_yaxis_transform(),
            "offset points",
            color=color(method),
            fontsize=7,
            va="center",
            annotation_clip=False,
        )


def draw_nothing(ax: Axes, panel: Panel, runs: Runs) -> None:
    """Draw an empty panel that says why: one method of a comparison answers nothing."""
    ran = {info["method"] for info in runs.of(panel.experiment).infos} & {*panel.methods}
    why = "no runs at this scale"
    if len(ran) >= min(2, len(panel.methods)):
        # Measures of conflicts are undefined in runs without conflicts.
        why = "undefined in all runs"
    elif ran:
        why += "\n" + "\n".join(f"of {label(m)}" for m in panel.methods if m not in ran)
    ax.set_title(panel.title)
    ax.set_xlabel("environment steps, all tasks")
    ax.set_xticks([])
    ax.set_ylim(*panel.limits)
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color="gray")


def has_runs(panel: Panel, runs: Runs) -> bool:
    """Whether the panel has something to compare: values of two methods, if it is about several."""
    own = runs.of(panel.experiment)
    rows = own.select(task=panel.task, metric=measured(own, panel.metric)).dropna(subset=["value"])
    return len({*rows["method"]} & {*panel.methods}) >= min(2, len(panel.methods))


def figure(panels: Sequence[Panel], runs: Runs, *, columns: int | None = None) -> Figure:
    """Draw all panels that have runs, with one legend; without runs, one panel that says so.

    The stamp counts the runs that are drawn.
    """
    style()
    filled = [panel for panel in panels if has_runs(panel, runs)]
    panels = filled or panels[:1]
    columns = min(columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    wide = PANEL[0] + (MARGIN if any(panel.paper for panel in filled) else 0.0)
    size = (max(5.0, wide * columns), 0.6 + PANEL[1] * rows)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    shown: list[str] = []
    drawn: set[tuple[str, str]] = set()
    for number, (ax, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        if filled:
            present = draw(ax, panel, runs)
        else:
            draw_nothing(ax, panel, runs)
            present = []
        drawn |= {(panel.experiment, method) for method in present}
        shown += [method for method in present if method not in shown]
        # Label the vertical axis once per row, and wherever the quantity changes.
        if number % columns == 0 or panel.words != panels[number - 1].words:
            ax.set_ylabel(panel.words)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    handles = [Line2D([], [], color=color(method), label=label(method)) for method in shown]
    handles += seed_handle(fig)
    if any(line.get_gid() == MIDDLE for ax in axes.flat for line in ax.get_lines()):
        words = "interquartile mean over tasks and seeds"
        handles.append(Line2D([], [], color="gray", linestyle="--", linewidth=0.8, label=words))
    if handles:
        legend_above(fig, handles)
    infos = [info for info in runs.infos if (info["experiment"], info["method"]) in drawn]
    # The scale is known from any run, also from those that are not drawn.
    if runs.infos:
        stamp(fig, runs.infos[0]["scale"], note(infos))
    return fig


def note(infos: Sequence[dict[str, Any]]) -> str:
    """The seeds and updates of a figure's runs, by experiment."""
    words = []
    for experiment in sorted({info["experiment"] for info in infos}):
        group = [info for info in infos if info["experiment"] == experiment]
        seeds: dict[str, set[int]] = {}
        for info in group:
            seeds.setdefault(info["method"], set()).update(info["seeds"])
        counts = sorted({len(few) for few in seeds.values()})
        settings = group[0]["settings"]
        name = experiment.removeprefix("metaworld_").replace("_", " ")
        samples, updates = settings["samples_per_collection"], settings["updates_per_collection"]
        words.append(
            f"{name}: {f'{counts[0]} to ' if counts[1:] else ''}{seeds_text(counts[-1])}, "
            f"{samples} samples and {updates} updates per collection"
        )
    return " · ".join(words)


def write(
    panels: Sequence[Panel], paths: Sequence[str], *, png: str, pdf: str, columns: int | None = None
) -> None:
    """Read the runs' metrics.csv and write the figure."""
    save(figure(panels, read_runs(paths), columns=columns), png=png, pdf=pdf)
