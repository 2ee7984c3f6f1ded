"""Figure 7: PCGrad beside CosReg, which penalizes the cosines of the task gradients, on MT10."""

from reporting.learning_curves import Panel, write

PANELS = (Panel("metaworld_mt10", "MT10", ("sac_pcgrad", "cosreg"), paper="MT10"),)

if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    write(PANELS, list(snakemake.input.runs), png=snakemake.output.png, pdf=snakemake.output.pdf)
