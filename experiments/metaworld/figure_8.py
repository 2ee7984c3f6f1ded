"""Figure 8: PCGrad with random and with fixed order of the tasks on MT50."""

from reporting.learning_curves import Panel, write

PANELS = (Panel("metaworld_mt50", "MT50", ("sac_pcgrad", "sac_pcgrad_fixed"), paper="MT50"),)

if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    write(PANELS, list(snakemake.input.runs), png=snakemake.output.png, pdf=snakemake.output.pdf)
