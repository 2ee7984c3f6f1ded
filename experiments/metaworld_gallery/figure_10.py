"""Figure 10: the tasks of MT50, pictured at the start of an episode."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reporting.figures import save, stamp, style
from system.reading import read_arrays, read_json

COLUMNS = 5


def figure_10(pictures: np.ndarray, tasks: list[dict[str, Any]], note: str, scale: str) -> Figure:
    """Draw the pictures [tasks, H, W, 3] in the order of their names; MT10's names are bold."""
    style()
    names = [task["name"].removesuffix("-v3") for task in tasks]
    order = sorted(range(len(tasks)), key=lambda index: names[index])
    rows = -(-len(order) // COLUMNS)
    fig, axes = plt.subplots(rows, COLUMNS, figsize=(8.2, 0.3 + 1.26 * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, index in zip(axes.flat, order, strict=False):
        task = tasks[index]
        # Interpolation would make the files three times as large.
        ax.imshow(pictures[index], interpolation="none")
        weight = "bold" if task["mt10"] else "normal"
        ax.set_title(names[index], fontsize=8, fontweight=weight, pad=2)
        if not task["built"]:
            ax.text(0.5, 0.5, "not built", transform=ax.transAxes, ha="center", color="gray")
    stamp(fig, scale, note)
    return fig


def write(arrays: str, summary: str, *, png: str, pdf: str) -> None:
    """Read tasks.npz and tasks.json of a scale and write the figure."""
    scale = Path(summary).absolute().parents[1].name
    found = read_json(Path(summary), "make it again")
    pictures = read_arrays(Path(arrays), "make it again")["pictures"]
    versions = found["versions"]
    note = (
        f"Meta-World {versions['metaworld']}, MuJoCo {versions['mujoco']}, {found['pictured']} "
        "tasks"
    )
    save(figure_10(pictures, found["tasks"], note, scale), png=png, pdf=pdf)
