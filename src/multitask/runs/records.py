"""What a run leaves behind: `metrics.csv` in long form and `run.json`, written whole or not at all."""

import csv
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

COLUMNS = ("seed", "step", "task", "metric", "value")


class Records:
    """Rows (step, task, metric, value) of one seed, in the order in which they were measured."""

    def __init__(self, rows: list[tuple[int, str, str, float]] | None = None) -> None:
        # Tuples of plain numbers and strings: the list goes into a checkpoint as it is.
        self.rows: list[tuple[int, str, str, float]] = list(rows or [])

    def add(self, step: int, task: str, metric: str, value: float) -> None:
        """Append one measurement; `task` is "all" for what concerns every task."""
        self.rows.append((int(step), task, metric, float(value)))

    def last(self, task: str, metric: str) -> float:
        """The newest value of a metric; KeyError if it was never measured."""
        for _, row_task, row_metric, value in reversed(self.rows):
            if (row_task, row_metric) == (task, metric):
                return value
        raise KeyError(f"{metric} of {task} was never recorded")


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """Write a text file beside its final name, flush it to disk, then rename: a reader sees all of
    it or nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = tempfile.NamedTemporaryFile(  # noqa: SIM115
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, newline=""
    )
    try:
        with handle:
            yield cast(TextIO, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(handle.name, 0o644)
        os.replace(handle.name, path)
    except BaseException:
        Path(handle.name).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON document atomically; NaN is refused, since JSON has none."""
    with atomic_text(path) as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")


def write_run(folder: Path, records: Mapping[int, Records], info: Mapping[str, Any]) -> None:
    """Write `metrics.csv` (columns of COLUMNS, `repr` floats) and `run.json` of a job, one block of
    rows per seed.
    """
    with atomic_text(folder / "metrics.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for seed, one in records.items():
            writer.writerows(
                (seed, step, task, metric, repr(value)) for step, task, metric, value in one.rows
            )
    write_json(folder / "run.json", info)
