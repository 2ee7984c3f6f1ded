"""Every experiment's task.py is what the training command expects."""

import inspect
from pathlib import Path

import pytest

from experiments.protocol import Task
from experiments.run import load_task

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/task.py"))


@pytest.mark.parametrize("name", NAMES)
def test_the_task_has_the_protocols_parts(name):
    task = load_task(name)
    assert task.METHODS
    assert len(set(task.METHODS)) == len(task.METHODS)
    for part in ("fingerprint", "train"):
        asked = list(inspect.signature(getattr(Task, part)).parameters)[1:]
        assert list(inspect.signature(getattr(task, part)).parameters) == asked
