"""Figure 6: goal-conditioned pushing, the puck's distance to its goal with and without PCGrad."""

from reporting.learning_curves import Panel, write

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

if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    write(PANELS, list(snakemake.input.runs), png=snakemake.output.png, pdf=snakemake.output.pdf)
