"""Figure 2: the projection of two gradients, drawn from vectors that the core computed."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.patheffects import withStroke

from reporting.figures import color, save, stamp, style
from system.reading import read_json

GREY = "#7F7F7F"
PLANE: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": (0, (5, 3)), "zorder": 1}


def arrow(
    ax: Axes,
    tip: list[float],
    text: str,
    shade: str,
    *,
    faded: bool = False,
    aside: np.ndarray | None = None,
) -> None:
    """Draw an arrow from the origin with its name beyond the tip, or `aside` of it.

    Vectors that the projection replaces are faded.
    """
    end = np.array(tip)
    away = end if aside is None else aside
    patch = FancyArrowPatch((0, 0), (tip[0], tip[1]), arrowstyle="-|>", shrinkA=0, shrinkB=0)
    patch.set(color=shade, linewidth=2.2, alpha=0.35 if faded else 1, mutation_scale=14, zorder=3)
    ax.add_patch(patch)
    x, y = end + 0.17 * away / np.linalg.norm(away)
    label = ax.text(x, y, text, color=shade, size=11, alpha=0.6 if faded else 1, zorder=4)
    label.set(ha="center", va="center")
    # The white outline keeps the name readable where it crosses a line.
    label.set_path_effects([withStroke(linewidth=3, foreground="white")])


def projection(
    ax: Axes, before: list[float], after: list[float], other: list[float], names: tuple[str, str]
) -> None:
    """Draw panel (b) or (c): a gradient, the normal plane of the other, and its projection."""
    i, j = names
    mine, others = (color(f"task_{'ij'.index(name) + 1}") for name in names)
    normal = np.array([-other[1], other[0]]) / np.linalg.norm(other)
    # Of the normal plane, draw the side on which the projection ends.
    line = np.outer((-0.2, 1.15), normal * np.sign(normal @ after))
    ax.plot(line[:, 0], line[:, 1], **PLANE)
    ax.plot(
        (before[0], after[0]),
        (before[1], after[1]),
        color="black",
        linewidth=1,
        linestyle=":",
        zorder=2,
    )
    arrow(ax, other, f"$g_{j}$", others)
    arrow(ax, before, f"$g_{i}$", mine, faded=True)
    aside = np.subtract(after, before)
    arrow(ax, after, f"$g_{i}^{{\\mathrm{{PC}}}}$", mine, aside=aside)


def schematic(vectors: dict[str, Any]) -> Figure:
    """Draw four panels: (a) a conflict, (b), (c) its projections, (d) a pair without conflict."""
    style()
    fig, axes = plt.subplots(1, 4, figsize=(8.2, 1.95), sharex=True, sharey=True)
    pair, free = vectors["conflicting"], vectors["not_conflicting"]
    for ax, case in ((axes[0], pair), (axes[3], free)):
        arrow(ax, case["g_i"], "$g_i$", color("task_1"))
        arrow(ax, case["g_j"], "$g_j$", color("task_2"))
    projection(axes[1], pair["g_i"], pair["g_i_pc"], pair["g_j"], ("i", "j"))
    projection(axes[2], pair["g_j"], pair["g_j_pc"], pair["g_i"], ("j", "i"))
    # The title states what the core computed, not what is expected of it.
    unchanged = free["g_i"] == free["g_i_pc"] and free["g_j"] == free["g_j_pc"]
    titles = (
        f"(a) cos φ = {pair['cosine']:.2f}: conflict",
        "(b) $g_i$ onto the normal plane of $g_j$",
        "(c) $g_j$ onto the normal plane of $g_i$",
        f"(d) cos φ = {free['cosine']:.2f}: " + ("unchanged" if unchanged else "changed"),
    )
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=8)
        ax.set(aspect="equal", xlim=(-0.8, 1.2), ylim=(-0.2, 1.1))
        ax.axis("off")
    stamp(fig, vectors["scale"], "vectors computed by pcgrad.project_conflicting")
    return fig


def write(vectors: str, *, png: str, pdf: str) -> None:
    """Read the vectors and write the figure."""
    save(schematic(read_json(Path(vectors), "make it again")), png=png, pdf=pdf)
