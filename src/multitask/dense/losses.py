"""Losses of dense prediction as in MTAN's public code: means over the pixels of a batch.

The code is `model_fit` in im2im_pred. Pixels without a label (class -1, depth 0, a zero normal) do
not count; a batch without any label has loss 0, not nan. The code of 2019 masks the normals by the
depth's mask. The code of July 2020 masks them by their own, as is done here.
"""

from torch import Tensor
from torch.nn import functional

UNLABELED = -1


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy of logits [B, C, H, W] against labels [B, H, W].

    Log-probabilities may take the place of logits.
    """
    total = functional.cross_entropy(logits, labels.long(), ignore_index=UNLABELED, reduction="sum")
    # The clamp turns 0 / 0 of a batch without labels into 0.
    return total / (labels != UNLABELED).sum().clamp(min=1)


def depth_loss(predicted: Tensor, depth: Tensor) -> Tensor:
    """Returns the mean absolute difference of [B, 1, H, W] where `depth` is not 0."""
    known = depth != 0
    return ((predicted - depth).abs() * known).sum() / known.sum().clamp(min=1)


def normal_loss(predicted: Tensor, normals: Tensor) -> Tensor:
    """Returns the mean of 1 - cosine of unit vectors [B, 3, H, W].

    Pixels whose true vector is zero are left out.
    """
    known = known_normals(normals)
    cosine = (predicted * normals).sum(1)
    return ((1 - cosine) * known).sum() / known.sum().clamp(min=1)


def known_normals(normals: Tensor) -> Tensor:
    """Returns a mask [B, H, W] of the normals that are not the zero vector.

    The public code tests whether the sum of the components is 0, which also drops vectors like (a,
    -a, 0).
    """
    return (normals != 0).any(1)
