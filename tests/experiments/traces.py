"""Golden traces: records of about 50 steps in float64, which only a deliberate change of the
numbers may alter.

A number that changed means that published tables are superseded: say so in the CHANGELOG, then
regenerate by running the test file of the experiment (`PYTHONPATH=src:. python
tests/experiments/test_<name>.py`)."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "golden"


def check(experiment, method, rows):
    """The rows (step, task, metric, value) equal the golden ones to 1e-9."""
    golden = json.loads((FOLDER / f"{experiment}.json").read_text(encoding="utf-8"))[method]
    assert [list(row[:3]) for row in rows] == [row[:3] for row in golden]
    assert len(golden) >= 20
    for (step, name, metric, value), (*_, expected) in zip(rows, golden, strict=True):
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12), (step, name, metric)


def write(experiment, traces):
    """Write the golden file from {method: rows}."""
    blocks = {
        method: ",\n".join(json.dumps(list(row)) for row in rows) for method, rows in traces.items()
    }
    text = ",\n".join(f'"{method}": [\n{lines}\n]' for method, lines in blocks.items())
    (FOLDER / f"{experiment}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
