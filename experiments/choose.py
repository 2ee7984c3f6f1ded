"""Choose the values of a tuned method: the best point of its grid on validation data."""
# mypy: disable-error-code=name-defined

from reporting.tuning import write

if __name__ == "__main__":
    write(snakemake.input.grid, snakemake.output[0])
