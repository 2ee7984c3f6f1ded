"""ResNet with one linear head per task, as in Sener and Koltun's public code.

The code is multi_task/models/multi_faces_resnet.py. Trunk: 3x3 convolution of stride 1, batch norm,
ReLU; four stages of basic blocks (He et al. 2016) with w, 2w, 4w, 8w filters, the last three
halving the image; average over a 2x2 grid. With w = 64 and two blocks a stage this is ResNet-18 for
small images: 64x64 pixels become 8x8 cells of 512 filters, then 2048 features, with 11,168,832
shared parameters.
"""

from torch import Tensor, nn
from torch.nn import functional

# The public code averages 4x4 of 8x8 cells, which leaves 2x2.
GRID = 2
STRIDES = (1, 2, 2, 2)


def convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    """Returns a convolution without a bias, which the batch norm after it would cancel."""
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """A basic block: relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)).

    The shortcut is x, or a 1x1 convolution where the shapes differ.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = convolution(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """Maps images [B, 3, S, S] to features [B, 4 * 8 width]; S is a multiple of 16."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(len(STRIDES))]
        self.conv, self.norm = convolution(3, width, 3, 1), nn.BatchNorm2d(width)
        stages = []
        for inputs, outputs, stride in zip([width, *widths], widths, STRIDES, strict=False):
            stages += [
                Block(inputs, outputs, stride),
                *(Block(outputs, outputs, 1) for _ in range(blocks - 1)),
            ]
        self.stages = nn.Sequential(*stages)
        self.features = widths[-1] * GRID**2

    def forward(self, images: Tensor) -> Tensor:
        """Returns features in the order filter, row, column of the grid."""
        x = self.stages(functional.relu(self.norm(self.conv(images))))
        # Any multiple of 16 pixels ends in a grid of GRID x GRID cells.
        return functional.avg_pool2d(x, x.shape[-1] // GRID).flatten(1)


class FaceNet(nn.Module):
    """A trunk that all tasks share, with a linear head to two logits for each task."""

    def __init__(self, tasks: int, width: int, blocks: int) -> None:
        super().__init__()
        self.trunk = ResNet(width, blocks)
        self.heads = nn.ModuleList([nn.Linear(self.trunk.features, 2) for _ in range(tasks)])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images [B, 3, S, S] to logits [B, 2] (absent, present) per task.

        All tasks use one pass of the trunk.
        """
        features = self.trunk(images)
        return [head(features) for head in self.heads]
