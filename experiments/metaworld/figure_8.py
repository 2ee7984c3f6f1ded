"""Figure 8: PCGrad with random and with fixed order of the tasks on MT50."""

from functools import partial

from reporting import learning_curves
from reporting.learning_curves import Panel

PANELS = (Panel("metaworld_mt50", "MT50", ("sac_pcgrad", "sac_pcgrad_fixed"), paper="MT50"),)

write = partial(learning_curves.write, PANELS)
