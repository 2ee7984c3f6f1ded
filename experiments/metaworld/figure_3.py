"""Figure 3: success on MT10 and MT50 with and without surgery, and the ablations of PCGrad on MT10;
MT3 is ours.
"""

from functools import partial

from reporting import learning_curves
from reporting.learning_curves import Panel

COMPARED = ("sac", "multihead_sac", "independent", "sac_pcgrad")
ABLATIONS = ("sac_pcgrad", "direction_only", "magnitude_only", "gradnorm")


PANELS = (
    Panel("metaworld_mt10", "MT10", COMPARED, paper="MT10"),
    Panel("metaworld_mt50", "MT50", COMPARED, paper="MT50"),
    Panel("metaworld_mt10", "MT10: parts of PCGrad, GradNorm", ABLATIONS, paper="MT10"),
    Panel("metaworld_mt3", "MT3 (ours)", ("sac", "sac_pcgrad", "direction_only", "magnitude_only")),
)

write = partial(learning_curves.write, PANELS)
