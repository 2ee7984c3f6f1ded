"""What NYUv2, CityScapes and CamVid share: the rows of their tables, and the problem.

The paper builds on MTAN's public code (lorenmt/mtan, im2im_pred): SegNet networks on images in [0,
1], no augmentation, Adam, and the losses and metrics of `multitask.dense`. A row's network, loss
weights and PCGrad are independent choices. The paper combines PCGrad with MTAN (both sets),
Cross-Stitch and Dense (Table 6).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from multitask.data.download import data_root
from multitask.data.scenes import SPLITS, Scenes, Source, read_scenes
from multitask.dense.losses import depth_loss, normal_loss, segmentation_loss
from multitask.dense.metrics import (
    accumulated,
    average,
    confusion,
    depth_errors,
    normal_errors,
    per_image,
)
from multitask.methods import DynamicAverage, Method, Uncertainty, pcgrad
from multitask.models.dense_networks import build, relative_parameters
from multitask.runs.checkpoint import Session
from multitask.runs.devices import choose_device
from multitask.runs.errors import UserError
from multitask.runs.precision import full
from multitask.runs.records import Records
from multitask.runs.seeding import initialization
from multitask.supervised import Data, Problem, fit

# Arguments: root, examples per split, height, width, seed.
Generate = Callable[[Path, dict[str, int], int, int, int], Path]

LOSSES = {
    "segmentation": segmentation_loss,
    "depth": depth_loss,
    # The distance to a class boundary, 0 where it is unknown.
    "boundary": depth_loss,
    "normal": normal_loss,
}

Settings = Mapping[str, Any]


# Row of a table: its network and its method.
ROWS = {
    "one_task": ("one_task", Method()),
    "stan": ("stan", Method()),
    "split_wide_equal": ("split_wide", Method()),
    "split_wide_equal_pcgrad": ("split_wide", Method(gradients=pcgrad)),
    "split_wide_uncertainty": ("split_wide", Method(Uncertainty)),
    "split_wide_uncertainty_pcgrad": ("split_wide", Method(Uncertainty, pcgrad)),
    "split_wide_dwa": ("split_wide", Method(DynamicAverage)),
    "split_wide_dwa_pcgrad": ("split_wide", Method(DynamicAverage, pcgrad)),
    "split_deep_equal": ("split_deep", Method()),
    "split_deep_equal_pcgrad": ("split_deep", Method(gradients=pcgrad)),
    "split_deep_uncertainty": ("split_deep", Method(Uncertainty)),
    "split_deep_uncertainty_pcgrad": ("split_deep", Method(Uncertainty, pcgrad)),
    "split_deep_dwa": ("split_deep", Method(DynamicAverage)),
    "split_deep_dwa_pcgrad": ("split_deep", Method(DynamicAverage, pcgrad)),
    "dense_equal": ("dense", Method()),
    "dense_equal_pcgrad": ("dense", Method(gradients=pcgrad)),
    "dense_uncertainty": ("dense", Method(Uncertainty)),
    "dense_uncertainty_pcgrad": ("dense", Method(Uncertainty, pcgrad)),
    "dense_dwa": ("dense", Method(DynamicAverage)),
    "dense_dwa_pcgrad": ("dense", Method(DynamicAverage, pcgrad)),
    "cross_stitch_equal": ("cross_stitch", Method()),
    "cross_stitch_equal_pcgrad": ("cross_stitch", Method(gradients=pcgrad)),
    "cross_stitch_uncertainty": ("cross_stitch", Method(Uncertainty)),
    "cross_stitch_uncertainty_pcgrad": ("cross_stitch", Method(Uncertainty, pcgrad)),
    "cross_stitch_dwa": ("cross_stitch", Method(DynamicAverage)),
    "cross_stitch_dwa_pcgrad": ("cross_stitch", Method(DynamicAverage, pcgrad)),
    "mtan_equal": ("mtan", Method()),
    "mtan_equal_pcgrad": ("mtan", Method(gradients=pcgrad)),
    "mtan_uncertainty": ("mtan", Method(Uncertainty)),
    "mtan_uncertainty_pcgrad": ("mtan", Method(Uncertainty, pcgrad)),
    "mtan_dwa": ("mtan", Method(DynamicAverage)),
    "mtan_dwa_pcgrad": ("mtan", Method(DynamicAverage, pcgrad)),
}


def scenes_of(settings: Settings, source: Source, generate: Generate, classes: int) -> Scenes:
    """Reads the real set, or generates a set with `classes` in its layout.

    The real set is in data_root/<lower-case name>.
    """
    counts = settings["train_examples"], settings["test_examples"]
    size = settings["height"], settings["width"]
    if settings["data"] != "generated":
        folder = data_root(settings["data_root"]) / source.name.lower()
    # 0 means "as many as there are", which a generated set does not define.
    elif 0 in counts or settings["classes"] != classes:
        raise UserError(
            "generated data need train_examples and test_examples above 0 "
            f"and classes: {classes}; correct them"
        )
    else:
        examples = dict(zip(SPLITS, counts, strict=True))
        folder = generate(Path(settings["data_root"]), examples, *size, settings["data_seed"])
    return read_scenes(folder, source, settings["classes"], size, counts)


def heads(scenes: Scenes, settings: Settings) -> dict[str, int]:
    """Returns the tasks and the channels of their predictions; normals if the data have them."""
    # The image is the first part of an example; each other part is a task.
    outputs = {"segmentation": settings["classes"], scenes.second: 1, "normal": 3}
    return dict(list(outputs.items())[: len(scenes.train) - 1])


def fingerprint(scenes: Scenes, settings: Settings) -> dict[str, Any]:
    """Returns name, sizes and content hash of the data, and whether they are the paper's."""
    name = settings["data"]
    train, test = len(scenes.train[0]), len(scenes.test[0])
    return {
        "name": name,
        "real": name != "generated",
        "train": train,
        "test": test,
        "sha256": scenes.sha256,
    }


def problem(row: str, seed: int, settings: Settings, scenes: Scenes) -> Problem:
    """Builds the problem for the loop: data, network, losses and metrics.

    The tasks are segmentation, depth and, if the data have them, normals.
    """
    device = choose_device(settings["device"])
    train, test = (
        tuple(part.to(device) for part in split) for split in (scenes.train, scenes.test)
    )
    outputs = heads(scenes, settings)
    with initialization(seed):
        model: nn.Module = build(ROWS[row][0], outputs, settings["widths"])
    # Drawn on the CPU, so that every device starts from the same values.
    model = model.to(device)

    def losses(batch: Data, _: Generator) -> list[Tensor]:
        predictions = model(batch[0])
        return [
            LOSSES[task](full(x), y)
            for task, x, y in zip(outputs, predictions, batch[1:], strict=True)
        ]

    def evaluate(examples: Data) -> dict[tuple[str, str], float]:
        return measure(model, outputs, examples, settings["batch_size"])

    shared = model.shared_parameters()  # type: ignore[operator]  # every network of `build` has them
    return Problem(tuple(outputs), model, shared, train, {"test": test}, losses, evaluate)


def measure(
    model: nn.Module, outputs: Mapping[str, int], examples: Data, batch_size: int
) -> dict[tuple[str, str], float]:
    """Returns every metric {(task, name): value} of a split, the loss included.

    Batches are taken in the order of the data.
    """
    batches: dict[str, list[dict[str, float]]] = {task: [] for task in outputs}
    counts = torch.zeros(outputs["segmentation"] + 1, outputs["segmentation"], dtype=torch.int64)
    for batch in zip(*(part.split(batch_size) for part in examples), strict=True):
        predictions = [full(prediction) for prediction in model(batch[0])]
        for task, prediction, truth in zip(outputs, predictions, batch[1:], strict=True):
            values = {"loss": LOSSES[task](prediction, truth).item()}
            if task == "segmentation":
                pixels = confusion(prediction.argmax(1), truth, outputs[task])
                # The metrics of 2020 need the counts of the whole set, those of 2019 each image's.
                counts += pixels.sum(0).cpu()
                values |= per_image(pixels)
            else:
                values |= (normal_errors if task == "normal" else depth_errors)(prediction, truth)
            batches[task].append(values)
    means = {
        (task, name): value for task in outputs for name, value in average(batches[task]).items()
    }
    return means | {("segmentation", name): value for name, value in accumulated(counts).items()}


def train(row: str, seed: int, settings: Settings, session: Session, scenes: Scenes) -> Records:
    """Trains one run; it is resumable.

    `relative_parameters` (#P of the tables) is recorded once, at the widths of the run.
    """
    records = fit(problem(row, seed, settings, scenes), ROWS[row][1], seed, settings, session)
    size = relative_parameters(ROWS[row][0], heads(scenes, settings), settings["widths"])
    records.add(0, "all", "relative_parameters", size)
    return records
