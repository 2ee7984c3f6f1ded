"""CIFAR-100 as 20 tasks (Section 5.1, Table 2): one 5-way classification for every superclass.

A batch holds images of all tasks, grouped by task. Each group has a forward pass of its own, so the
task gradients together cost one backward pass of the whole batch. The paper does not say which
network its PCGrad row trains. Ours is "one_fc", which shares all layers but the head; trained with
the sum of losses, it is the row "task specific, 1-fc".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from multitask.data.cifar100 import (
    CLASSES,
    FOLDER,
    TASKS,
    Cifar100,
    Images,
    balanced_subset,
    cifar100,
    read,
    within_superclass,
)
from multitask.data.download import data_root
from multitask.data.generated.labeled import generate_gratings
from multitask.data.generated.layout import write_once
from multitask.methods import METHODS as COMBINATIONS
from multitask.methods import Method
from multitask.models.convnet import ConvNet, StitchedNet
from multitask.models.routing import Routing
from multitask.runs.checkpoint import Session
from multitask.runs.devices import choose_device
from multitask.runs.precision import full
from multitask.runs.records import Records
from multitask.runs.seeding import generator, initialization
from multitask.supervised import Data, Problem, fit

EVALUATION_BATCH = 500
# Per channel of the training images.
MEAN, DEVIATION = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)

Settings = Mapping[str, Any]


class Row(NamedTuple):
    """A row of the table: its network, its method, and its labels."""

    network: str
    method: Method
    labels: str = ""  # replaces the labels of the settings


ROWS = {
    "independent": Row("independent", Method()),
    "one_fc": Row("one_fc", Method()),  # the sum of losses, and the paper's "task specific, 1-fc"
    "all_fc": Row("all_fc", Method()),
    "pcgrad": Row("one_fc", COMBINATIONS["pcgrad"]),
    "direction_only": Row("one_fc", COMBINATIONS["direction_only"]),
    "sum_pcgrad_length": Row("one_fc", COMBINATIONS["sum_pcgrad_length"]),
    "uncertainty": Row("one_fc", COMBINATIONS["uncertainty"]),
    "mgda": Row("one_fc", COMBINATIONS["mgda"]),
    "cagrad": Row("one_fc", COMBINATIONS["cagrad"]),
    "nash_mtl": Row("one_fc", COMBINATIONS["nash_mtl"]),
    "upgrad": Row("one_fc", COMBINATIONS["upgrad"]),
    "all_fc_pcgrad": Row("all_fc", COMBINATIONS["pcgrad"]),
    "cross_stitch": Row("cross_stitch", Method()),
    "routing": Row("routing", Method()),
    "routing_pcgrad": Row("routing", COMBINATIONS["pcgrad"]),
    # With the base code's labels, which the paper's absolute numbers may be based on.
    "one_fc_mod5": Row("one_fc", Method(), "mod5"),
    "all_fc_mod5": Row("all_fc", Method(), "mod5"),
    "pcgrad_mod5": Row("one_fc", COMBINATIONS["pcgrad"], "mod5"),
}
METHODS = tuple(ROWS)


def source(settings: Settings) -> Cifar100:
    """The images and labels of both splits; gratings are drawn at the first call."""
    if settings["data"] == "cifar100":
        return cifar100(data_root(settings["data_root"]))
    counts = {
        split: settings[f"{split}_examples"] // (TASKS * CLASSES) for split in ("train", "test")
    }
    folder = write_once(
        Path(settings["data_root"]),
        "cifar100",
        {**counts, "seed": settings["data_seed"]},
        lambda unfinished: generate_gratings(
            unfinished, counts["train"], counts["test"], settings["data_seed"]
        ),
    )
    return read(folder / FOLDER, published=False)


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash of the source, and whether it is the paper's data."""
    data = source(settings)
    train, test = len(data.train.fine), len(data.test.fine)
    name = settings["data"]
    return {
        "name": name,
        "real": name == "cifar100",
        "train": train,
        "test": test,
        "sha256": data.sha256,
    }


def prepared(part: Images, rows: Tensor, labels: str) -> Data:
    """Normalized images [N, 3, 32, 32], tasks [N] and labels [N] in 0...4 of some rows of a split.

    Args:
        part: Images of a split.
        rows: Indices of the images to take.
        labels: "superclass" for the position of the fine class in its superclass; "mod5" for the
            base code's fine % 5, which gives some classes of a superclass the same label.
    """
    scale = torch.tensor(DEVIATION)[:, None, None] * 255
    shift = torch.tensor(MEAN)[:, None, None] / torch.tensor(DEVIATION)[:, None, None]
    images = (part.images[rows] / scale - shift).contiguous(memory_format=torch.channels_last)
    label = (
        within_superclass(part.tasks, part.fine) if labels == "superclass" else part.fine % CLASSES
    )
    return images, part.tasks[rows], label[rows]


def splits(data: Cifar100, settings: Settings) -> dict[str, Data]:
    """Class-balanced train, test and (if any) validation images.

    They are equal for all seeds and methods.
    """
    rows = balanced_subset(data.train.fine, settings["train_examples"], settings["data_seed"])
    held = torch.zeros(len(rows), dtype=torch.bool)
    if settings["validation_share"]:
        # Round to a whole number of images per class, and hold out at least one of each.
        wanted = (
            round(settings["validation_share"] * len(rows) / (TASKS * CLASSES)) * TASKS * CLASSES
        )
        held[
            balanced_subset(
                data.train.fine[rows], max(wanted, TASKS * CLASSES), settings["data_seed"] + 1
            )
        ] = True
    tested = balanced_subset(data.test.fine, settings["test_examples"], settings["data_seed"])
    parts = {
        "train": prepared(data.train, rows[~held], settings["labels"]),
        "validation": prepared(data.train, rows[held], settings["labels"]),
        "test": prepared(data.test, tested, settings["labels"]),
    }
    return {name: part for name, part in parts.items() if len(part[0])}


def balanced_batches(tasks: Tensor, batch_size: int, seed: int, epoch: int) -> Sequence[Tensor]:
    """Batches of an epoch with equally many examples of every task.

    Examples that do not fill a batch are left out.
    """
    draw = generator(seed, f"batch/{epoch}")
    # Every task contributes the same number of images; a remainder of the batch size is dropped.
    each = max(1, batch_size // TASKS)
    order = torch.randperm(len(tasks), generator=draw)
    groups = [order[tasks[order] == task].split(each) for task in range(TASKS)]
    full = min(sum(len(part) == each for part in parts) for parts in groups)
    return [torch.cat([parts[k] for parts in groups]) for k in range(full)]


def network(name: str, settings: Settings) -> nn.Module:
    """The network of a row; call it while the stream of initial values is active."""
    size = {"filters": settings["filters"], "units": settings["units"]}
    if name == "routing":
        return Routing(TASKS, CLASSES, **size)
    return (
        StitchedNet(TASKS, CLASSES, **size)
        if name == "cross_stitch"
        else ConvNet(name, TASKS, CLASSES, **size)
    )


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    device = choose_device(settings["device"])
    settings = {**settings, "labels": ROWS[method].labels or settings["labels"]}
    data = source(settings)
    parts = {
        name: tuple(x.to(device) for x in part) for name, part in splits(data, settings).items()
    }
    with initialization(seed):
        model = network(ROWS[method].network, settings)
    # Convolutions are faster in this memory format.
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(batch: Data, draw: Generator) -> list[Tensor]:
        images, tasks, labels = batch
        found = []
        # Every image passes all columns: one pass instead of one for each task reads their weights
        # once.
        columns = model.columns(images) if isinstance(model, StitchedNet) else None
        for task in range(TASKS):
            rows = (tasks == task).nonzero()[:, 0]
            if columns is not None:
                logits = model.heads[task](columns[task, rows])
            elif isinstance(model, Routing):
                logits = model(images[rows], task, draw)
                # The routing policy learns from a reward, not from the task's gradient.
                model.learn(labels[rows])
            else:
                logits = model(images[rows], task)
            loss = functional.cross_entropy(full(logits), labels[rows], reduction="sum")
            # A task without examples in the batch has loss 0 and a zero gradient.
            found.append(loss / max(1, len(rows)) if settings["task_loss"] == "mean" else loss)
        return found

    def evaluate(examples: Data) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}
        for task, name in enumerate(data.names):
            mine = (examples[1] == task).nonzero()[:, 0]
            logits = torch.cat(
                [full(model(examples[0][rows], task)) for rows in mine.split(EVALUATION_BATCH)]
            )
            labels = examples[2][mine]
            found[name, "loss"] = functional.cross_entropy(logits, labels).item()
            found[name, "accuracy"] = 100 * (logits.argmax(1) == labels).float().mean().item()
        if isinstance(model, Routing):
            found["all", "policy_entropy"] = model.entropy()
        found["all", "accuracy"] = sum(found[name, "accuracy"] for name in data.names) / TASKS
        return found

    def batches(run_seed: int, epoch: int) -> Sequence[Tensor]:
        return balanced_batches(parts["train"][1].cpu(), settings["batch_size"], run_seed, epoch)

    return Problem(
        data.names,
        model,
        model.shared_parameters(),
        parts["train"],
        {name: part for name, part in parts.items() if name != "train"},
        losses,
        evaluate,
        batches=batches if settings["batching"] == "balanced" else None,
    )


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return fit(problem(method, seed, settings), ROWS[method].method, seed, settings, session)
