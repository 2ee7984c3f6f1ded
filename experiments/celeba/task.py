"""CelebA (Section 5.1, Table 3): 40 binary attributes of a face, each a task.

All tasks share one ResNet-18 and have linear heads. The paper builds on Sener and Koltun, whose
public code defines network, image size and schedule. That code reports the error on the validation
split. The paper does not state its split, so both errors are measured.

Deviations from that code: initial values and batches are seeded. Its MGDA row uses gradients with
respect to the features and normalizes them ("loss+"); ours uses the gradients with respect to the
parameters without normalization. One network per task (40 ResNets) is not a row of the paper's
table and is not trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multitask import attributes
from multitask.data.celeba import ATTRIBUTES, FOLDER, SPLITS, Faces, read
from multitask.data.download import data_root
from multitask.data.generated.labeled import generate_faces
from multitask.data.generated.layout import write_once
from multitask.methods import METHODS as ROWS
from multitask.runs.checkpoint import Session
from multitask.runs.errors import UserError
from multitask.runs.records import Records
from multitask.supervised import Problem, fit

METHODS = ("sum", "uncertainty", "mgda", "pcgrad", "direction_only")

Settings = Mapping[str, Any]


def source(settings: Settings) -> Faces:
    """The faces of all splits; generated faces are drawn at the first call."""
    counts = {split: settings[f"{split}_examples"] for split in SPLITS}
    seed, limits = settings["data_seed"], (counts["train"], counts["validation"], counts["test"])
    if settings["data"] == "celeba":
        return read(data_root(settings["data_root"]) / FOLDER, settings["image_side"], limits, seed)
    # Generated faces have no natural number that 0 could stand for.
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
    """Name, sizes and content hash of the faces, and whether they are the paper's data."""
    faces = source(settings)
    name = settings["data"]
    sizes = {split: len(labels) for split, labels in faces.labels.items()}
    return {"name": name, "real": name == "celeba", **sizes, "sha256": faces.sha256}


def problem(
    method: str, seed: int, settings: Settings, tasks: Sequence[str] = ATTRIBUTES
) -> Problem:
    """Data, network, losses and metrics for the loop.

    `tasks` selects the attributes to learn; the rows of Table 3 learn all of them.
    """
    faces = source(settings)
    columns = [ATTRIBUTES.index(task) for task in tasks]
    chosen = {split: faces.labels[split][:, columns] for split in SPLITS}
    return attributes.problem(tasks, faces.images, chosen, seed, settings)


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return fit(problem(method, seed, settings), ROWS[method], seed, settings, session)
