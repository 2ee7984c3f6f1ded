"""CIFAR-100's networks (Section 5.1).

Three convolutions of 160 3x3 filters, two dense layers of 320, 20 heads of 5. Each convolution is
followed by ReLU and 2x2 max-pooling, each dense layer by ReLU (not given; as in the public code of
routing networks, on which the paper builds). The variants share different parts: "one_fc"
everything but the head, "all_fc" the convolutions, "independent" nothing.
"""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, CONVOLUTIONS = 32, 3


class Convolutions(nn.Module):
    """Maps images [B, 3, 32, 32] to features [B, 16 filters]."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        channels = [3, *[filters] * CONVOLUTIONS]
        self.layers = nn.ModuleList(
            [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(channels)]
        )
        self.features = filters * (SIDE >> CONVOLUTIONS) ** 2

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features of the last layer, flattened."""
        for layer in self.layers:
            images = functional.max_pool2d(functional.relu(layer(images)), 2)
        return images.flatten(1)


class Dense(nn.Module):
    """Maps features [B, F] to [B, units] through two layers."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(features, units), nn.Linear(units, units)])

    def forward(self, x: Tensor) -> Tensor:
        """Applies both layers with their ReLUs."""
        for layer in self.layers:
            x = functional.relu(layer(x))
        return x


class ConvNet(nn.Module):
    """One network for all tasks; `forward(images, task)` takes one task's images.

    Copies of a part start from the same values.
    """

    def __init__(
        self, variant: str, tasks: int, classes: int, filters: int = 160, units: int = 320
    ) -> None:
        super().__init__()
        convolutions = Convolutions(filters)
        dense = Dense(convolutions.features, units)
        own = {"convolutions": variant == "independent", "dense": variant != "one_fc"}
        self.convolutions = _copies(convolutions, tasks if own["convolutions"] else 1)
        self.dense = _copies(dense, tasks if own["dense"] else 1)
        self.heads = nn.ModuleList([nn.Linear(units, classes) for _ in range(tasks)])

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that every task reaches."""
        parts = [part[0] for part in (self.convolutions, self.dense) if len(part) == 1]
        return [parameter for part in parts for parameter in part.parameters()]

    def forward(self, images: Tensor, task: int) -> Tensor:
        """Returns logits [B, classes] of images [B, 3, 32, 32] of one task."""
        # A shared part has one copy, and task % 1 = 0 selects it.
        x = self.convolutions[task % len(self.convolutions)](images)
        return self.heads[task](self.dense[task % len(self.dense)](x))


class StitchedNet(nn.Module):
    """Cross-stitch, all-fc (Misra et al. 2016): shared convolutions, mixed dense columns.

    Every task has a column of dense layers. After each layer, column k continues with sum_j A[k, j]
    times the output of column j. A is learned, one per layer, and starts with 0.9 on the diagonal
    and the other 0.1 spread evenly. Every loss reaches every column, so everything but the heads is
    shared. We read "all-fc" as: the dense layers are stitched.
    """

    def __init__(self, tasks: int, classes: int, filters: int = 160, units: int = 320) -> None:
        super().__init__()
        self.convolutions = Convolutions(filters)
        sizes = itertools.pairwise([self.convolutions.features, units, units])
        self.layers = nn.ModuleList(
            [nn.ModuleList([nn.Linear(a, b) for _ in range(tasks)]) for a, b in sizes]
        )
        # Rows sum to 1; a single task has no other to take the 0.1 from.
        mixture = torch.full((tasks, tasks), 0.1 / max(1, tasks - 1)).fill_diagonal_(0.9)
        self.mixtures = nn.ParameterList([nn.Parameter(mixture.clone()) for _ in self.layers])
        self.heads = nn.ModuleList([nn.Linear(units, classes) for _ in range(tasks)])

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns everything but the heads."""
        return [
            p for part in (self.convolutions, self.layers, self.mixtures) for p in part.parameters()
        ]

    def forward(self, images: Tensor, task: int) -> Tensor:
        """Returns logits [B, classes] of images [B, 3, 32, 32] of one task."""
        return self.heads[task](self.columns(images)[task])

    def columns(self, images: Tensor) -> Tensor:
        """Returns every column's last features [tasks, B, units] of images of any tasks."""
        # All columns start from the same shared features.
        columns = self.convolutions(images).expand(len(self.heads), -1, -1)
        for layer, mixture in zip(self.layers, self.mixtures, strict=True):
            outputs = torch.stack(
                [
                    functional.relu(part(x))
                    for part, x in zip(layer.children(), columns, strict=True)
                ]
            )
            columns = torch.einsum("kj,jbu->kbu", mixture, outputs)
        return columns


def _copies(module: nn.Module, count: int) -> nn.ModuleList:
    # Deep copies: equal values at the start, separate parameters afterwards.
    return nn.ModuleList([module, *(copy.deepcopy(module) for _ in range(count - 1))])
