"""Synthetic runs: what a training job leaves behind, with numbers chosen by the test."""

import csv
import json
from pathlib import Path

import pytest

from system.results import describe

INFO = {
    "scale": "laptop",
    "settings": {"epochs": 2, "device": "cpu", "torch_threads": 1},
    "data": {"name": "mnist", "sha256": "a" * 64},
    "code_hash": "0123456789abcdef",
    "commit": "abc",
    "versions": {"python": "3.11.4", "torch": "2.11.0"},
    "device": "CPU, 1 thread(s)",
    "machine": {"processor": "A CPU", "cores": 2, "system": "Linux"},
}


# Files that take longest begin first, so that two workers end at about the same time.
LONGEST = ("test_workflow.py", "test_additions.py", "test_benchmarks.py", "test_kill_matrix.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def write_job(tmp_path):
    """Return a function that writes a job's files.

    `write_job(experiment, method, {seed: [(step, task, metric, value)]}, **info)` returns the path
    of metrics.csv.
    """

    def write(experiment, method, rows, *, root: Path = tmp_path, **info) -> Path:
        seeds = sorted(rows)
        folder = root / "runs" / experiment / method / f"seeds{seeds[0]}-{seeds[-1]}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["seed", "step", "task", "metric", "value"])
            writer.writerows([seed, *row] for seed in seeds for row in rows[seed])
        content = {**INFO, "experiment": experiment, "method": method, "seeds": seeds, **info}
        content.setdefault("seconds", {str(seed): 10.0 + seed for seed in seeds})
        content["metrics"] = describe((folder / "metrics.csv").read_bytes())
        (folder / "run.json").write_text(json.dumps(content))
        return folder / "metrics.csv"

    return write
