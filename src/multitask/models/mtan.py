"""MTAN, the Multi-Task Attention Network of Liu, Johns and Davison (2019).

Soft masks select shared features. Every task has a mask per stage of the shared SegNet trunk. Mask
times trunk features, passed through a 3x3 convolution, is the input of the task's next mask. With a
single task this is that paper's single-task baseline, "STAN".
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.models.segnet import Activations, Stage, Trunk, decoder_sizes, initialize, make_heads


def mask(inputs: int, outputs: int) -> nn.Sequential:
    """Returns two 1x1 convolutions: [B, inputs, H, W] -> a mask [B, outputs, H, W] in (0, 1)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.Sigmoid(),
    )


class Attention(nn.Module):
    """One task's ten masks: what MTAN adds for each task, apart from its head."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            mask(width if k == 0 else 2 * width, width) for k, width in enumerate(widths)
        )
        self.decoder = nn.ModuleList(mask(a + b, b) for a, b in decoder_sizes(widths))

    def forward(self, maps: Activations, down: nn.ModuleList, up: nn.ModuleList) -> Tensor:
        """Returns the task's features [B, widths[0], H, W].

        `down` and `up` are the extractors between the stages.
        """
        # The features of the previous stage; empty before the first.
        passed: list[Tensor] = []
        for attend, extract, first, last in zip(
            self.encoder, down, maps.first, maps.last, strict=True
        ):
            # The mask selects from the trunk's last activation of the stage.
            selected = attend(torch.cat([first, *passed], 1)) * last
            passed = [functional.max_pool2d(extract(selected)[1], 2)]
        selected = passed[0]
        for attend, extract, unpooled, decoded in zip(
            self.decoder, up, maps.unpooled, maps.decoded, strict=True
        ):
            # Bilinear, as in the base code; the trunk unpools by indices instead.
            enlarged = functional.interpolate(
                selected, scale_factor=2, mode="bilinear", align_corners=True
            )
            selected = attend(torch.cat([unpooled, extract(enlarged)[1]], 1)) * decoded
        return selected


class MTAN(nn.Module):
    """Trunk, 3x3 extractors between the stages, and per task ten masks and a head.

    Under surgery are trunk and extractors, which every task's loss reaches; masks and heads belong
    to one task. As in the base code, one set of extractors serves all tasks; its parameter counts
    depend on this (1.77 and 1.65 of a SegNet with three and two tasks). The extractors run once per
    task within a forward pass. In training their batch norms therefore normalize each task's
    features separately, and take one step of the running statistics per task.
    """

    def __init__(self, heads: Mapping[str, int], widths: Sequence[int]) -> None:
        super().__init__()
        self.trunk = Trunk(widths)
        following = zip(widths, (*widths[1:], widths[-1]), strict=True)
        self.down = nn.ModuleList(Stage(a, b, 1) for a, b in following)
        self.up = nn.ModuleList(Stage(a, b, 1) for a, b in decoder_sizes(widths))
        self.attention = nn.ModuleList(Attention(widths) for _ in heads)
        self.heads = make_heads(heads, widths[0])
        initialize(self)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns the trunk's and the extractors' parameters, or none if there is one task."""
        shared = [p for part in (self.trunk, self.down, self.up) for p in part.parameters()]
        return shared if len(self.heads) > 1 else []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images [B, 3, H, W] to one prediction [B, outputs, H, W] per task."""
        maps = self.trunk(images)
        selected = [attention(maps, self.down, self.up) for attention in self.attention]
        return [head(features) for head, features in zip(self.heads, selected, strict=True)]
