"""Networks of the step benchmark whose tasks share their images, with random inputs."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.networks import Network
from multitask.dense.losses import depth_loss, normal_loss, segmentation_loss
from multitask.models.dense_networks import build
from multitask.models.lenet import Dropout, LeNet
from multitask.models.resnet import FaceNet
from multitask.runs.seeding import initialization


def classifiers(
    trunk: nn.Module, heads: nn.ModuleList, images: Tensor, labels: Sequence[Tensor]
) -> Network:
    """Return a network of one input, a trunk and a classifier per task."""

    def features() -> tuple[Tensor, list[Tensor]]:
        shared = trunk(images)
        return shared, [
            functional.cross_entropy(head(shared), y) for head, y in zip(heads, labels, strict=True)
        ]

    return Network(
        list(trunk.parameters()),
        [list(head.parameters()) for head in heads],
        lambda: features()[1],
        lambda: torch.stack(features()[1]).sum(),
        shares_input=True,
        features=features,
    )


class Undropped(nn.Module):
    """A part of LeNet without dropout, whose cost would be the same for all candidates."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """Keep all units."""
        return self.part(x, None)  # type: ignore[no-any-return]


def multimnist(batch: int, device: torch.device) -> Network:
    """Return Table 4's LeNet with its two heads."""
    with initialization(0):
        model = LeNet(2, Dropout(0.0, "standard")).to(device)
        images = torch.randn(batch, 1, 28, 28).to(device)
        labels = torch.randint(10, (2, batch)).to(device)
    # Kept units make the step deterministic, so that all candidates do the same work.
    heads = nn.ModuleList(Undropped(head) for head in model.heads)
    return classifiers(Undropped(model.trunks[0]), heads, images, list(labels))


def celeba(tasks: int, width: int, batch: int, side: int, device: torch.device) -> Network:
    """Return Table 3's ResNet-18 (`width` 64) with a two-class linear head per attribute."""
    with initialization(0):
        model = FaceNet(tasks, width, 2).to(device)
        images = torch.randn(batch, 3, side, side).to(device)
        labels = torch.randint(2, (tasks, batch)).to(device)
    network = classifiers(model.trunk, model.heads, images, list(labels))
    return replace(network, chunk=1)


def nyuv2(
    widths: Sequence[int], batch: int, height: int, width: int, device: torch.device
) -> Network:
    """Return Table 1's MTAN for segmentation, depth and normals.

    It has no single tensor of features, because extractors connect all layers of the trunk to the
    heads.
    """
    with initialization(0):
        model = build("mtan", {"segmentation": 13, "depth": 1, "normal": 3}, widths).to(device)
        images = torch.randn(batch, 3, height, width).to(device)
        truths = [
            torch.randint(13, (batch, height, width)).to(device),
            1 + torch.rand(batch, 1, height, width).to(device),
            functional.normalize(torch.randn(batch, 3, height, width), dim=1).to(device),
        ]

    def losses() -> list[Tensor]:
        functions = (segmentation_loss, depth_loss, normal_loss)
        return [f(x, y) for f, x, y in zip(functions, model(images), truths, strict=True)]

    shared: list[Tensor] = model.shared_parameters()  # type: ignore[operator]
    parts = zip(model.attention, model.heads, strict=True)  # type: ignore[arg-type]
    own = [[*attention.parameters(), *head.parameters()] for attention, head in parts]
    return Network(
        shared, own, losses, lambda: torch.stack(losses()).sum(), shares_input=True, chunk=1
    )
