"""Figure 3: success on MT10 and MT50 with and without surgery, and PCGrad's ablations on MT10.

The panel of MT3 is ours.
"""

from collections.abc import Sequence

from reporting import learning_curves
from reporting.learning_curves import Panel
from reporting.runs import read_runs

COMPARED = ("sac", "multihead_sac", "independent", "sac_pcgrad")
ABLATIONS = ("sac_pcgrad", "direction_only", "magnitude_only", "gradnorm")


PANELS = (
    Panel("metaworld_mt10", "MT10", COMPARED, paper="MT10"),
    Panel("metaworld_mt50", "MT50", COMPARED, paper="MT50"),
    Panel("metaworld_mt10", "MT10: parts of PCGrad, GradNorm", ABLATIONS, paper="MT10"),
    Panel("metaworld_mt3", "MT3 (ours)", ("sac", "sac_pcgrad", "direction_only", "magnitude_only")),
)
# This panel is not in the paper and is drawn only if there are runs for it.
VERSION_2 = Panel("metaworld_mt10", "MT10, version 2 rewards (ours)", ("sac_v2", "sac_pcgrad_v2"))


def panels(paths: Sequence[str]) -> tuple[Panel, ...]:
    """The paper's panels, MT3, and version 2 of the rewards if there are runs for it."""
    methods = {info["method"] for info in read_runs(paths).of("metaworld_mt10").infos}
    return (*PANELS, VERSION_2) if methods & set(VERSION_2.methods) else PANELS


def write(paths: Sequence[str], *, png: str, pdf: str) -> None:
    """Read the runs' metrics.csv and write the figure."""
    learning_curves.write(panels(paths), paths, png=png, pdf=pdf)
