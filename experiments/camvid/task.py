"""CamVid (ours, not in the paper): street images with 7 classes and the distance to the nearest
class boundary, two tasks.

Real images for the claim of Tables 5 and 7, that PCGrad improves MTAN on dense prediction, since
CityScapes cannot be downloaded freely. The second task is no depth: it is derived from the
annotation (the distance of a pixel to the nearest class boundary, 1 from 16 pixels on). Reader,
networks, losses and metrics are CityScapes'; no number of its tables can be compared with."""

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
    """Name, sizes and content hash of the scenes; real, but not the paper's."""
    return dense.fingerprint(source(settings), settings)


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    return dense.problem(method, seed, settings, source(settings))


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return dense.train(method, seed, settings, session, source(settings))
