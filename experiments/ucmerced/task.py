"""UC Merced (ours, not in the paper): 17 binary labels of an aerial photograph, each a task.

The experiment tests the claim of Table 3, that surgery helps with many binary tasks, on real
images, because CelebA cannot be downloaded freely. Reader, network and schedule are those of
CelebA. The set is smaller (1,470 training images, 17 tasks), so the numbers are not comparable to
those of Table 3.
"""

from collections.abc import Mapping
from typing import Any

from multitask import attributes
from multitask.data.celeba import Faces, read
from multitask.data.download import data_root
from multitask.data.ucmerced import FOLDER, LABELS, UC_MERCED
from multitask.methods import METHODS as COMBINATIONS
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records
from multitask.supervised import Problem, fit

ROWS = {
    "sum": COMBINATIONS["sum"],
    "uncertainty": COMBINATIONS["uncertainty"],
    "mgda": COMBINATIONS["mgda"],
    "pcgrad": COMBINATIONS["pcgrad"],
    "direction_only": COMBINATIONS["direction_only"],
}
METHODS = tuple(ROWS)

Settings = Mapping[str, Any]


def source(settings: Settings) -> Faces:
    """The photographs of all splits."""
    folder = data_root(settings["data_root"]) / FOLDER
    limits = (
        settings["train_examples"],
        settings["validation_examples"],
        settings["test_examples"],
    )
    return read(folder, settings["image_side"], limits, settings["data_seed"], collection=UC_MERCED)


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash of the photographs, which are real but not the paper's."""
    photographs = source(settings)
    sizes = {split: len(labels) for split, labels in photographs.labels.items()}
    return {"name": settings["data"], "real": True, **sizes, "sha256": photographs.sha256}


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    photographs = source(settings)
    return attributes.problem(LABELS, photographs.images, photographs.labels, seed, settings)


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return fit(problem(method, seed, settings), ROWS[method], seed, settings, session)
