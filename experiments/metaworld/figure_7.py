"""Figure 7: PCGrad and CosReg, which penalizes the cosines of the task gradients, on MT10."""

from functools import partial

from reporting import learning_curves
from reporting.learning_curves import Panel

PANELS = (Panel("metaworld_mt10", "MT10", ("sac_pcgrad", "cosreg"), paper="MT10"),)

write = partial(learning_curves.write, PANELS)
