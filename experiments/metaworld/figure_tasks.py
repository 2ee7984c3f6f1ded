"""Success on every single task of MT3 and MT10, which a mean over tasks hides."""

from collections.abc import Sequence

from reporting.alone import beside_mt10
from reporting.figures import save
from reporting.learning_curves import Panel, figure
from reporting.runs import Runs, read_runs

METHODS = {
    "metaworld_mt3": ("sac", "sac_pcgrad", "direction_only", "magnitude_only"),
    "metaworld_mt10": ("sac", "sac_pcgrad", "multihead_sac", "independent"),
}


def panels(runs: Runs) -> list[Panel]:
    """One panel per experiment and task of the runs."""
    found = []
    for experiment, name in (("metaworld_mt3", "MT3"), ("metaworld_mt10", "MT10")):
        tasks = runs.of(experiment).select(metric="success")["task"].unique()
        found += [
            Panel(
                experiment,
                f"{name}: {task.removesuffix('-v3')}",
                METHODS[experiment],
                task=task,
                words="success",
            )
            for task in tasks
            if task != "all"
        ]
    return found or [Panel("metaworld_mt10", "MT10", METHODS["metaworld_mt10"])]


def write(paths: Sequence[str], *, png: str, pdf: str) -> None:
    """Read the runs' metrics.csv and write the figure."""
    runs = beside_mt10(read_runs(paths))
    save(figure(panels(runs), runs, columns=4), png=png, pdf=pdf)
