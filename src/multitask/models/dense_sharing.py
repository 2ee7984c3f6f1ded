"""Soft sharing, "Dense" in MTAN's tables: a network per task that also sees a shared network's
features.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from multitask.models.segnet import (
    DEPTHS,
    Activations,
    Stage,
    Trunk,
    decoder_sizes,
    encoder_sizes,
    initialize,
    make_heads,
    pool,
    unpool,
)


class Branch(nn.Module):
    """One task's SegNet; every stage but the first takes the shared trunk's map of its resolution
    beside its own.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        first, *sizes = [
            (a, b, depth) for (a, b), depth in zip(encoder_sizes(widths), DEPTHS, strict=True)
        ]
        self.encoder = nn.ModuleList(
            [Stage(*first), *(Stage(2 * a, b, depth) for a, b, depth in sizes)]
        )
        *deep, (last, outputs) = decoder_sizes(widths)
        stages = [
            Stage(2 * a, b, depth) for (a, b), depth in zip(deep, reversed(DEPTHS[1:]), strict=True)
        ]
        # In the base code the last stage alone keeps its doubled channels until its last
        # convolution.
        self.decoder = nn.ModuleList(
            [*stages, Stage(2 * last, outputs, DEPTHS[0], hidden=2 * last)]
        )

    def forward(self, images: Tensor, shared: Activations) -> Tensor:
        """Images [B, 3, H, W] -> features [B, widths[0], H, W]."""
        maps, places = images, []
        for k, stage in enumerate(self.encoder):
            maps, indices = pool(
                stage(torch.cat([maps, shared.pooled[k - 1]], 1) if k else maps)[1]
            )
            places.append(indices)
        for stage, unpooled in zip(self.decoder, shared.unpooled, strict=True):
            maps = stage(torch.cat([unpool(maps, places.pop()), unpooled], 1))[1]
        return maps


class DenseSharing(nn.Module):
    """A shared SegNet trunk, and per task a branch and a head.

    Surgery: the trunk, which every task's loss reaches; branch and head are a task's own. The trunk
    ends with the last unpooled map that the branches take: the base code has a fifth decoder stage
    behind it (0.2% of a SegNet's parameters) whose output nothing uses.
    """

    def __init__(self, heads: Mapping[str, int], widths: Sequence[int]) -> None:
        super().__init__()
        self.trunk = Trunk(widths, decoder_stages=4)
        self.branches = nn.ModuleList(Branch(widths) for _ in heads)
        self.heads = make_heads(heads, widths[0])
        initialize(self, uniform=True)

    def shared_parameters(self) -> list[nn.Parameter]:
        """The trunk's parameters, or none where there is one task."""
        return list(self.trunk.parameters()) if len(self.heads) > 1 else []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] -> one prediction [B, outputs, H, W] per task."""
        shared = self.trunk(images)
        return [
            head(branch(images, shared))
            for branch, head in zip(self.branches, self.heads, strict=True)
        ]
