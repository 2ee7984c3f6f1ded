"""CityScapes (Tables 5, 7): 7-class segmentation and inverse depth of street scenes, two tasks.

Images have 128x256 pixels. The paper builds on MTAN's public code, which includes this data set but
no code to train on it. The settings are those of NYUv2 except for the batch size, which is 8 as in
later public code (Cranial-XIX/CAGrad, cityscapes/). `experiments/nyuv2/task.py` lists the
deviations from MTAN's code.
"""

from collections.abc import Mapping
from typing import Any

from multitask.data.generated.scenes import STREET, streets
from multitask.data.scenes import CITYSCAPES, Scenes
from multitask.dense import problem as dense
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records
from multitask.supervised import Problem

METHODS = tuple(dense.ROWS)

Settings = Mapping[str, Any]


def source(settings: Settings) -> Scenes:
    """The real scenes below data_root/cityscapes, or generated streets in the same file layout."""
    return dense.scenes_of(settings, CITYSCAPES, streets, len(STREET))


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash of the scenes, and whether they are the paper's data."""
    return dense.fingerprint(source(settings), settings)


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    return dense.problem(method, seed, settings, source(settings))


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return dense.train(method, seed, settings, session, source(settings))
