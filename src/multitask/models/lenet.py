"""LeNet with one head per task, as in Sener and Koltun's public code.

The code is multi_task/models/multi_lenet.py. Trunk: convolution 10 of 5x5, max-pool, ReLU;
convolution 20 of 5x5, dropout of channels, max-pool, ReLU; 320 -> 50, ReLU. Head: 50 -> 50, ReLU,
dropout, 50 -> 10. The trunk's 21,330 parameters are shared.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

CHANNELS, FEATURES, CLASSES = 20, 50, 10


@dataclass(frozen=True)
class Dropout:
    """Draws dropout masks from the caller's generator, the same for every method.

    Attributes:
        rate: Probability that a unit is dropped.
        form: "base_code" uses one mask of channels for the whole batch and never rescales, as the
            public code does; "standard" uses a mask per example and divides kept units by 1 - rate.
    """

    rate: float
    form: str

    def masks(
        self, batch: int, heads: int, draw: Generator, like: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Draws masks of the trunk's channels [B or 1, 20, 1, 1] and each head's units [B, 50]."""
        # One mask for the whole batch is a peculiarity of the base code.
        rows = 1 if self.form == "base_code" else batch
        keep = 1 - self.rate
        scale = 1.0 if self.form == "base_code" else 1 / keep

        def mask(*shape: int) -> Tensor:
            # Drawn on the CPU, so that every device drops the same units.
            return (torch.rand(shape, generator=draw) < keep).to(
                like.device, like.dtype, non_blocking=True
            ) * scale

        return mask(rows, CHANNELS, 1, 1), [mask(batch, FEATURES) for _ in range(heads)]


class Trunk(nn.Module):
    """Maps images [B, 1, 28, 28] to features [B, 50]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, CHANNELS, 5)
        self.dense = nn.Linear(CHANNELS * 4 * 4, FEATURES)

    def forward(self, images: Tensor, mask: Tensor | None) -> Tensor:
        """Applies the layers; `mask` multiplies the second convolution's output, None keeps it."""
        x = functional.relu(functional.max_pool2d(self.conv1(images), 2))
        x = self.conv2(x)
        x = functional.relu(functional.max_pool2d(x if mask is None else x * mask.to(x.dtype), 2))
        return functional.relu(self.dense(x.flatten(1)))


class Head(nn.Module):
    """Maps features [B, 50] to logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, FEATURES)
        self.out = nn.Linear(FEATURES, CLASSES)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Applies the layers; `mask` multiplies the hidden units, None keeps them."""
        x = functional.relu(self.hidden(features))
        return self.out(x if mask is None else x * mask.to(x.dtype))


class LeNet(nn.Module):
    """Trunk and heads.

    With `separate` each task has a trunk of its own; all start from the same values.
    """

    def __init__(self, heads: int, dropout: Dropout, *, separate: bool = False) -> None:
        super().__init__()
        trunk = Trunk()
        self.trunks = nn.ModuleList(
            [trunk, *(copy.deepcopy(trunk) for _ in range(heads - 1 if separate else 0))]
        )
        self.heads = nn.ModuleList([Head() for _ in range(heads)])
        self.dropout = dropout

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that every task reaches: the trunk's, or none if separate."""
        return list(self.trunks[0].parameters()) if len(self.trunks) == 1 else []

    def forward(self, images: Tensor, draw: Generator | None = None) -> list[Tensor]:
        """Returns logits [B, 10] per task.

        `draw` generates the dropout masks in training; None drops nothing.
        """
        trunk_mask: Tensor | None = None
        head_masks: list[Tensor | None] = [None] * len(self.heads)
        if draw is not None and self.dropout.rate > 0:
            trunk_mask, drawn = self.dropout.masks(len(images), len(self.heads), draw, images)
            head_masks = list(drawn)
        features = [trunk(images, trunk_mask) for trunk in self.trunks]
        if len(features) == 1:
            # A single trunk computes the features once for all heads.
            features = features * len(self.heads)
        return [
            head(x, mask) for head, x, mask in zip(self.heads, features, head_masks, strict=True)
        ]
