"""The shared style of all figures: fixed colors per method and reproducible files.

The palette can be read by color-blind readers. The same figure always gives the same bytes.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from reporting.labels import COLORS, GRAY, label
from reporting.statistics import interval
from system.writing import whole

MOST_COLORS = 256  # of a PNG with a palette
FEW_SEEDS = 5  # with fewer seeds, thin lines replace the shaded interval
SEED_LINE = "seed"  # the id of lines that show one seed
PALE = 0.4  # opacity of a wide line below others
LANE = 1.4  # distance of coinciding curves in points: the width of a line

# Any: matplotlib types every key. It checks the values when the style is applied.
RC: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine has it
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
    "lines.linewidth": LANE,
    "pdf.fonttype": 42,
    "svg.hashsalt": "pcgrad",
}


def style() -> None:
    """Select the file-only backend and the style. Call it once before the first figure."""
    matplotlib.use("Agg")
    plt.rcdefaults()
    plt.rcParams.update(RC)


def color(method: str) -> str:
    """The method's color.

    Raises:
        KeyError: The method has no color; a default could be another method's color.
    """
    # Rows "_v2" are drawn in a panel of their own and can share the color.
    return COLORS[method.removesuffix("_v2")]


def save(
    fig: Figure,
    *,
    png: str | Path | None = None,
    pdf: str | Path | None = None,
    dpi: int = RC["savefig.dpi"],
) -> None:
    """Write the figure as PNG, PDF or both, and close it.

    The files hold no dates and no program versions, so the same figure gives the same bytes.
    """
    if png is not None:
        drawn = io.BytesIO()
        fig.savefig(drawn, format="png", dpi=dpi)
        # A palette takes a third of the bytes; dithering would speckle plain areas, and a median
        # cut would mix the colors of thin marks.
        few = (
            Image.open(drawn)
            .convert("RGB")
            .quantize(MOST_COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        )
        with whole(Path(png), "wb") as file:
            few.save(file, format="png", optimize=True)
    if pdf is not None:
        nothing = {"CreationDate": None, "Creator": None, "Producer": None}
        with whole(Path(pdf), "w+b") as file:
            fig.savefig(file, format="pdf", metadata=nothing)
    plt.close(fig)


def without_runs() -> Figure:
    """A figure that says that the scale has no runs to draw."""
    fig, ax = plt.subplots(figsize=(5.0, 2.4))
    ax.set_axis_off()
    ax.text(0.5, 0.5, "no runs at this scale", ha="center", va="center", color="gray")
    return fig


def intervals(frame: pd.DataFrame, *, x: str = "step") -> pd.DataFrame:
    """Center and interval over seeds at every x: columns x, center, low, high, seeds.

    Raises:
        ValueError: A seed has several values at one x.
    """
    rows = []
    for at, group in frame.groupby(x, sort=True):
        if group["seed"].duplicated().any():
            raise ValueError(
                f"band: seed with several values at {x} {at}; "
                f"select one method, task and metric first"
            )
        # Skip seeds whose value is undefined here (no batch with a conflict, for example).
        known = group["value"].to_numpy(dtype=float)
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
    smooth: int = 1,
    text: str | None = None,
    single: bool = False,
    limits: tuple[float, float] = (-np.inf, np.inf),
    shade: float = 0.2,
    **line: Any,
) -> pd.DataFrame:
    """Draw the mean over seeds as a line and return the drawn values.

    With five or more seeds the interval is shaded, up to the possible values `limits`; with fewer,
    or if `single`, every seed is a thin line. `frame` holds one method, task and metric in columns
    x, seed and value; `smooth` is the number of x of each seed's running mean.
    """
    if smooth > 1:
        frame = frame.sort_values([x], kind="stable").copy()
        frame["value"] = frame.groupby("seed")["value"].transform(
            lambda v: v.rolling(smooth, min_periods=1).mean()
        )
    drawn = intervals(frame, x=x)
    line = {"color": COLORS.get(method), "label": label(method) if text is None else text, **line}
    (artist,) = ax.plot(drawn[x], drawn["center"], **line)
    seeds = [one.sort_values(x) for _, one in frame.groupby("seed")]
    known = drawn.dropna(subset=["low", "high"])
    if len(seeds) >= FEW_SEEDS and len(known) and not single:
        low, high = (known[end].clip(*limits) for end in ("low", "high"))
        ax.fill_between(known[x], low, high, color=artist.get_color(), alpha=shade, linewidth=0)
    elif len(seeds) > 1:
        for one in seeds:
            thin: dict[str, Any] = {"color": artist.get_color(), "linewidth": 0.5, "alpha": 0.7}
            ax.plot(one[x], one["value"], gid=SEED_LINE, zorder=1.5, **thin)
    return drawn


def side_by_side(fig: Figure, groups: Sequence[Sequence[Line2D]]) -> None:
    """Shift each group of lines by a line's width against the next, the first group to the top.

    Curves that coincide then lie side by side. Their data stay as they are.
    """
    for place, lines in enumerate(groups):
        up = ((len(groups) - 1) / 2 - place) * LANE / 72
        for line in lines:
            shift = ScaledTranslation(0, up, fig.dpi_scale_trans)
            line.set_transform(line.get_transform() + shift)


def seed_handle(fig: Figure) -> list[Line2D]:
    """An entry of the legend for the thin lines of single seeds; none if the figure has none."""
    lines = (line for ax in fig.axes for line in ax.get_lines())
    if not any(line.get_gid() == SEED_LINE for line in lines):
        return []
    return [Line2D([], [], color="gray", linewidth=0.5, label="one seed")]


def legend_above(fig: Figure, handles: Sequence[Artist]) -> None:
    """Draw one legend above all panels, with as many columns as fit the figure's width."""
    renderer = fig.canvas.get_renderer()  # type: ignore[attr-defined]  # Agg's canvas
    # The width is known only after drawing: try the widest legend first.
    for columns in range(len(handles), 0, -1):
        legend = fig.legend(handles=handles, loc="outside upper center", ncols=columns)
        if legend.get_window_extent(renderer).width <= fig.bbox.width or columns == 1:
            return
        legend.remove()


def stamp(fig: Figure, scale: str, note: str = "") -> None:
    """Print the scale, if any, and a note (data, seeds) below the figure in small gray lines.

    The parts of the note are separated by " · "; lines are broken only between parts.
    """
    style: dict[str, Any] = {"fontsize": 6, "color": GRAY, "x": 0.995, "ha": "right"}
    parts = [f"scale: {scale}"] if scale else []
    parts += filter(None, note.split(" · "))
    renderer = fig.canvas.get_renderer()  # type: ignore[attr-defined]  # Agg's canvas
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        width = fig.supxlabel(longer, **style).get_window_extent(renderer).width
        lines = [*lines[:-1], longer] if width < 0.98 * fig.bbox.width else [*lines, part]
    fig.supxlabel("\n".join(filter(None, lines)), **style)
