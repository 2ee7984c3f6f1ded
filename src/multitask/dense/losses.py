"""Losses of dense prediction, as in MTAN's public code (im2im_pred, `model_fit`): means over the
pixels of a batch.

Pixels without a label count nowhere: class -1, depth 0, a zero normal. A batch without any has loss
0, not nan. The code of 2019 masks the normals by the depth's mask, that of July 2020 by their own,
as here."""

from torch import Tensor
from torch.nn import functional

UNLABELED = -1


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits [B, C, H, W] (or log-probabilities) against labels [B, H, W]."""
    total = functional.cross_entropy(logits, labels.long(), ignore_index=UNLABELED, reduction="sum")
    return total / (labels != UNLABELED).sum().clamp(min=1)


def depth_loss(predicted: Tensor, depth: Tensor) -> Tensor:
    """Mean absolute difference of [B, 1, H, W] where `depth` is not 0."""
    known = depth != 0
    return ((predicted - depth).abs() * known).sum() / known.sum().clamp(min=1)


def normal_loss(predicted: Tensor, normals: Tensor) -> Tensor:
    """Mean of 1 - cosine of unit vectors [B, 3, H, W], where the true one is not zero."""
    known = known_normals(normals)
    cosine = (predicted * normals).sum(1)
    return ((1 - cosine) * known).sum() / known.sum().clamp(min=1)


def known_normals(normals: Tensor) -> Tensor:
    """Mask [B, H, W] of the normals that are not the zero vector.

    (The public code asks for a sum of components other than 0, which also drops the likes of (a,
    -a, 0).)"""
    return (normals != 0).any(1)
