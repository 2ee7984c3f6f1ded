"""Cross-Stitch networks (Misra et al. 2016) on SegNet, in the form of MTAN's public code."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from multitask.models.segnet import Trunk, initialize, make_heads, pool, require_sides, unpool


class CrossStitch(nn.Module):
    """A SegNet per task whose maps x_k are mixed to sum_k s_k x_k before every later stage.

    As in the base code the nine mixtures (four in the encoder, five in the decoder) have one weight
    s_k per task, start at one, and feed every task's next stage alike. In Misra et al. each
    receiving task has weights of its own, which start near the identity. Each task unpools the
    mixture with its own network's indices.

    Under surgery is what all tasks reach: every task's encoder, the first four decoder stages and
    the stitches. A task's fifth decoder stage and head follow the last stitch and belong to it
    alone.
    """

    def __init__(self, heads: Mapping[str, int], widths: Sequence[int]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(Trunk(widths) for _ in heads)
        self.stitches = nn.Parameter(torch.ones(9, len(heads)))
        self.heads = make_heads(heads, widths[0])
        initialize(self, uniform=True)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns all parameters before the last stitch, with the stitches; none for one task."""
        before = [
            stage
            for trunk in self.networks
            for stage in (*trunk.encoder, *trunk.decoder[:-1])  # type: ignore
        ]
        shared = [self.stitches, *(p for stage in before for p in stage.parameters())]
        return shared if len(self.heads) > 1 else []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images [B, 3, H, W] to one prediction [B, outputs, H, W] per task."""
        require_sides(images)
        weights = iter(self.stitches)
        inputs, places = images, []
        for stages in zip(*(trunk.encoder for trunk in self.networks), strict=True):
            pooled = [pool(stage(inputs)[1]) for stage in stages]
            places.append([indices for _, indices in pooled])
            # Every task's next stage takes the same mixture.
            inputs = mix([maps for maps, _ in pooled], next(weights))
        for stages in zip(*(trunk.decoder for trunk in self.networks), strict=True):
            pairs = zip(stages, places.pop(), strict=True)
            decoded = [stage(unpool(inputs, indices))[1] for stage, indices in pairs]
            # The maps of the last decoder stage are not mixed.
            if places:
                inputs = mix(decoded, next(weights))
        return [head(maps) for head, maps in zip(self.heads, decoded, strict=True)]


def mix(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Returns sum_k weights_k maps_k over the tasks k."""
    total = weights[0] * maps[0]
    for weight, part in zip(weights[1:], maps[1:], strict=True):
        total = torch.addcmul(total, weight, part)
    return total
