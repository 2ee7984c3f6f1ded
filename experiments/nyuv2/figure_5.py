"""Figure 5: training (top) and test (bottom) loss on NYUv2, MTAN without and with PCGrad."""

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reporting.figures import band, color, save, stamp, style, without_runs
from reporting.labels import seeds_text
from reporting.runs import Runs, read_runs

TASKS = {"segmentation": "segmentation", "depth": "depth", "normal": "surface normals"}
# The paper's tables and this figure use one split, which it calls "validation" and we "test".
SPLITS = {"train_loss": "training loss", "test_loss": "test loss"}
# {method: (whose color it has, title)}. The paper's figure names no weights; Table 1 compares with
# uncertainty weights.
METHODS = {
    "mtan_uncertainty": ("sum", "MTAN"),
    "mtan_uncertainty_pcgrad": ("pcgrad", "MTAN + PCGrad"),
}
FEW = 10  # curves with fewer evaluations get dots, because a single point draws no line


def figure_5(runs: Runs) -> Figure:
    """Draw two rows (splits) of three panels (tasks): means over seeds with 95% intervals."""
    style()
    methods = [method for method in METHODS if not runs.select(method=method).empty]
    if not methods:
        return without_runs()
    fig, axes = plt.subplots(2, 3, figsize=(8.2, 4.2), sharex=True, squeeze=False)
    for row, (metric, words) in zip(axes, SPLITS.items(), strict=True):
        for ax, (task, name) in zip(row, TASKS.items(), strict=True):
            for method in methods:
                key, text = METHODS[method]
                frame = runs.select(method=method, task=task, metric=metric)
                frame = frame[frame["step"] > 0]
                marker = "." if frame["step"].nunique() < FEW else ""
                band(ax, frame, method, text=text, color=color(key), marker=marker)
            ax.set_title(f"{name}: {words}")
            ax.margins(x=0)
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(methods))
    infos = [info for info in runs.infos if info["method"] in methods]
    seeds = {seed for info in infos for seed in info["seeds"]}
    data = infos[0]["data"].get("name", "")
    stamp(fig, infos[0]["scale"], f"data: {data}, {seeds_text(len(seeds))}")
    return fig


def write(paths: Sequence[str], *, png: str, pdf: str) -> None:
    """Read the runs' metrics.csv and write the figure."""
    save(figure_5(read_runs(paths)), png=png, pdf=pdf)
