"""Choose the values of a tuned method: the best point of its grid on validation data."""
# mypy: disable-error-code=name-defined

from reporting.tuning import write
from system import command

if __name__ == "__main__":
    with command.script(snakemake.log[0]):
        write(snakemake.input.grid, snakemake.output[0])
