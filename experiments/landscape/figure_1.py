"""Figure 1: the landscape of Appendix D and the paths of Adam and Adam + PCGrad on it."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.patheffects import withStroke

from reporting.figures import color, save, stamp, style
from reporting.labels import label
from system.reading import read_arrays, read_json

Arrays = dict[str, np.ndarray]

LEVELS = np.arange(-110, 71, 15)
# Black to yellow as in the paper. The losses are pale, so both ends are visible on them.
TIME = LinearSegmentedColormap.from_list("time", ["#000000", "#7A1C10", "#D55E00", "#FFE100"])
LOSS = LinearSegmentedColormap.from_list("loss", ["#2F557D", "#86A9C7", "#D3E0EA", "#F7F9FB"])
START: dict[str, Any] = {
    "marker": "o",
    "s": 28,
    "facecolor": "white",
    "edgecolor": "black",
    "zorder": 6,
}
END: dict[str, Any] = {"marker": "*", "s": 70, "edgecolor": "black", "linewidth": 0.6, "zorder": 8}


def contours(ax: Axes, surface: Arrays, loss: np.ndarray) -> QuadContourSet:
    """Draw filled contours of one loss [θ2, θ1]."""
    drawn = ax.contourf(
        surface["theta1"], surface["theta2"], loss, LEVELS, cmap=LOSS, extend="both"
    )
    ax.set_xlim(surface["theta1"][0], surface["theta1"][-1])
    ax.set_ylim(surface["theta2"][0], surface["theta2"][-1])
    ax.set_aspect("equal")
    ax.grid(False)
    return drawn


def path(ax: Axes, points: np.ndarray, update: np.ndarray) -> LineCollection:
    """Draw a trajectory [K, 2], black at its first and yellow at its last update."""
    # One color per update needs one line per segment.
    segments = np.stack((points[:-1], points[1:]), axis=1)
    ax.plot(
        # A black line below makes an outline; as vectors, thousands of points would fill the PDF.
        *points.T,
        color="black",
        linewidth=4.4,
        solid_capstyle="round",
        zorder=3,
        rasterized=True,
    )
    line = LineCollection(
        list(segments), cmap=TIME, linewidths=3, capstyle="round", rasterized=True, zorder=4
    )
    line.set_array(update[1:])
    line.set_clim(0, update[-1])
    ax.add_collection(line)
    return line


def arrows(ax: Axes, run: dict[str, Any]) -> None:
    """Draw the descent directions −∇L1, −∇L2 at the end point.

    The lengths are logarithmic in the norms; the legend gives the norms.
    """
    # Nearly parallel arrows would hide each other, so they are drawn side by side.
    same_way = (run["cosine"] or 0) > 0.95
    for task, side in ((1, 1), (2, -1)):
        norm = run[f"g{task}_norm"]
        # On the floor the gradient is zero and has no direction.
        if norm == 0:
            continue
        x, y = -np.array(run[f"g{task}"]) / norm
        tail = np.array(run["end"]) + same_way * side * 0.3 * np.array([-y, x])
        # Logarithmic, because the norms differ by orders of magnitude.
        tip = tail + 0.7 * (1 + np.log10(1 + norm)) * np.array([x, y])
        arrow = FancyArrowPatch(
            (tail[0], tail[1]), (tip[0], tip[1]), arrowstyle="-|>", shrinkA=0, shrinkB=0, zorder=7
        )
        arrow.set(color=color(f"task_{task}"), linewidth=2, mutation_scale=9, clip_on=False)
        arrow.set_path_effects([withStroke(linewidth=3.2, foreground="white")])
        ax.add_patch(arrow)


def trajectory(
    ax: Axes, surface: Arrays, points: np.ndarray, update: np.ndarray, run: dict[str, Any]
) -> LineCollection:
    """Draw panel (d) or (e): the path on L, the task gradients at its end, and the verdict."""
    contours(ax, surface, surface["losses"].sum(0))
    line = path(ax, points, update)
    arrows(ax, run)
    ax.scatter(*run["start"], **START)
    ax.scatter(*run["end"], facecolor=TIME(1.0), **END)
    handles = []
    for task, name in ((1, "−∇L₁"), (2, "−∇L₂")):
        words = f"{name} at the end, length {run[f'g{task}_norm']:,.0f}"
        handles.append(Line2D([], [], color=color(f"task_{task}"), linewidth=2.2, label=words))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.22), fontsize=7)
    return line


def all_starts(
    ax: Axes, surface: Arrays, theta: np.ndarray, variants: list[str], starts: np.ndarray
) -> None:
    """Draw panel (f), which is not in the paper: the paths from every start, by method."""
    contours(ax, surface, surface["losses"].sum(0))
    # Reversed, so that the first method is drawn on top.
    for v, variant in reversed(list(enumerate(variants))):
        look: dict[str, Any] = {"color": color(variant), "linewidth": 1, "zorder": 3 + (v == 0)}
        for s in range(len(starts)):
            ax.plot(*theta[:, v, s].T, rasterized=True, **look)
            ax.scatter(*theta[-1, v, s], facecolor=color(variant), **END)
    ax.scatter(*starts.T, **{**START, "s": 14, "zorder": 5})


def count(summary: dict[str, Any], variant: str) -> str:
    """The number of starts that end at the joint optimum, for the legend."""
    reached = summary["reached_joint_optimum"]
    return f"{label(variant)}: {reached[variant]} of {reached['starts']} at the joint optimum"


def landscape(surface: Arrays, trajectories: Arrays, summary: dict[str, Any]) -> Figure:
    """Draw panels (a) to (e) as in the paper, and (f) with the paths from all starts."""
    style()
    fig, axes = plt.subplots(2, 3, figsize=(8.6, 5.6), sharex=True, sharey=True)
    variants = trajectories["variants"].tolist()
    update = trajectories["update"]
    theta = trajectories["theta"]
    both = surface["losses"].sum(0)
    for ax, loss, title in zip(
        axes[0], (both, *surface["losses"]), ("L = L₁ + L₂", "L₁", "L₂"), strict=True
    ):
        drawn = contours(ax, surface, loss)
        ax.set_title(title)
    fig.colorbar(drawn, ax=axes[0], label="loss", ticks=LEVELS[1::3], aspect=25, pad=0.01)
    for ax, variant in zip(axes[1], variants, strict=False):
        points = theta[:, variants.index(variant), 0]
        line = trajectory(ax, surface, points, update, summary["runs"][variant][0])
        ax.set_title(f"{label(variant)}: {summary['runs'][variant][0]['verdict']}")
    bar = fig.colorbar(
        line, ax=axes[1], label="update", aspect=25, pad=0.01, ticks=np.linspace(0, update[-1], 6)
    )
    bar.ax.set_yticklabels([f"{round(tick):,}" for tick in np.linspace(0, update[-1], 6)])
    all_starts(axes[1, 2], surface, theta, variants, trajectories["starts"])
    axes[1, 2].set_title(f"{len(trajectories['starts'])} starts (not in the paper)")

    for ax, letter in zip(axes.flat, "abcdef", strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", loc="left")
        ax.set_title("")
    for ax in axes[1]:
        ax.set_xlabel("θ₁")
    for ax in axes[:, 0]:
        ax.set_ylabel("θ₂")
    counts = [
        Line2D([], [], color=color(variant), linewidth=1.5, label=count(summary, variant))
        for variant in variants
    ]
    axes[1, 2].legend(handles=counts, loc="upper center", bbox_to_anchor=(0.5, -0.22), fontsize=7)
    stamp(
        fig,
        summary["scale"],
        f"{update[-1]:,} updates, start {tuple(trajectories['starts'][0].tolist())}",
    )
    return fig


def write(surface: str, trajectories: str, summary: str, *, png: str, pdf: str) -> None:
    """Read the three files of the landscape and write the figure."""
    remedy = "make it again"
    grid, paths = (read_arrays(Path(name), remedy) for name in (surface, trajectories))
    save(landscape(grid, paths, read_json(Path(summary), remedy)), png=png, pdf=pdf)
