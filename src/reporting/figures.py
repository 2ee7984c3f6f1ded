"""One style for every figure: colors fixed per method and safe for the color-blind, files whose
bytes do not change.
"""

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reporting.labels import label
from reporting.statistics import interval

# Okabe and Ito's palette. The plain sum is blue and PCGrad vermilion in every figure.
_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _VERMILION, _PURPLE, _GRAY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"

FEW_SEEDS = 5  # from here on an interval is drawn as clearly as a line

COLORS = {
    "adam": _BLUE,
    "adam_pcgrad": _VERMILION,
    "single_task": _BLACK,
    "sum": _BLUE,
    "uncertainty": _SKY,
    "mgda": _GREEN,
    "cagrad": _PURPLE,
    "nash_mtl": _YELLOW,
    "upgrad": _GRAY,
    "pcgrad": _VERMILION,
    "direction_only": _ORANGE,
    "magnitude_only": _PURPLE,
    "sac": _BLUE,
    "sac_pcgrad": _VERMILION,
    "sac_pcgrad_fixed": _BLACK,
    "multihead_sac": _SKY,
    "multihead_sac_pcgrad": _ORANGE,
    "independent": _BLACK,
    "gradnorm": _GREEN,
    "cosreg": _GREEN,
    "sac_reward_normalized": _PURPLE,
    "sac_pcgrad_reward_normalized": _YELLOW,
    "sac_weight_decay": _GRAY,
    "task_1": _GREEN,
    "task_2": _PURPLE,
    "reported": _GRAY,
}
RC: Any = {  # matplotlib types every key; the values are checked when the style is applied
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "svg.hashsalt": "pcgrad",
}


def style() -> None:
    """Select the file-only backend and the style; call it once before the first figure."""
    matplotlib.use("Agg")
    plt.rcdefaults()
    plt.rcParams.update(RC)


def color(method: str) -> str:
    """The method's color; KeyError for a method without one, so that no two methods share a color
    by accident.
    """
    return COLORS[method]


def save(fig: Figure, *, png: str | Path | None = None, pdf: str | Path | None = None) -> None:
    """Write the figure; the same figure gives the same bytes (no dates, no program versions in the
    files).
    """
    if png is not None:
        Path(png).parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(png, format="png", metadata={"Software": None})
    if pdf is not None:
        Path(pdf).parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(
            pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}
        )
    plt.close(fig)


def intervals(
    frame: pd.DataFrame, *, x: str = "step", value: str = "value", seed: str = "seed"
) -> pd.DataFrame:
    """Center and interval over seeds at every x: columns x, center, low, high, seeds."""
    rows = []
    for at, group in frame.groupby(x, sort=True):
        if group[seed].duplicated().any():
            raise ValueError(
                f"band: seed with several values at {x} {at}; select one method, task and metric first"
            )
        # A curve skips what is undefined at this x (no conflict in any batch, say); its seeds are
        # counted.
        known = group[value].to_numpy(dtype=float)
        known = known[np.isfinite(known)]
        if known.size == 0:
            continue
        here = interval(known)
        rows.append((at, here.center, here.low, here.high, here.seeds))
    return pd.DataFrame(rows, columns=[x, "center", "low", "high", "seeds"])


def band(
    ax: Axes,
    frame: pd.DataFrame,
    method: str,
    *,
    x: str = "step",
    value: str = "value",
    smooth: int = 1,
    text: str | None = None,
    **line: Any,
) -> pd.DataFrame:
    """Draw the mean over seeds as a line and its interval shaded (one seed: no shade); return what
    is drawn.

    `frame` holds one method, task and metric: columns x, seed, value. `smooth`: running mean over
    so many x per seed."""
    if smooth > 1:
        frame = frame.sort_values([x], kind="stable").copy()
        frame[value] = frame.groupby("seed")[value].transform(
            lambda v: v.rolling(smooth, min_periods=1).mean()
        )
    drawn = intervals(frame, x=x, value=value)
    line = {"color": COLORS.get(method), "label": label(method) if text is None else text, **line}
    (artist,) = ax.plot(drawn[x], drawn["center"], **line)
    known = drawn.dropna(subset=["low", "high"])
    if len(known):
        alpha = (
            0.2 if frame["seed"].nunique() >= FEW_SEEDS else 0.1
        )  # intervals of few seeds cover each other
        ax.fill_between(
            known[x],
            known["low"],
            known["high"],
            color=artist.get_color(),
            alpha=alpha,
            linewidth=0,
        )
    return drawn


def stamp(fig: Figure, scale: str, note: str = "") -> None:
    """Print the scale (and a note: data, seeds) below the figure, small and gray."""
    fig.supxlabel(
        f"scale: {scale}" + (f" · {note}" if note else ""),
        fontsize=6,
        color=_GRAY,
        x=0.995,
        ha="right",
    )
