"""MultiMNIST: two digits in one image, top left and bottom right; each is a task (Section 5.1,
Table 4).

The paper gives the two places and 60,000 examples. The rest is what Sener and Koltun's public code
does (multi_task/loaders/multi_mnist_loader.py): canvas 36x36, the left digit at (0, 0), the right
one at (6, 6), the pixelwise maximum where they overlap, the canvas reduced to 28x28 by nearest
neighbor, values normalized by (0.1307, 0.3081).
That code draws its pairs from an unseeded generator; here they come from a seed.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional

CANVAS = 36
MEAN, DEVIATION = 0.1307, 0.3081
CHUNK = 10_000


def pair(count: int, examples: int, draw: Generator) -> tuple[Tensor, Tensor]:
    """Indices (left, right) [examples] into `count` images: the left ones in turn, each beside a
    random *other* one.
    """
    if count < 2:
        raise ValueError(f"pairs need two images at least, not {count}")
    left = torch.arange(examples) % count
    right = torch.randint(count - 1, (examples,), generator=draw)
    return left, right + (right >= left)


def compose(left: Tensor, right: Tensor, *, offset: int, resize: str) -> Tensor:
    """Canvases with `left` at (0, 0), `right` at (offset, offset), reduced to the digits' own size:
    [N, S, S] -> same.

    `resize`: "nearest" picks pixel floor((i + 1/2) 36/28), which no version of a library can
    change; "bilinear" is torch's, half-pixel centers, no antialiasing. Values stay on the scale
    0...255."""
    mode = {"nearest": "nearest-exact", "bilinear": "bilinear"}[resize]
    side = left.shape[-1]
    chunks = []
    for one, two in zip(left.split(CHUNK), right.split(CHUNK), strict=True):
        canvas = torch.zeros(len(one), 1, CANVAS, CANVAS)
        canvas[:, 0, :side, :side] = one
        place = canvas[:, 0, offset : offset + side, offset : offset + side]
        torch.maximum(place, two.float(), out=place)
        chunks.append(functional.interpolate(canvas, size=(side, side), mode=mode)[:, 0])
    return torch.cat(chunks)


def two_digits(
    digits: tuple[Tensor, Tensor],
    examples: int,
    draw: Generator,
    *,
    offset: int,
    resize: str,
    others: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized images [N, 1, 28, 28], labels of the left and of the right digit [N]; `examples`
    0: one a digit. `others`: as many images and labels for the right place, such as garments.
    """
    images, labels = digits
    right_images, right_labels = others or digits
    left, right = pair(len(labels), examples or len(labels), draw)
    composed = compose(images[left], right_images[right], offset=offset, resize=resize)
    return composed[:, None].div_(255).sub_(MEAN).div_(DEVIATION), labels[left], right_labels[right]
