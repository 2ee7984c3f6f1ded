"""MultiMNIST: two digits in one image, each of which is a task (Section 5.1, Table 4).

The paper gives the two places (top left, bottom right) and 60,000 examples. The rest follows Sener
and Koltun's public code (multi_task/loaders/multi_mnist_loader.py): canvas 36x36, the left digit at
(0, 0), the right one at (6, 6), the pixelwise maximum where they overlap, the canvas reduced to
28x28 by nearest neighbor, values normalized by (0.1307, 0.3081). That code draws its pairs from an
unseeded generator; here a seed determines them.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional

from multitask.runs.errors import UserError

CANVAS = 36
MEAN, DEVIATION = 0.1307, 0.3081
CHUNK = 10_000


def pair(count: int, examples: int, draw: Generator) -> tuple[Tensor, Tensor]:
    """Draws indices (left, right) [examples] of pairs of `count` images.

    The left ones come in turn; each gets a random *other* image on its right.

    Raises:
        UserError: There are fewer than two images.
    """
    if count < 2:
        raise UserError(
            f"pairs need at least two digits, but a split has {count}; lower validation_share"
        )
    left = torch.arange(examples) % count
    # Uniform over all images but the left one: numbers from `left` on move up by one.
    right = torch.randint(count - 1, (examples,), generator=draw)
    return left, right + (right >= left)


def compose(left: Tensor, right: Tensor, *, offset: int, resize: str) -> Tensor:
    """Puts digits on canvases and reduces these to the digits' size: [N, S, S] -> [N, S, S].

    Args:
        left: Digits placed at (0, 0).
        right: Digits placed at (offset, offset).
        offset: Row and column of the right digit.
        resize: "nearest" takes pixel floor((i + 1/2) 36/28), the same in every version of a
            library; "bilinear" is torch's, with half-pixel centers and no antialiasing.

    Returns:
        Values on the scale 0...255.
    """
    # torch's plain "nearest" rounds positions down and shifts the picture by half a pixel.
    mode = {"nearest": "nearest-exact", "bilinear": "bilinear"}[resize]
    side = left.shape[-1]
    chunks = []
    # In chunks: canvases in float32 take more memory than the bytes of the digits.
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
    """Builds normalized images [N, 1, 28, 28] and the labels [N] of both digits.

    Args:
        digits: Images and labels.
        examples: Number of pairs; 0 makes one for each digit.
        draw: The generator of the pairs.
        offset: As for `compose`.
        resize: As for `compose`.
        others: As many images and labels for the right place, such as garments.

    Returns:
        Images, labels of the left digit, labels of the right digit.
    """
    images, labels = digits
    right_images, right_labels = others or digits
    left, right = pair(len(labels), examples or len(labels), draw)
    composed = compose(images[left], right_images[right], offset=offset, resize=resize)
    return composed[:, None].div_(255).sub_(MEAN).div_(DEVIATION), labels[left], right_labels[right]
