"""Figure 4: curvature, conflict and return of two tasks learned by SAC, with and without PCGrad."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from reporting.figures import (
    band,
    color,
    intervals,
    legend_above,
    save,
    seed_handle,
    stamp,
    style,
    without_runs,
)
from reporting.labels import label, seeds_text
from reporting.runs import Runs, read_runs

SMOOTH = 5  # collections of the running mean
NETWORKS = ("actor", "q1", "q2")
# {metric: (style of its line, label)}; (a) is Theorem 2's first condition, cos φ ≤ −Φ.
SHARES: dict[str, tuple[Any, str]] = {
    "cosine_positive_share": ("-", "no conflict (cos φ > 0)"),
    "condition_a_share": ("--", "in conflict: (a) holds"),
    "xi_le_1_share": (":", "in conflict: ξ ≤ 1"),
}
CIRCLES: dict[str, Any] = {"marker": "o", "linestyle": "", "fillstyle": "none", "markersize": 4}
SMALL = 100  # the size of returns while a task is not learned; the axis is linear below it
LINEAR = 1e-2  # the axis of signed curvatures is linear below this size and logarithmic above


def over_networks(runs: Runs, method: str, metric: str, networks: tuple[str, ...]) -> pd.DataFrame:
    """The metric's mean over the networks in which it is defined: columns seed, step, value."""
    names = [f"{metric}_{network}" for network in networks]
    rows = runs.select(method=method, task="all")
    rows = rows[rows["metric"].isin(names)]
    return rows.groupby(["seed", "step"])["value"].mean().reset_index()


def curvature_panel(ax: Axes, runs: Runs, methods: list[str]) -> None:
    """Draw Section 5.3's estimate as lines, and Definition 3's unweighted form as circles."""
    top = LINEAR
    for networks, line in ((("q1", "q2"), "-"), (("actor",), "--")):
        for method in methods:
            frame = over_networks(runs, method, "curvature_remainder", networks)
            other = over_networks(runs, method, "curvature_definition3", networks)
            top = max(top, frame["value"].max())
            for one in (frame, other):
                smooth = one.groupby("seed")["value"].transform(running_mean)
                # Average on the scale of the axis, because the values span orders of magnitude.
                one["value"] = np.arcsinh(smooth / LINEAR)
            band(ax, frame, method, linestyle=line)
            dots = intervals(other).iloc[SMOOTH - 1 :: max(1, len(frame["step"].unique()) // 8)]
            ax.plot(dots["step"], dots["center"], color=color(method), **CIRCLES)
    powers = [power for power in range(0, 12, 2) if 10.0**power <= 10 * top]
    ax.set_yticks([0.0, *(np.arcsinh(10.0**power / LINEAR) for power in powers)])
    ax.set_yticklabels(["0", *(f"$10^{{{power}}}$" for power in powers)])
    ax.set_title("(a) curvature along the update")
    handles = [
        Line2D([], [], color="black", linestyle="-", label="critics"),
        Line2D([], [], color="black", linestyle="--", label="actor"),
        Line2D([], [], color="black", label="Definition 3", **CIRCLES),
    ]
    ax.legend(handles=handles, loc="lower right")


def running_mean(values: "pd.Series[float]") -> "pd.Series[float]":
    """The running mean over the last SMOOTH collections."""
    return values.rolling(SMOOTH, min_periods=1).mean()


def shares_panel(ax: Axes, runs: Runs, methods: list[str]) -> None:
    """Draw the paper's three percentages, averaged over actor and critics."""
    for metric, (line, _) in SHARES.items():
        for method in methods:
            frame = over_networks(runs, method, metric, NETWORKS)
            frame["value"] *= 100
            # Six shades overlap, so they are faint.
            band(ax, frame, method, smooth=SMOOTH, linestyle=line, limits=(0, 100), shade=0.06)
    ax.set_ylim(0, 103)
    ax.set_title("(b) how often, %")
    handles = [
        Line2D([], [], color="black", linestyle=line, label=words)
        for line, words in SHARES.values()
    ]
    ax.legend(handles=handles, loc="lower right")


def return_panel(ax: Axes, runs: Runs, methods: list[str], task: str) -> None:
    """Draw the mean of a task's returns, and every seed: some learn the task and others do not."""
    for method in methods:
        frame = runs.select(method=method, task=task, metric="return")
        band(ax, frame, method, smooth=SMOOTH, single=True)


def figure_4(runs: Runs) -> Figure:
    """Draw three panels as in the paper.

    The third has one axis per task, because the returns differ by orders of magnitude.
    """
    style()
    if not runs.infos:
        return without_runs()
    settings = runs.infos[0]["settings"]
    tasks = settings["tasks"]
    methods = sorted({info["method"] for info in runs.infos})
    fig = plt.figure(figsize=(8.2, 3.3))
    grid = fig.add_gridspec(len(tasks), 3)
    left, middle = fig.add_subplot(grid[:, 0]), fig.add_subplot(grid[:, 1])
    curvature_panel(left, runs, methods)
    shares_panel(middle, runs, methods)
    right = [fig.add_subplot(grid[row, 2]) for row in range(len(tasks))]
    for number, (ax, task) in enumerate(zip(right, tasks, strict=True), start=1):
        return_panel(ax, runs, methods, task)
        ax.set_title(
            f"{'(c) return: ' if number == 1 else ''}task {number}, {task.removesuffix('-v3')}"
        )
        if number > 1:
            # One seed's success would hide another's of a thirtieth of its return.
            ax.set_yscale("symlog", linthresh=SMALL, linscale=0.5)
            ax.set_yticks([0, *(10.0**power for power in range(3, 6))])
            ax.minorticks_off()
            ax.set_ylabel(f"log beyond ±{SMALL}", fontsize=8)
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    for ax in right[:-1]:
        ax.tick_params(labelbottom=False)
    for ax in (left, middle, right[-1]):
        ax.set_xlabel(f"collections of {settings['samples_per_collection']} samples per task")
    for ax in (left, middle, *right):
        ax.set_xlim(0, settings["collections"])
    handles = [Line2D([], [], color=color(method), label=label(method)) for method in methods]
    legend_above(fig, handles + seed_handle(fig))
    seeds = {seed for info in runs.infos for seed in info["seeds"]}
    stamp(
        fig,
        runs.infos[0]["scale"],
        f"{settings['updates_per_collection']} updates per collection, {seeds_text(len(seeds))}",
    )
    return fig


def write(paths: list[str], *, png: str, pdf: str) -> None:
    """Read the runs' metrics.csv and write the figure."""
    save(figure_4(read_runs(paths)), png=png, pdf=pdf)
