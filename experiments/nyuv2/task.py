"""NYUv2 (Tables 1, 6, 8, Figure 5): 13-class segmentation, depth and surface normals of indoor
scenes, three tasks.

Deviations from the public code that the paper builds on: batches and initial values are seeded;
test batches are in the files' order; a pixel's normal is masked by itself, not by its depth or by
the sum of its components; the learning rate halves at the start of epoch 100 where that code, by
the version of torch, does so at epoch 100 or 101."""

from collections.abc import Mapping
from typing import Any

from multitask.data.generated.rooms import CLASSES, rooms
from multitask.data.scenes import NYUV2, Scenes
from multitask.dense import problem as dense
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records
from multitask.supervised import Problem

METHODS = tuple(dense.ROWS)

Settings = Mapping[str, Any]


def source(settings: Settings) -> Scenes:
    """The scenes: real ones below data_root/nyuv2, or generated rooms written in the same layout."""
    return dense.scenes_of(settings, NYUV2, rooms, len(CLASSES))


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash of the scenes, and whether they are the paper's data."""
    return dense.fingerprint(source(settings), settings)


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    return dense.problem(method, seed, settings, source(settings))


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return dense.train(method, seed, settings, session, source(settings))
