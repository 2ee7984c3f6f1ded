"""The data of one experiment: found and checked, downloaded or generated, before its runs start
(rule `data`).

    python -m experiments.data multimnist config/laptop.yaml results/laptop/data/multimnist.json

The last argument is the file for the data's fingerprint.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.run import EXIT_FAULT, load_task, read_config, settings_of
from multitask.runs.errors import UserError
from multitask.runs.records import write_json
from multitask.runs.startup import loading


def write(experiment: str, config: str, path: Path) -> None:
    """Write the fingerprint of an experiment's data; UserError in one line if they cannot be had or
    are damaged.
    """
    with loading():
        task = load_task(experiment)
    write_json(path, task.fingerprint(settings_of(read_config(config), experiment)))


def main(arguments: Sequence[str]) -> int:
    """The same as a command: a fault becomes one line and an exit status."""
    try:
        experiment, config, path = arguments
        write(experiment, config, Path(path))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAULT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
