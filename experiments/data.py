"""Prepare the data of one experiment before its runs start (rule `data`).

    python -m experiments.data multimnist config/laptop.yaml results/laptop/data/multimnist.json

The data are found and checked, downloaded or generated. The last argument is the file for their
fingerprint.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import config as configs
from experiments.run import fingerprint, load_task
from multitask.runs.startup import loading
from system import command
from system.errors import UserError
from system.writing import write_json


def main(arguments: Sequence[str]) -> None:
    """Write the fingerprint of an experiment's data.

    Raises:
        UserError: The data are damaged or not available.
    """
    if len(arguments) != 3:
        raise UserError("experiments.data takes an experiment, a config and the file to write")
    experiment, config, path = arguments
    with loading():
        task = load_task(experiment)
    settings = configs.settings_of(configs.read(config), experiment)
    write_json(Path(path), fingerprint(task, settings))


if __name__ == "__main__":
    command.leave(lambda: main(sys.argv[1:]))
