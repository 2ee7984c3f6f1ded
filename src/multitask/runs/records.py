"""A run's results: `metrics.csv` in long form and `run.json`, each written whole or not at all."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system.results import COLUMNS, describe
from system.writing import write_json, write_text


class Records:
    """Rows (step, task, metric, value) of one seed, in the order of measurement."""

    def __init__(self, rows: list[tuple[int, str, str, float]] | None = None) -> None:
        # Tuples of plain numbers and strings: the list goes into a checkpoint as it is.
        self.rows: list[tuple[int, str, str, float]] = list(rows or [])

    def add(self, step: int, task: str, metric: str, value: float) -> None:
        """Appends one measurement; `task` is "all" if it concerns every task."""
        # Plain types: tensors and NumPy numbers would not pass `weights_only`.
        self.rows.append((int(step), task, metric, float(value)))

    def last(self, task: str, metric: str) -> float:
        """Returns the newest value of a metric.

        Raises:
            KeyError: The metric was never recorded.
        """
        for _, row_task, row_metric, value in reversed(self.rows):
            if (row_task, row_metric) == (task, metric):
                return value
        raise KeyError(f"{metric} of {task} was never recorded")


def write_run(folder: Path, records: Mapping[int, Records], info: Mapping[str, Any]) -> None:
    """Writes `metrics.csv`, one block of rows per seed, and then `run.json`.

    Args:
        folder: Where to write.
        records: The rows of every seed.
        info: The content of `run.json`, to which a description of `metrics.csv` is added.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for seed, one in records.items():
        # `repr` keeps every bit of a float.
        writer.writerows(
            (seed, step, task, metric, repr(value)) for step, task, metric, value in one.rows
        )
    write_text(folder / "metrics.csv", text.getvalue())
    # Last, because it vouches for the metrics: without it the run does not count.
    write_json(folder / "run.json", {**info, "metrics": describe(text.getvalue().encode())})
