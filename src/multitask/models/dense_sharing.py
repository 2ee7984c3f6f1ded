"""Soft sharing ("Dense" in MTAN's tables): networks that also see a shared one's features."""

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
    """One task's SegNet, which also takes the shared trunk's maps.

    Every stage but the first takes the map of its resolution together with its own.
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
        # As in the base code, only the last stage keeps its doubled channels until its last
        # convolution.
        self.decoder = nn.ModuleList(
            [*stages, Stage(2 * last, outputs, DEPTHS[0], hidden=2 * last)]
        )

    def forward(self, images: Tensor, shared: Activations) -> Tensor:
        """Maps images [B, 3, H, W] to features [B, widths[0], H, W]."""
        # The first stage sees the image alone; there is no shared map of that resolution yet.
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

    Under surgery is the trunk, which every task's loss reaches; branches and heads belong to one
    task. The trunk ends with the last unpooled map that the branches take. The base code has a
    fifth decoder stage after it (0.2% of a SegNet's parameters), whose output nothing uses.
    """

    def __init__(self, heads: Mapping[str, int], widths: Sequence[int]) -> None:
        super().__init__()
        self.trunk = Trunk(widths, decoder_stages=4)
        self.branches = nn.ModuleList(Branch(widths) for _ in heads)
        self.heads = make_heads(heads, widths[0])
        initialize(self, uniform=True)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns the trunk's parameters, or none if there is one task."""
        return list(self.trunk.parameters()) if len(self.heads) > 1 else []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images [B, 3, H, W] to one prediction [B, outputs, H, W] per task."""
        shared = self.trunk(images)
        return [
            head(branch(images, shared))
            for branch, head in zip(self.branches, self.heads, strict=True)
        ]
