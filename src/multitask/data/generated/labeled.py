"""Generated images with labels, in the file layouts of CIFAR-100 and CelebA.

No evidence rests on these pictures: they let the pipeline run without the real sets.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from multitask.data.celeba import ATTRIBUTES, HEIGHT, SPLITS, WIDTH
from multitask.runs.seeding import numpy_generator

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
# Standard deviation of a pixel, as a share of the range.
NOISE = 0.05
FAMILIES, MEMBERS, SIDE = 20, 5, 32
BATCH_LABELS = {"train": b"training batch 1 of 1", "test": b"testing batch 1 of 1"}
# Cells of a face, one for each attribute.
ROWS, COLUMNS = 8, 5
# Of the JPEG files.
QUALITY = 95


def color(hue: Array) -> Array:
    """Returns the bright color [..., 3] of a hue; 1 is a full turn."""
    distance = np.abs((hue[..., None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3)
    return 0.2 + 0.8 * (distance - 1).clip(0, 1)


def gratings(family: int, member: int, count: int, draw: np.random.Generator) -> Pixels:
    """Draws images of a class as the real files hold them: [count, 3072], the red plane first.

    The family (coarse label) decides direction and width of the stripes, and which five of twenty
    hues its members have: what a hue means differs from task to task.
    """
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    direction = np.pi * (family % 5) / 5 + draw.normal(0, 0.03, (count, 1, 1))
    stripes = 3 + family // 5 + draw.normal(0, 0.05, (count, 1, 1))
    along = x * np.cos(direction) + y * np.sin(direction)
    wave = np.sin(2 * np.pi * (stripes * along + draw.random((count, 1, 1))))
    hue = (family + 4 * member) / FAMILIES + draw.normal(0, 0.03, count)
    light = 0.6 + 0.3 * wave[:, None] + draw.normal(0, NOISE, (count, 3, SIDE, SIDE))
    image = color(hue)[:, :, None, None] * light
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8).reshape(count, -1)


def generate_gratings(folder: Path, train_per_class: int, test_per_class: int, seed: int) -> None:
    """Writes the pickles `train`, `test` and `meta` into `folder`/cifar-100-python.

    Every class of every split has a stream of its own, so that no class depends on another.
    """
    target = folder / "cifar-100-python"
    target.mkdir(parents=True)
    # As in the real set, fine labels are in no order of the families: `fine % 5` merges classes.
    places = np.random.default_rng(0).permutation(FAMILIES * MEMBERS)
    for split, per_class in (("train", train_per_class), ("test", test_per_class)):
        drawn = [
            gratings(*divmod(int(place), MEMBERS), per_class, numpy_generator(seed, f"{split}/{i}"))
            for i, place in enumerate(places)
        ]
        # The real files are shuffled, too.
        order = numpy_generator(seed, split).permutation(len(places) * per_class)
        fine = np.repeat(np.arange(len(places)), per_class)[order]
        content = {
            b"filenames": [
                f"class_{label:02d}_{i:06d}.png".encode() for i, label in enumerate(fine)
            ],
            b"batch_label": BATCH_LABELS[split],
            b"fine_labels": fine.tolist(),
            b"coarse_labels": (places // MEMBERS)[fine].tolist(),
            b"data": np.concatenate(drawn)[order],
        }
        # Protocol 2, as Python 2 wrote the real files.
        (target / split).write_bytes(pickle.dumps(content, protocol=2))
    names = {
        b"fine_label_names": [f"class_{i:02d}".encode() for i in range(len(places))],
        b"coarse_label_names": [f"family_{i:02d}".encode() for i in range(FAMILIES)],
    }
    (target / "meta").write_bytes(pickle.dumps(names, protocol=2))


def face(has: NDArray[np.bool_], draw: np.random.Generator) -> Image.Image:
    """Draws one picture, 178x218 pixels: a cell for every attribute, colored where it is present.

    The cells of the upper half differ in hue, and so do those of the lower half: the network's
    last layer averages over quarters of the picture.
    """
    hues = 2 * np.arange(ROWS * COLUMNS) / (ROWS * COLUMNS)
    hues = hues + draw.normal(0, 0.005, ROWS * COLUMNS)
    cells = np.where(has[:, None], color(hues), 0.25).reshape(ROWS, COLUMNS, 3)
    cells = cells * draw.uniform(0.8, 1.0) + draw.normal(0, NOISE, cells.shape)
    pixels = np.rint(255 * cells.clip(0, 1)).astype(np.uint8)
    return Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


def choose(draw: np.random.Generator) -> NDArray[np.bool_]:
    """Draws the 40 attributes of one face, each with a share of one half.

    As in the real set they depend on each other: two of three neighbors agree.
    """
    same = draw.random(len(ATTRIBUTES)) < 2 / 3
    same[0] = draw.random() < 0.5
    return np.cumsum(~same) % 2 == 1


def generate_faces(folder: Path, counts: Mapping[str, int], seed: int) -> None:
    """Writes `folder`/celeba with `counts[split]` pictures in every split.

    Picture i depends only on seed, split and i.
    """
    images = folder / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    attributes: list[str] = []
    partition: list[str] = []
    for code, split in enumerate(SPLITS):
        for i in range(counts[split]):
            draw = numpy_generator(seed, f"faces/{split}/{i}")
            has = choose(draw)
            name = f"{len(partition) + 1:06d}.jpg"
            face(has, draw).save(images / name, quality=QUALITY)
            attributes.append(" ".join([name, *("1" if value else "-1" for value in has)]))
            partition.append(f"{name} {code}")
    lists = {
        "list_attr_celeba.txt": [str(len(attributes)), " ".join(ATTRIBUTES), *attributes],
        "list_eval_partition.txt": partition,
    }
    for name, lines in lists.items():
        (folder / "celeba" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
