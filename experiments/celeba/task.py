"""CelebA (Section 5.1, Table 3): 40 binary attributes of a face, each a task, on one ResNet-18 with
linear heads.

The paper names the data and its base, Sener and Koltun, whose public code gives network, pixels and
schedule. That code reports the error on the validation split; which split the paper's numbers are
of is unknown, so both are measured. Deviations from that code, all seeded: initial values and
batches. Its MGDA row takes the gradients at the features instead of the parameters and normalizes
them ("loss+"); here they are the parameters', as they are. A network per task (40 ResNets) is no
row of the paper's table, and not trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multitask import attributes
from multitask.data.celeba import ATTRIBUTES, FOLDER, SPLITS, Faces, read
from multitask.data.download import data_root
from multitask.data.generated.faces import generate_faces
from multitask.data.generated.layout import write_once
from multitask.methods import METHODS as COMBINATIONS
from multitask.runs.checkpoint import Session
from multitask.runs.errors import UserError
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
    """The faces of all splits; cartoons are drawn at the first call."""
    counts = {split: settings[f"{split}_examples"] for split in SPLITS}
    seed, limits = settings["data_seed"], (counts["train"], counts["validation"], counts["test"])
    if settings["data"] == "celeba":
        return read(data_root(settings["data_root"]) / FOLDER, settings["image_side"], limits, seed)
    if not all(limits):
        raise UserError(
            "train_, validation_, test_examples: 0 takes all of real data; say how many faces to "
            "draw"
        )
    folder = write_once(
        Path(settings["data_root"]),
        "celeba",
        {**counts, "seed": seed},
        lambda unfinished: generate_faces(unfinished, counts, seed),
    )
    return read(folder / FOLDER, settings["image_side"], (0, 0, 0), seed, published=False)


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash (files and labels) of the faces, and whether they are the
    paper's data.
    """
    faces = source(settings)
    name = settings["data"]
    sizes = {split: len(labels) for split, labels in faces.labels.items()}
    return {"name": name, "real": name == "celeba", **sizes, "sha256": faces.sha256}


def problem(
    method: str, seed: int, settings: Settings, tasks: Sequence[str] = ATTRIBUTES
) -> Problem:
    """Data, network, losses and metrics for the loop; `tasks`: the attributes to learn (the table's
    rows learn all).
    """
    faces = source(settings)
    columns = [ATTRIBUTES.index(task) for task in tasks]
    chosen = {split: faces.labels[split][:, columns] for split in SPLITS}
    return attributes.problem(tasks, faces.images, chosen, seed, settings)


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return fit(problem(method, seed, settings), ROWS[method], seed, settings, session)
