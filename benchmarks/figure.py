"""The benchmark's figure: the cost of gradient surgery in training, and its growth with tasks."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reporting.figures import PALE, color, style
from reporting.labels import GRAY, PALETTE

# Color, mark and label of each code. The peers' colors are this figure's alone.
MARKS = {
    # First, so that it is drawn below the others, larger than they are.
    "pcgrad": (color("pcgrad"), "o", "ours"),
    "literal": (GRAY, "x", "literal Algorithm 1"),
    "conflictfree": (PALETTE["orange"], "s", "conflictfree"),
    "libmtl": (PALETTE["green"], "^", "LibMTL"),
    "torchjd": (PALETTE["sky"], "D", "torchjd"),
    "bound": (PALETTE["black"], "|", "T task gradients alone"),
}
SIZE = 10**6  # the size of the right panel, nearest to the networks'


def times(value: float, _: int = 0) -> str:
    """Format a tick as a multiple: 1×, 1.5×, 20×."""
    return f"{value:g}×"


def steps_panel(ax: Axes, table: pd.DataFrame) -> None:
    """Draw one row per network and one mark per code, with our ratio as text."""
    cases = list(dict.fromkeys(table["case"]))
    for row, name in enumerate(cases):
        case = table[table["case"] == name].set_index("code")
        for code, (hue, marker, _) in MARKS.items():
            if code in case.index and case.loc[code, "repeats"] > 0:
                ratio = float(case.loc[code, "ratio"])
                ax.plot(ratio, row, marker, color=hue,
                        markersize={"pcgrad": 10, "bound": 16}.get(code, 5))  # fmt: skip
                if code == "pcgrad":
                    ax.annotate(f"{ratio:.2f}×", (ratio, row), (0, -13), textcoords="offset points",
                                ha="center", fontsize=7, color=hue)  # fmt: skip
    ax.axvline(1, color="black", linewidth=1)
    labels = [f"{name}\n{table[table['case'] == name]['T'].iloc[0]} tasks" for name in cases]
    ax.set_yticks(range(len(cases)), labels, fontsize=7)
    ax.set_ylim(len(cases) - 0.4, -0.6)
    ax.set_xscale("log")
    ax.set_xlabel("time of one step / plain step without surgery")
    ax.set_title("(a) a whole training step: left is better")
    ticks(ax.xaxis)


def surgery_panel(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the time of surgery, in reads of the gradients, against the number of tasks."""
    for code, (hue, marker, _) in MARKS.items():
        if code not in set(table["code"]):
            continue
        rows = table[(table["code"] == code) & (table["repeats"] > 0)].sort_values("T")
        # Ours is wide and pale, so that an equal curve is visible on it.
        if code == "pcgrad":
            ax.plot(rows["T"], rows["ratio"], color=hue, linewidth=5, alpha=PALE)
        look = {"linestyle": "", "markersize": 8} if code == "pcgrad" else {"markersize": 4}
        ax.plot(rows["T"], rows["ratio"], marker=marker, color=hue, **look)
    ax.axhline(1, color="black", linewidth=1)
    counts = sorted(table["T"].unique())
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("tasks")
    ax.set_ylabel("time / two reads of the gradients")
    ax.set_title(f"(b) surgery alone, $10^{{{round(np.log10(table['P'].iloc[0]))}}}$ values")
    ticks(ax.yaxis)


def ticks(axis: "plt.matplotlib.axis.Axis") -> None:  # type: ignore[name-defined]
    """Set ticks at 1, 2, 5, 10, ... with a multiplication sign."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(times))
    axis.set_minor_formatter(NullFormatter())


def draw(table: pd.DataFrame) -> Figure:
    """Draw the two panels, omitting a panel without measurements."""
    style()
    surgery = table[table["kind"] == "surgery"]
    # The right panel shows one size; the distance between sizes is measured in orders of magnitude.
    if len(surgery):
        nearest = min(surgery["P"].unique(), key=lambda size: abs(np.log(size / SIZE)))
        surgery = surgery[surgery["P"] == nearest]
    steps = table[table["kind"] == "step"]
    panels = [(steps_panel, steps, 1.4), (surgery_panel, surgery, 1.0)]
    panels = [panel for panel in panels if len(panel[1])]
    rows = steps["case"].nunique()
    fig, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), max(3.0, 0.9 + 0.4 * rows)), squeeze=False,
        width_ratios=[width for *_, width in panels],
    )  # fmt: skip
    for ax, (panel, rows_of, _) in zip(axes[0], panels, strict=True):
        panel(ax, rows_of)
    handles = []
    for code, (hue, marker, words) in MARKS.items():
        if code in set(table["code"]):
            handles.append(Line2D([], [], color=hue, marker=marker, linestyle="", label=words))
    words = "no surgery (a), two reads (b)"
    handles.append(Line2D([], [], color="black", linewidth=1, label=words))
    close: dict[str, Any] = {"columnspacing": 1.2, "handletextpad": 0.3}
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), **close)
    one = table.iloc[0]
    small: dict[str, Any] = {"fontsize": 6, "color": GRAY, "x": 0.995, "ha": "right"}
    fig.supxlabel(f"{one['machine']}, {one['versions']}, {one['date']}", **small)
    return fig
