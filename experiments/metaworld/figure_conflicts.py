"""Cosine, magnitude similarity Φ and ξ of task gradients along training.

The figure extends the middle panel of Figure 4 to more methods.
"""

from collections.abc import Sequence

from reporting.figures import save
from reporting.learning_curves import SHARE, Panel, figure
from reporting.runs import Runs, read_runs

METHODS = {
    "metaworld_mt3": ("sac", "sac_pcgrad", "direction_only", "magnitude_only"),
    "metaworld_mt10": ("sac", "sac_pcgrad", "multihead_sac", "multihead_sac_pcgrad"),
}
MEASURES = (
    ("cosine", "mean cosine", (None, None)),
    ("magnitude_similarity", "mean magnitude similarity Φ", SHARE),
    ("xi_median", "median ξ of conflicting pairs", (0.0, None)),
)
PANELS = tuple(
    Panel(
        experiment,
        f"{name}, {network}",
        METHODS[experiment],
        f"{metric}_{component}",
        words,
        limits=limits,
    )
    for experiment, name in (("metaworld_mt3", "MT3"), ("metaworld_mt10", "MT10"))
    for component, network in (("actor", "actor"), ("q1", "critic 1"))
    for metric, words, limits in MEASURES
)


def panels(runs: Runs) -> Sequence[Panel]:
    """The panels of the experiments that have runs; all panels without runs."""
    return [panel for panel in PANELS if runs.of(panel.experiment).infos] or PANELS


def write(paths: Sequence[str], *, png: str, pdf: str) -> None:
    """Read the runs' metrics.csv and write the figure."""
    runs = read_runs(paths)
    save(figure(panels(runs), runs, columns=len(MEASURES)), png=png, pdf=pdf)
