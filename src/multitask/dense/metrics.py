"""Metrics of dense prediction: MTAN's of 2019, on whose scale the paper's tables are, and those of
November 2020.

Facts from lorenmt/mtan (im2im_pred). Before November 2020 (`compute_miou`, `compute_iou`): mean IoU
and pixel accuracy of each *image*, averaged over the images of a batch, then over batches. A class
counts in an image's mean if it is in the truth *or* the prediction there, so one stray pixel of an
absent class adds a term of 0. Until July 2020 the union also counted predictions at unlabeled
pixels; the paper's base is older, so they count here too. Since November 2020 (`ConfMatrix`): one
confusion matrix over all labeled pixels of the set; a class that neither the truth nor any
prediction names has no IoU and is left out here (nan there). Depth errors and angles are pooled
over a batch, then averaged over batches, a short last one with equal weight; so the "median" angle
is a mean of medians, and these values depend on the batch size (2 for NYUv2, 8 for CityScapes;
batches are in the files' order here, shuffled there)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from multitask.dense.losses import UNLABELED, known_normals

ANGLES = (11.25, 22.5, 30)  # degrees


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Pixel counts [B, C + 1, C] per image: rows by true class, the last one unlabeled; columns by
    predicted class.
    """
    images = torch.arange(len(labels), device=labels.device)[:, None, None]
    truth = torch.where(labels == UNLABELED, classes, labels.long())
    flat = (images * (classes + 1) + truth) * classes + predicted
    counts = torch.bincount(flat.flatten(), minlength=len(labels) * (classes + 1) * classes)
    return counts.reshape(len(labels), classes + 1, classes)


def mean_iou(counts: Tensor, *, unlabeled_in_union: bool) -> Tensor:
    """Mean over classes of intersection / union from counts [..., C + 1, C]; nan if no class
    occurs.
    """
    labeled = counts[..., :-1, :].double()
    hits = labeled.diagonal(dim1=-2, dim2=-1)
    named = (counts.double() if unlabeled_in_union else labeled).sum(-2)
    return (hits / (labeled.sum(-1) + named - hits)).nanmean(-1)


def pixel_accuracy(counts: Tensor) -> Tensor:
    """Share of the labeled pixels that are right, from counts [..., C + 1, C]; nan if none is
    labeled.
    """
    labeled = counts[..., :-1, :].double()
    return labeled.diagonal(dim1=-2, dim2=-1).sum(-1) / labeled.sum((-2, -1))


def per_image(counts: Tensor) -> dict[str, float]:
    """The metrics of 2019 of one batch, in percent, from counts [B, C + 1, C]."""
    values = {
        "mIoU_per_image": mean_iou(counts, unlabeled_in_union=True),
        "PixAcc_per_image": pixel_accuracy(counts),
    }
    return {name: 100 * value.nanmean().item() for name, value in values.items()}


def accumulated(counts: Tensor) -> dict[str, float]:
    """The metrics of November 2020 of a set, in percent, from its summed counts [C + 1, C]."""
    iou = mean_iou(counts, unlabeled_in_union=False)
    return {"mIoU": 100 * iou.item(), "PixAcc": 100 * pixel_accuracy(counts).item()}


def depth_errors(predicted: Tensor, depth: Tensor) -> dict[str, float]:
    """Mean absolute and relative error of [B, 1, H, W] where `depth` is not 0, in its own unit and
    as a ratio.

    On CityScapes the ratio is in the tens: inverse depths of far surfaces are nearly 0.
    """
    known = depth != 0
    truth = depth[known].double()
    error = (predicted[known].double() - truth).abs()
    return {"AbsErr": error.mean().item(), "RelErr": (error / truth).mean().item()}


def normal_errors(predicted: Tensor, normals: Tensor) -> dict[str, float]:
    """Mean and median angle in degrees between unit vectors [B, 3, H, W], percent of angles below
    11.25, 22.5, 30.
    """
    cosine = (predicted * normals).sum(1)[known_normals(normals)].double()
    angles = cosine.clamp(-1, 1).acos().rad2deg()
    ranks = angles.sort().values
    median = (
        (ranks[(len(ranks) - 1) // 2] + ranks[len(ranks) // 2]) / 2 if len(ranks) else angles.mean()
    )
    shares = {
        f"within_{angle:g}": 100 * (angles < angle).double().mean().item() for angle in ANGLES
    }
    return {"mean_angle": angles.mean().item(), "median_angle": median.item(), **shares}


def average(batches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over batches of each value, those without any (nan) left out."""
    values = {
        name: torch.tensor([batch[name] for batch in batches], dtype=torch.float64)
        for name in batches[0]
    }
    return {name: column.nanmean().item() for name, column in values.items()}
