"""Problems whose tasks are binary attributes of an image: CelebA and UC Merced."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from multitask.data.celeba import SPLITS
from multitask.models.resnet import FaceNet
from multitask.runs.devices import choose_device
from multitask.runs.precision import full
from multitask.runs.seeding import initialization
from multitask.supervised import Data, Problem

EVALUATION_BATCH = 500


def problem(
    tasks: Sequence[str],
    images: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    seed: int,
    settings: Mapping[str, Any],
) -> Problem:
    """Builds the problem for the loop: data, network, losses and metrics.

    Args:
        tasks: Names of the attributes, T of them.
        images: Bytes [N, 3, S, S] of every split.
        labels: 0 or 1, [N, T], of every split.
        seed: Seed of the initial values.
        settings: Device, width and blocks of the network.
    """
    device = choose_device(settings["device"])
    data = {
        split: (
            images[split].to(device),
            labels[split].to(device, torch.int64),
        )
        for split in SPLITS
    }
    with initialization(seed):
        model = FaceNet(len(tasks), settings["width"], settings["blocks"])
    # Convolutions are faster when the channels of a pixel are neighbors in memory.
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(images: Tensor) -> list[Tensor]:
        """Returns logits [B, 2] per task for bytes [B, 3, S, S]."""
        # The base code scales bytes to numbers from 0 to 1.
        numbers = images.to(next(model.parameters()).dtype) / 255
        predictions = model(numbers.contiguous(memory_format=torch.channels_last))
        return [full(logits) for logits in predictions]

    def losses(batch: Data, draw: Generator) -> list[Tensor]:
        images, labels = batch
        return [
            functional.cross_entropy(x, y) for x, y in zip(predict(images), labels.T, strict=True)
        ]

    def evaluate(examples: Data) -> dict[tuple[str, str], float]:
        count = len(examples[0])
        totals = torch.zeros(2, len(tasks), dtype=torch.float64, device=device)
        # In parts of a fixed size: the activations of a whole split may not fit into memory.
        for rows in torch.arange(count, device=device).split(EVALUATION_BATCH):
            images, labels = (part[rows] for part in examples)
            logits = torch.stack(predict(images), 1)
            totals[0] += functional.cross_entropy(
                logits.transpose(1, 2), labels, reduction="none"
            ).sum(0)
            totals[1] += (logits.argmax(2) != labels).sum(0)
        loss, error = totals / count
        found = {
            (task, "error"): 100 * value for task, value in zip(tasks, error.tolist(), strict=True)
        }
        return {
            **found,
            ("all", "error"): 100 * error.mean().item(),
            ("all", "loss"): loss.mean().item(),
        }

    evaluations = {split: data[split] for split in ("validation", "test")}
    return Problem(
        tuple(tasks),
        model,
        list(model.trunk.parameters()),
        data["train"],
        evaluations,
        losses,
        evaluate,
    )
