"""SegNet (Badrinarayanan et al. 2017) as in MTAN's public code: the parts that the dense-prediction
networks share.

VGG-16's 13 convolutions in five stages of 64-128-256-512-512 channels, each stage ended by 2x2
max-pooling whose indices the mirrored decoder uses for its unpooling. Weights start from Xavier's
normal distribution, biases from zero."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.runs.errors import UserError
from multitask.runs.precision import full

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (
    2,
    2,
    3,
    3,
    3,
)  # convolutions of an encoder stage, and of the decoder stage that mirrors it
UNIT_LENGTH = "normal"  # the head of this name returns vectors of length 1


def pool(maps: Tensor) -> tuple[Tensor, Tensor]:
    """2x2 max-pooling of [B, C, H, W]: the maxima [B, C, H/2, W/2] and where they lie in the flat H
    x W plane.
    """
    return functional.max_pool2d(maps, 2, return_indices=True)


def unpool(maps: Tensor, indices: Tensor) -> Tensor:
    """Put [B, C, h, w] back where `pool` found its maxima, in zeros of [B, C, 2h, 2w].

    `torch.nn.functional.max_unpool2d` does the same, but torch refuses it where deterministic
    algorithms are asked for, because its indices could repeat. Those of windows that do not overlap
    cannot."""
    batch, channels, height, width = maps.shape
    plane = maps.new_zeros(batch, channels, 4 * height * width)
    return plane.scatter(2, indices.flatten(2), maps.flatten(2)).unflatten(
        2, (2 * height, 2 * width)
    )


def require_sides(images: Tensor) -> None:
    """Raise a UserError unless the sides of [B, 3, H, W] can be halved five times."""
    if images.shape[-2] % 32 or images.shape[-1] % 32:
        height, width = images.shape[-2:]
        raise UserError(
            f"images of {height}x{width} do not fit SegNet; set height and width to multiples of 32"
        )


class Stage(nn.Module):
    """`depth` times 3x3 convolution, batch norm, ReLU; returns the first and the last activation.

    `hidden`: channels of all but the last convolution (default: `outputs`).
    """

    def __init__(self, inputs: int, outputs: int, depth: int, hidden: int | None = None) -> None:
        super().__init__()
        sizes = [inputs, *[hidden or outputs] * (depth - 1), outputs]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(sizes)
        )

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """[B, inputs, H, W] -> twice [B, outputs, H, W]."""
        first = last = self.layers[0](maps)
        for layer in self.layers[1:]:
            last = layer(last)
        return first, last


@dataclass(frozen=True)
class Activations:
    """What a trunk computes: one entry per stage, the encoder's from the image down, the decoder's
    back up.
    """

    first: list[Tensor] = field(default_factory=list)  # encoder: after the first convolution
    last: list[Tensor] = field(default_factory=list)  # encoder: before pooling
    pooled: list[Tensor] = field(default_factory=list)
    unpooled: list[Tensor] = field(default_factory=list)  # inputs of the decoder's stages
    decoded: list[Tensor] = field(default_factory=list)  # outputs of the decoder's stages


def encoder_sizes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Channels in and out of the five encoder stages."""
    return list(zip((3, *widths[:-1]), widths, strict=True))


def decoder_sizes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Channels in and out of the five decoder stages, from the deepest; the last keeps its
    channels.
    """
    return list(zip(reversed(widths), (*reversed(widths[:-1]), widths[0]), strict=True))


class Trunk(nn.Module):
    """SegNet without its prediction. `depths` may be longer than VGG's; `decoder_stages` may leave
    out the last one.
    """

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int] = DEPTHS, decoder_stages: int = 5
    ) -> None:
        super().__init__()
        sizes = zip(encoder_sizes(widths), depths, strict=True)
        self.encoder = nn.ModuleList(Stage(a, b, depth) for (a, b), depth in sizes)
        sizes = zip(decoder_sizes(widths), reversed(depths), strict=True)
        self.decoder = nn.ModuleList(
            [Stage(a, b, depth) for (a, b), depth in sizes][:decoder_stages]
        )

    def forward(self, images: Tensor) -> Activations:
        """Images [B, 3, H, W] -> the activations of all stages; H and W are multiples of 32."""
        require_sides(images)
        all_maps, places, maps = Activations(), [], images
        for stage in self.encoder:
            first, last = stage(maps)
            maps, indices = pool(last)
            places.append(indices)
            for kept, value in zip(
                (all_maps.first, all_maps.last, all_maps.pooled), (first, last, maps), strict=True
            ):
                kept.append(value)
        for k in range(len(places)):
            all_maps.unpooled.append(unpool(maps, places[-1 - k]))
            if k < len(self.decoder):
                maps = self.decoder[k](all_maps.unpooled[-1])[1]
                all_maps.decoded.append(maps)
        return all_maps


class Head(nn.Module):
    """A task's prediction: 3x3 convolution, then 1x1 to `outputs` channels (nothing in between, as
    in the base code).

    `unit`: divide the result by its length over the channels, as for surface normals.
    """

    def __init__(self, inputs: int, outputs: int, *, unit: bool) -> None:
        super().__init__()
        self.features = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.out = nn.Conv2d(inputs, outputs, 1)
        self.unit = unit

    def forward(self, maps: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]: logits, depths or normals."""
        prediction = self.out(self.features(maps))
        return functional.normalize(full(prediction), dim=1) if self.unit else prediction


def make_heads(heads: Mapping[str, int], inputs: int) -> nn.ModuleList:
    """One head per task, {name: channels}, in order; the one named "normal" returns unit vectors."""
    return nn.ModuleList(
        Head(inputs, outputs, unit=name == UNIT_LENGTH) for name, outputs in heads.items()
    )


def initialize(model: nn.Module, *, uniform: bool = False) -> None:
    """Xavier's normal (or `uniform`) weights and zero biases for every convolution; batch norms
    keep ones and zeros.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fill = nn.init.xavier_uniform_ if uniform else nn.init.xavier_normal_
            fill(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
