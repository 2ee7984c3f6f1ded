"""The data of one experiment: found and checked, downloaded or generated, before its runs start (rule `data`)."""

import sys
from pathlib import Path

from experiments.run import EXIT_FAULT, load_task, read_config, settings_of
from multitask.errors import UserError
from multitask.records import write_json


def write(experiment: str, config: str, path: str | Path) -> None:
    """Write the fingerprint of an experiment's data; UserError in one line if they cannot be had or are damaged."""
    task = load_task(experiment)
    write_json(Path(path), task.fingerprint(settings_of(read_config(config), experiment)))


def main(experiment: str, config: str, path: str | Path, log: str | Path) -> int:
    """The same as a job: a fault becomes one line of the log and an exit status."""
    try:
        write(experiment, config, path)
    except UserError as error:
        Path(log).write_text(f"error: {error}\n", encoding="utf-8")
        return EXIT_FAULT
    return 0


if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    given = snakemake.params
    sys.exit(main(snakemake.wildcards.experiment, given.settings, snakemake.output[0], snakemake.log[0]))
