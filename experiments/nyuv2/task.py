"""NYUv2 (Tables 1, 6, 8, Figure 5): segmentation, depth and surface normals of indoor scenes.

Segmentation has 13 classes. Deviations from the public code that the paper builds on:

- Batches and initial values are seeded.
- Test batches are in the order of the files.
- A pixel's normal is masked by itself, not by its depth or by the sum of its components.
- The learning rate halves at the start of epoch 100. In that code the version of torch decides
  whether it halves at epoch 100 or 101.
"""

from collections.abc import Mapping
from typing import Any

from multitask.data.generated.scenes import ROOM, rooms
from multitask.data.scenes import NYUV2, Scenes
from multitask.dense import problem as dense
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records
from multitask.supervised import Problem

METHODS = tuple(dense.ROWS)

Settings = Mapping[str, Any]


def source(settings: Settings) -> Scenes:
    """The real scenes below data_root/nyuv2, or generated rooms in the same file layout."""
    return dense.scenes_of(settings, NYUV2, rooms, len(ROOM))


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash of the scenes, and whether they are the paper's data."""
    return dense.fingerprint(source(settings), settings)


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    return dense.problem(method, seed, settings, source(settings))


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return dense.train(method, seed, settings, session, source(settings))
