"""Figure 9: multi-head SAC with and without PCGrad on MT10."""

from functools import partial

from reporting import learning_curves
from reporting.learning_curves import Panel

PANELS = (Panel("metaworld_mt10", "MT10", ("multihead_sac", "multihead_sac_pcgrad"), paper="MT10"),)

write = partial(learning_curves.write, PANELS)
