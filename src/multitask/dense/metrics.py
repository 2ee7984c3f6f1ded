"""Metrics of dense prediction: MTAN's of 2019 and those of November 2020.

The paper's tables use the scale of 2019. All facts are from lorenmt/mtan (im2im_pred).

Before November 2020 (`compute_miou`, `compute_iou`): mean IoU and pixel accuracy of each *image*,
averaged over the images of a batch, then over batches. A class counts in an image's mean if it
occurs in the truth *or* the prediction, so one stray pixel of an absent class adds a term of 0.
Until July 2020 the union also counted predictions at unlabeled pixels; the paper's base is older,
so they count here too.

Since November 2020 (`ConfMatrix`): one confusion matrix over all labeled pixels of the set. A class
that occurs neither in the truth nor in any prediction has no IoU; it is left out here, and nan
there.

Depth errors and angles are pooled over a batch, then averaged over batches, where a short last
batch has equal weight. The "median" angle is therefore a mean of medians, and these values depend
on the batch size (2 for NYUv2, 8 for CityScapes). Batches are in the files' order here, and
shuffled there.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from multitask.dense.losses import UNLABELED, known_normals

# In degrees.
ANGLES = (11.25, 22.5, 30)


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts pixels [B, C + 1, C] per image: rows by true class, columns by predicted class.

    The last row counts unlabeled pixels.
    """
    images = torch.arange(len(labels), device=labels.device)[:, None, None]
    # Unlabeled pixels form a class of their own, so that none has to be selected.
    truth = torch.where(labels == UNLABELED, classes, labels.long())
    # One number per (image, true class, predicted class), so that a single count suffices.
    flat = (images * (classes + 1) + truth) * classes + predicted
    counts = torch.bincount(flat.flatten(), minlength=len(labels) * (classes + 1) * classes)
    return counts.reshape(len(labels), classes + 1, classes)


def mean_iou(counts: Tensor, *, unlabeled_in_union: bool) -> Tensor:
    """Averages intersection / union over classes, from counts [..., C + 1, C].

    The result is nan if no class occurs.
    """
    labeled = counts[..., :-1, :].double()
    hits = labeled.diagonal(dim1=-2, dim2=-1)
    named = (counts.double() if unlabeled_in_union else labeled).sum(-2)
    # A class that never occurs is 0 / 0 = nan, and `nanmean` leaves it out.
    return (hits / (labeled.sum(-1) + named - hits)).nanmean(-1)


def pixel_accuracy(counts: Tensor) -> Tensor:
    """Returns the share of labeled pixels that are right, from counts [..., C + 1, C].

    The result is nan if no pixel is labeled.
    """
    labeled = counts[..., :-1, :].double()
    return labeled.diagonal(dim1=-2, dim2=-1).sum(-1) / labeled.sum((-2, -1))


def per_image(counts: Tensor) -> dict[str, float]:
    """Returns the metrics of 2019 of one batch, in percent, from counts [B, C + 1, C]."""
    values = {
        "mIoU_per_image": mean_iou(counts, unlabeled_in_union=True),
        "PixAcc_per_image": pixel_accuracy(counts),
    }
    return {name: 100 * value.nanmean().item() for name, value in values.items()}


def accumulated(counts: Tensor) -> dict[str, float]:
    """Returns the metrics of November 2020 of a set, in percent, from its counts [C + 1, C]."""
    iou = mean_iou(counts, unlabeled_in_union=False)
    return {"mIoU": 100 * iou.item(), "PixAcc": 100 * pixel_accuracy(counts).item()}


def depth_errors(predicted: Tensor, depth: Tensor) -> dict[str, float]:
    """Returns the mean absolute and relative error of [B, 1, H, W] where `depth` is not 0.

    The absolute error has the unit of the depth, the relative error is a ratio. On CityScapes the
    ratio is in the tens, because inverse depths of far surfaces are almost 0.
    """
    known = depth != 0
    truth = depth[known].double()
    error = (predicted[known].double() - truth).abs()
    return {"AbsErr": error.mean().item(), "RelErr": (error / truth).mean().item()}


def normal_errors(predicted: Tensor, normals: Tensor) -> dict[str, float]:
    """Measures angles between unit vectors [B, 3, H, W] where the true one is not zero.

    Returns:
        Mean and median angle in degrees, and the percentages of angles below 11.25, 22.5 and 30
        degrees.
    """
    # In float64: the arc cosine is steep near 1.
    cosine = (predicted * normals).sum(1)[known_normals(normals)].double()
    angles = cosine.clamp(-1, 1).acos().rad2deg()
    # `Tensor.median` returns the lower of two middle values; NumPy's, in the base code, their mean.
    ranks = angles.sort().values
    median = (
        (ranks[(len(ranks) - 1) // 2] + ranks[len(ranks) // 2]) / 2 if len(ranks) else angles.mean()
    )
    shares = {
        f"within_{angle:g}": 100 * (angles < angle).double().mean().item() for angle in ANGLES
    }
    return {"mean_angle": angles.mean().item(), "median_angle": median.item(), **shares}


def average(batches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Averages each value over batches; batches without it (nan) are left out."""
    values = {
        name: torch.tensor([batch[name] for batch in batches], dtype=torch.float64)
        for name in batches[0]
    }
    return {name: column.nanmean().item() for name, column in values.items()}
