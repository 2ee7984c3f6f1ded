"""The seven networks of the dense-prediction tables, by name.

NYUv2: Tables 1, 6, 8; CityScapes: Tables 5, 7. All follow MTAN's public code
(im2im_pred/model_segnet_*.py), which the paper names as its base.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from multitask.models.cross_stitch import CrossStitch
from multitask.models.dense_sharing import DenseSharing
from multitask.models.mtan import MTAN
from multitask.models.segnet import WIDTHS
from multitask.models.split import Separate, Split

Network = Callable[[Mapping[str, int], Sequence[int]], nn.Module]


def _separate(network: Network, heads: Mapping[str, int], widths: Sequence[int]) -> nn.Module:
    """Builds one network with a single head for each task."""
    return Separate([network({name: outputs}, widths) for name, outputs in heads.items()])


ARCHITECTURES: dict[str, Network] = {
    "one_task": partial(_separate, Split),
    "stan": partial(_separate, MTAN),
    "split_wide": partial(Split, wide=True),
    "split_deep": partial(Split, deep=True),
    "dense": DenseSharing,
    "cross_stitch": CrossStitch,
    "mtan": MTAN,
}


def build(architecture: str, heads: Mapping[str, int], widths: Sequence[int] = WIDTHS) -> nn.Module:
    """Builds a network for dense prediction.

    `model(images)` takes [B, 3, H, W] (H, W multiples of 32) and returns one tensor [B, channels,
    H, W] per task: logits, depths, or vectors of length 1 for the task named "normal".
    `model.shared_parameters()` are those under surgery: exactly the parameters that two or more
    tasks' losses reach (none for "one_task" and "stan"). Draw initial values under
    `seeding.initialization`.

    Args:
        architecture: One of ARCHITECTURES.
        heads: {task: channels of its prediction}, in the order of the predictions.
        widths: Channels of the five stages.
    """
    return ARCHITECTURES[architecture](heads, widths)


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def relative_parameters(
    architecture: str, heads: Mapping[str, int], widths: Sequence[int] = WIDTHS
) -> float:
    """Returns #P of the tables: all parameters over those of one SegNet with the first head.

    One SegNet with 13 classes has 24,981,069 parameters, the base code's own divisor. Measured at
    full width against the paper:

    | architecture | NYUv2, 3 tasks | paper | CityScapes, 2 tasks | paper |
    |---|---|---|---|---|
    | one_task | 3.000 | 3 | 2.000 | 2 |
    | stan | 4.586 | 4.56 | 3.057 | 3.04 |
    | split_wide | 1.759 | 1.75 | 1.757 | 1.75 |
    | split_deep | 2.034 | 2 | 2.032 | 2 |
    | dense | 4.952 | 4.95 | 3.633 | 3.63 |
    | cross_stitch | 3.000 | about 3 | 2.000 | about 2 |
    | mtan | 1.770 | 1.77 | 1.650 | 1.65 |

    The paper's counts of stan, split_wide and split_deep are 0.4 to 1.7% lower than the public
    code's; no source states how they differ.
    """
    # The meta device computes shapes only and takes no memory.
    with torch.device("meta"):
        first = dict(list(heads.items())[:1])
        return count_parameters(build(architecture, heads, widths)) / count_parameters(
            Split(first, widths)
        )
