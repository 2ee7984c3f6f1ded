"""SegNet as in MTAN's public code: the parts that the dense-prediction networks share.

It has VGG-16's 13 convolutions in five stages of 64-128-256-512-512 channels (Badrinarayanan et al.
2017). Each stage ends with 2x2 max-pooling, whose indices the mirrored decoder uses for its
unpooling. Weights start from Xavier's normal distribution, biases from zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.runs.errors import UserError
from multitask.runs.precision import full

WIDTHS = (64, 128, 256, 512, 512)
# Convolutions of an encoder stage, and of the decoder stage that mirrors it.
DEPTHS = (2, 2, 3, 3, 3)
# The head of this name returns vectors of length 1.
UNIT_LENGTH = "normal"


def pool(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Applies 2x2 max-pooling to [B, C, H, W].

    Returns:
        The maxima [B, C, H/2, W/2] and their positions in the flat H x W plane.
    """
    return functional.max_pool2d(maps, 2, return_indices=True)


def unpool(maps: Tensor, indices: Tensor) -> Tensor:
    """Puts [B, C, h, w] back where `pool` found its maxima, in zeros of [B, C, 2h, 2w]."""
    # torch's own `max_unpool2d` is refused under deterministic algorithms, because its indices
    # could repeat. Indices of windows that do not overlap cannot, so `scatter` is safe.
    batch, channels, height, width = maps.shape
    plane = maps.new_zeros(batch, channels, 4 * height * width)
    return plane.scatter(2, indices.flatten(2), maps.flatten(2)).unflatten(
        2, (2 * height, 2 * width)
    )


def require_sides(images: Tensor) -> None:
    """Raises a UserError unless the sides of [B, 3, H, W] can be halved five times."""
    if images.shape[-2] % 32 or images.shape[-1] % 32:
        height, width = images.shape[-2:]
        raise UserError(
            f"images of {height}x{width} do not fit SegNet; set height and width to multiples of 32"
        )


class Stage(nn.Module):
    """`depth` times 3x3 convolution, batch norm, ReLU; returns the first and last activation.

    `hidden` is the number of channels of all but the last convolution (default: `outputs`).
    """

    def __init__(self, inputs: int, outputs: int, depth: int, hidden: int | None = None) -> None:
        super().__init__()
        sizes = [inputs, *[hidden or outputs] * (depth - 1), outputs]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(sizes)
        )

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [B, inputs, H, W] to two tensors [B, outputs, H, W]."""
        # MTAN's masks read the first activation of a stage, too.
        first = last = self.layers[0](maps)
        for layer in self.layers[1:]:
            last = layer(last)
        return first, last


@dataclass(frozen=True)
class Activations:
    """What a trunk computes, with one entry per stage.

    Attributes:
        first: Encoder, after the first convolution of a stage; from the image down.
        last: Encoder, before pooling.
        pooled: Encoder, after pooling.
        unpooled: Inputs of the decoder's stages, from the deepest back up.
        decoded: Outputs of the decoder's stages.
    """

    first: list[Tensor] = field(default_factory=list)
    last: list[Tensor] = field(default_factory=list)
    pooled: list[Tensor] = field(default_factory=list)
    unpooled: list[Tensor] = field(default_factory=list)
    decoded: list[Tensor] = field(default_factory=list)


def encoder_sizes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the channels in and out of the five encoder stages."""
    return list(zip((3, *widths[:-1]), widths, strict=True))


def decoder_sizes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the channels in and out of the five decoder stages, from the deepest.

    The last stage keeps its number of channels.
    """
    return list(zip(reversed(widths), (*reversed(widths[:-1]), widths[0]), strict=True))


class Trunk(nn.Module):
    """SegNet without its prediction.

    `depths` may exceed VGG's, and `decoder_stages` may leave out the last stage.
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
        """Maps images [B, 3, H, W] to the activations of all stages; H, W: multiples of 32."""
        require_sides(images)
        all_maps, places, maps = Activations(), [], images
        for stage in self.encoder:
            first, last = stage(maps)
            maps, indices = pool(last)
            # The decoder reads them in reverse: the deepest stage comes first.
            places.append(indices)
            for kept, value in zip(
                (all_maps.first, all_maps.last, all_maps.pooled), (first, last, maps), strict=True
            ):
                kept.append(value)
        for k in range(len(places)):
            all_maps.unpooled.append(unpool(maps, places[-1 - k]))
            # A trunk without its last decoder stage still unpools for it.
            if k < len(self.decoder):
                maps = self.decoder[k](all_maps.unpooled[-1])[1]
                all_maps.decoded.append(maps)
        return all_maps


class Head(nn.Module):
    """A task's prediction: a 3x3 convolution, then 1x1 to `outputs` channels.

    As in the base code there is nothing in between. With `unit` the result is divided by its length
    over the channels, as for surface normals.
    """

    def __init__(self, inputs: int, outputs: int, *, unit: bool) -> None:
        super().__init__()
        self.features = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.out = nn.Conv2d(inputs, outputs, 1)
        self.unit = unit

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inputs, H, W] to logits, depths or normals [B, outputs, H, W]."""
        prediction = self.out(self.features(maps))
        # In float32: bfloat16 would bend the direction of a unit vector.
        return functional.normalize(full(prediction), dim=1) if self.unit else prediction


def make_heads(heads: Mapping[str, int], inputs: int) -> nn.ModuleList:
    """Returns one head per task, in the order of `heads`, {name: channels}.

    The head named "normal" returns unit vectors.
    """
    return nn.ModuleList(
        Head(inputs, outputs, unit=name == UNIT_LENGTH) for name, outputs in heads.items()
    )


def initialize(model: nn.Module, *, uniform: bool = False) -> None:
    """Sets Xavier's normal (or `uniform`) weights and zero biases in every convolution.

    Batch norms keep their ones and zeros.
    """
    for module in model.modules():
        # Batch norms keep torch's defaults, ones and zeros.
        if isinstance(module, nn.Conv2d):
            fill = nn.init.xavier_uniform_ if uniform else nn.init.xavier_normal_
            fill(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
