"""The values of a tuned method: the best point of its grid on validation data (rule `choose`)."""

from reporting.tuning import write

if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    write(snakemake.input.grid, snakemake.output[0])
