"""MultiMNIST (Section 5.1, Table 4): classify the top-left and the bottom-right digit of an image.

Deviations from the public code that the paper builds on: pairs, initial values, batches and dropout
masks are seeded. The last epoch is reported; that code reports the best epoch on the test split.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from multitask.data.download import data_root
from multitask.data.mnist import Digits, fashion_mnist, mnist, sklearn_digits
from multitask.data.multimnist import two_digits
from multitask.methods import METHODS as ROWS
from multitask.models.lenet import Dropout, LeNet
from multitask.runs.checkpoint import Session
from multitask.runs.devices import choose_device
from multitask.runs.precision import full
from multitask.runs.records import Records
from multitask.runs.seeding import generator, initialization
from multitask.supervised import Data, Problem, fit

METHODS = tuple(ROWS)
TASKS = ("left", "right")
EVALUATION_BATCH = 1000

Settings = Mapping[str, Any]


def source(settings: Settings) -> Digits:
    """The images for the left position: digits, or garments if all images are garments."""
    if settings["data"] == "digits":
        return sklearn_digits()
    read = fashion_mnist if settings["data"] == "fashion_mnist" else mnist
    return read(data_root(settings["data_root"]))


def other_source(settings: Settings) -> Digits:
    """The images for the right position: garments in mixed pairs, else those of the left."""
    if settings["data"] == "mnist_fashion":
        return fashion_mnist(data_root(settings["data_root"]))
    return source(settings)


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Name, sizes and content hash of the source images, and whether they are real."""
    digits, others = source(settings), other_source(settings)
    train, test = len(digits.train[1]), len(digits.test[1])
    name = settings["data"]
    return {
        "name": name,
        "real": name != "digits",
        "train": train,
        "test": test,
        "sha256": digits.sha256,
        **({"right sha256": others.sha256} if name == "mnist_fashion" else {}),
    }


def splits(digits: Digits, settings: Settings, others: Digits | None = None) -> dict[str, Data]:
    """Composed train, test and (if any) validation images, equal for all seeds and methods.

    Validation digits are set apart before pairing, so that none of them is seen in training.

    Args:
        digits: Images for both positions, or for the left one if `others` is given.
        settings: Settings of the run.
        others: Images for the right position.
    """
    options = {"offset": settings["offset"], "resize": settings["resize"]}
    others = others or digits
    count = len(digits.train[1])
    held = round(settings["validation_share"] * count)
    order = torch.randperm(count, generator=generator(settings["data_seed"], "validation"))
    wanted = settings["train_examples"] or count
    composed: dict[str, Data] = {}
    for name, rows, examples in (
        ("train", order[held:].sort().values, round(wanted * (1 - settings["validation_share"]))),
        ("validation", order[:held].sort().values, round(wanted * settings["validation_share"])),
    ):
        if examples:
            draw = generator(settings["data_seed"], f"pairs/{name}")
            left, right = (
                (images[rows], labels[rows]) for images, labels in (digits.train, others.train)
            )
            composed[name] = two_digits(left, examples, draw, **options, others=right)
    draw = generator(settings["data_seed"], "pairs/test")
    composed["test"] = two_digits(
        digits.test, settings["test_examples"], draw, **options, others=others.test
    )
    return composed


def problem(method: str, seed: int, settings: Settings) -> Problem:
    """Data, network, losses and metrics for the loop."""
    device = choose_device(settings["device"])
    composed = splits(source(settings), settings, other_source(settings))
    data = {name: tuple(part.to(device) for part in parts) for name, parts in composed.items()}
    with initialization(seed):
        dropout = Dropout(settings["dropout"], settings["dropout_form"])
        model = LeNet(len(TASKS), dropout, separate=method == "single_task")
    # Convolutions are faster in this memory format.
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(batch: Data, draw: Generator) -> list[Tensor]:
        images, *labels = batch
        return [
            functional.cross_entropy(full(x), y)
            for x, y in zip(model(images, draw), labels, strict=True)
        ]

    def evaluate(examples: Data) -> dict[tuple[str, str], float]:
        count = len(examples[0])
        totals = torch.zeros(2, len(TASKS), dtype=torch.float64, device=device)
        for rows in torch.arange(count, device=device).split(EVALUATION_BATCH):
            images, *labels = (part[rows] for part in examples)
            for task, (logits, label) in enumerate(zip(model(images), labels, strict=True)):
                totals[0, task] += functional.cross_entropy(full(logits), label, reduction="sum")
                totals[1, task] += (logits.argmax(1) == label).sum()
        mean_loss, accuracy = (totals / count).tolist()
        return {
            **{(task, "loss"): value for task, value in zip(TASKS, mean_loss, strict=True)},
            **{
                (task, "accuracy"): 100 * value for task, value in zip(TASKS, accuracy, strict=True)
            },
        }

    evaluations = {name: parts for name, parts in data.items() if name != "train"}
    return Problem(
        TASKS, model, model.shared_parameters(), data["train"], evaluations, losses, evaluate
    )


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    return fit(problem(method, seed, settings), ROWS[method], seed, settings, session)
