"""Figure 9: multi-head SAC with and without PCGrad on MT10."""

from reporting.learning_curves import Panel, write

PANELS = (Panel("metaworld_mt10", "MT10", ("multihead_sac", "multihead_sac_pcgrad"), paper="MT10"),)

if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    write(PANELS, list(snakemake.input.runs), png=snakemake.output.png, pdf=snakemake.output.pdf)
