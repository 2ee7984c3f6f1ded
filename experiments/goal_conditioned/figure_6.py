"""Figure 6: goal-conditioned pushing, the puck's distance to its goal with and without PCGrad."""

from functools import partial

from reporting import learning_curves
from reporting.learning_curves import Panel

PANELS = (
    Panel(
        "goal_conditioned",
        "goal-conditioned pushing",
        ("sac", "sac_pcgrad"),
        metric="distance",
        words="distance to goal at the end, m",
        limits=(0.0, None),
    ),
)

write = partial(learning_curves.write, PANELS)
