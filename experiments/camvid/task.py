"""CamVid (ours): segmentation of street images and distance to class boundaries, two tasks.

The experiment tests the claim of Tables 5 and 7, that PCGrad improves MTAN on dense prediction, on
real images, because CityScapes cannot be downloaded freely. The second task is not depth: it is the
distance of a pixel to the nearest class boundary of the annotation, which is 1 for 16 pixels or
more. Reader, networks, losses and metrics are those of CityScapes. The numbers are not comparable
to those of its tables.
"""

from collections.abc import Mapping
from typing import Any

from multitask.data.download import data_root
from multitask.data.scenes import CAMVID, Scenes, read_scenes
from multitask.dense import problem as dense
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records
from multitask.supervised import Problem

METHODS = tuple(dense.ROWS)

Settings = Mapping[str, Any]


def source(settings: Settings) -> Scenes:
    """The scenes of both splits."""
    counts = settings["train_examples"], settings["test_examples"]
    folder = data_root(settings["data_root"]) / "camvid" / "camvid"
    return read_scenes(
        folder, CAMVID, settings["classes"], (settings["height"], settings["width"]), counts
    )


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash of the scenes, which are real but not the paper's."""
    return dense.fingerprint(source(settings), settings)


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    return dense.problem(method, seed, settings, source(settings))


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return dense.train(method, seed, settings, session, source(settings))
