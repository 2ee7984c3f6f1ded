"""A stand-in for CIFAR-100: 20 families of shapes in five dresses, in the real set's pickles.

A family (coarse label) has one silhouette, two hues u, v a third of a turn apart and three patterns
a, b, c. Its classes are the dresses (a, u), (a, v), (b, u), (b, v), (c, u). Neither color nor
pattern alone tells the classes of a task apart: color alone is right in two of five cases, pattern
alone in three. Families share patterns and hues, so what one task learns helps others. Position,
size, tilt, phase, saturation, hue, background and noise vary.

Fine labels number the names alphabetically, as in the real set. `fine % 5` would give classes of a
family the same label.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from multitask.runs.seeding import numpy_generator

Array = NDArray[np.float64]
SIDE = 32
SPLITS = {"train": b"training batch 1 of 1", "test": b"testing batch 1 of 1"}


class Shape(NamedTuple):
    """A silhouette in polar form: a regular polygon, or a round shape with lobes.

    Attributes:
        corners: Corners of the polygon, or number of lobes.
        lobes: Depth of the lobes; 0: a polygon.
        hole: Radius of the hole relative to the edge's; drawn half a pixel larger.
        stretch: Width over height.
    """

    corners: int
    lobes: float = 0.0
    hole: float = 0.0
    stretch: float = 1.0


SHAPES = {
    "beam": Shape(4, stretch=2.2),
    "blossom": Shape(5, 0.25),
    "clover": Shape(4, 0.3),
    "coin": Shape(40),
    "cushion": Shape(4, 0.08),
    "daisy": Shape(9, 0.2),
    "frame": Shape(4, hole=0.45),
    "gear": Shape(12, 0.1),
    "hexagon": Shape(6),
    "hoop": Shape(40, hole=0.55, stretch=1.5),
    "nut": Shape(6, hole=0.4),
    "octagon": Shape(8),
    "oval": Shape(40, stretch=1.7),
    "pennant": Shape(3, stretch=1.6),
    "pentagon": Shape(5),
    "propeller": Shape(3, 0.35),
    "ring": Shape(40, hole=0.45),
    "square": Shape(4),
    "triangle": Shape(3),
    "wreath": Shape(7, 0.15, hole=0.4),
}
HUES = {
    "red": 0 / 6,
    "yellow": 1 / 6,
    "green": 2 / 6,
    "cyan": 3 / 6,
    "blue": 4 / 6,
    "purple": 5 / 6,
}
PATTERNS = ("banded", "barred", "checked", "dotted", "falling", "ringed", "rising", "speckled")
# Standard deviation; the hues of a family are 1/3 apart.
HUE_NOISE = 0.03
# Standard deviation, as a share of the range.
PIXEL_NOISE = 0.03


class Dress(NamedTuple):
    """What a class looks like."""

    shape: str
    pattern: str
    hue: str


def classes() -> dict[str, Dress]:
    """Returns the 100 classes by name, in alphabetical order: a class's place is its fine label."""
    found = {}
    hues = tuple(HUES)
    for family, shape in enumerate(SHAPES):
        # Families after the first eight combine the patterns in another way.
        lap = family // len(PATTERNS)
        a, b, c = (PATTERNS[(family + step) % len(PATTERNS)] for step in (0, 1 + lap, 4 + lap))
        u, v = hues[family % len(hues)], hues[(family + 2) % len(hues)]
        for pattern, hue in ((a, u), (a, v), (b, u), (b, v), (c, u)):
            found[f"{hue}_{pattern}_{shape}"] = Dress(shape, pattern, hue)
    return dict(sorted(found.items()))


def generate_textures(folder: Path, train_per_class: int, test_per_class: int, seed: int) -> None:
    """Writes `train`, `test` and `meta` into `folder`/cifar-100-python, which must not exist.

    Every class of every split has a stream of its own, so that no class depends on another.
    """
    target = folder / "cifar-100-python"
    target.mkdir(parents=True)
    dresses, shapes = classes(), tuple(SHAPES)
    for split, per_class in (("train", train_per_class), ("test", test_per_class)):
        streams = [numpy_generator(seed, f"textures/{split}/{name}") for name in dresses]
        drawn = [
            draw(dress, per_class, rng)
            for dress, rng in zip(dresses.values(), streams, strict=True)
        ]
        # The real files are shuffled, too.
        order = numpy_generator(seed, f"textures/{split}").permutation(len(dresses) * per_class)
        fine = np.repeat(np.arange(len(dresses)), per_class)[order]
        coarse = np.array([shapes.index(dress.shape) for dress in dresses.values()])[fine]
        names = list(dresses)
        content = {
            b"filenames": [f"{names[label]}_{i:06d}.png".encode() for i, label in enumerate(fine)],
            b"batch_label": SPLITS[split],
            b"fine_labels": fine.tolist(),
            b"coarse_labels": coarse.tolist(),
            b"data": np.concatenate(drawn)[order],
        }
        _write(target / split, content)
    labels = {b"fine_label_names": dresses, b"coarse_label_names": shapes}
    _write(
        target / "meta", {key: [name.encode() for name in found] for key, found in labels.items()}
    )


def _write(path: Path, content: Mapping[bytes, Any]) -> None:
    # Protocol 2, as Python 2 wrote the real files.
    path.write_bytes(pickle.dumps(content, protocol=2))


def draw(dress: Dress, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draws `count` images of a class, flat as in the real files.

    They are uint8 [count, 3072], the red plane first.
    """

    def uniform(low: float, high: float) -> Array:
        return rng.uniform(low, high, (count, 1, 1))

    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    x, y = columns - uniform(-2, 2), rows - uniform(-2, 2)
    mask = silhouette(SHAPES[dress.shape], x, y, size=uniform(12, 15), tilt=uniform(-0.2, 0.2))
    wave = pattern(
        dress.pattern, x, y, period=uniform(5.5, 6.5), tilt=uniform(-0.05, 0.05), rng=rng
    )
    # Hues of a family are about eleven deviations apart, so classes stay distinct.
    hue = HUES[dress.hue] + HUE_NOISE * rng.standard_normal((count, 1, 1))
    value = uniform(0.5, 0.6) + uniform(0.3, 0.4) * wave
    front = color(hue, uniform(0.6, 1), value)
    back = color(uniform(0, 1), uniform(0, 0.3), uniform(0.3, 0.7) + 0.15 * clouds(count, rng))
    image = front * mask[:, None] + back * (1 - mask[:, None])
    image += PIXEL_NOISE * rng.standard_normal(image.shape)
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8).reshape(count, -1)


def silhouette(shape: Shape, x: Array, y: Array, size: Array, tilt: Array) -> Array:
    """Returns how much of each pixel a shape of radius `size` covers, 0 to 1 [count, 32, 32].

    (x, y) is a pixel's position from the center.
    """
    u, v = _turned(x, y, tilt)
    u, v = u / shape.stretch**0.5, v * shape.stretch**0.5
    # Half a sector turns polygons with an even number of corners onto an edge.
    sector = 2 * np.pi / shape.corners
    angle = np.arctan2(v, u) + np.pi / 2 + sector / 2
    if shape.lobes:
        edge = size * (1 + shape.lobes * np.cos(shape.corners * angle)) / (1 + shape.lobes)
    else:
        edge = size * np.cos(sector / 2) / np.cos(angle % sector - sector / 2)
    radius = np.hypot(u, v)
    return (edge - radius + 0.5).clip(0, 1) * (
        radius - shape.hole * edge + 0.5 * (shape.hole == 0)
    ).clip(0, 1)


def pattern(
    name: str, x: Array, y: Array, period: Array, tilt: Array, rng: np.random.Generator
) -> Array:
    """Returns the lightness -1 to 1 of a pattern with a random phase, [count, 32, 32].

    (x, y) is a pixel's position from the center.
    """
    turn = {"barred": 0.5 * np.pi, "falling": 0.25 * np.pi, "rising": -0.25 * np.pi}.get(name, 0.0)
    v, u = _turned(x, y, tilt + turn)
    phase = rng.uniform(0, 2 * np.pi, (2, len(period), 1, 1))
    across, along = (
        2 * np.pi * part / period + shift for part, shift in zip((u, v), phase, strict=True)
    )
    if name == "speckled":
        cells = rng.standard_normal((len(period), SIDE // 2, SIDE // 2))
        return cells.repeat(2, 1).repeat(2, 2).clip(-1, 1)
    if name == "checked":
        return np.tanh(4 * np.sin(across) * np.sin(along))
    if name == "dotted":
        return np.tanh(2 * (np.sin(across) + np.sin(along)) - 1.5)
    if name == "ringed":
        across = 2 * np.pi * np.hypot(u, v) / period + phase[0]
    return np.tanh(2 * np.sin(across))


def color(hue: Array, saturation: Array, value: Array) -> Array:
    """Converts hue (1: a full turn), saturation and value to red, green and blue, as in HSV.

    The result is [count, 3, 32, 32].
    """
    shifts = np.array([0, 2 / 3, 1 / 3])[:, None, None]
    tint = (np.abs((hue[:, None] + shifts) % 1 * 6 - 3) - 1).clip(0, 1)
    return value[:, None] * (1 + saturation[:, None] * (tint - 1))


def clouds(count: int, rng: np.random.Generator) -> Array:
    """Draws smooth noise [count, 32, 32] of about -1 to 1.

    It is a 5x5 grid of normals, interpolated linearly.
    """
    at = np.linspace(0, 4, SIDE)
    weights = (1 - np.abs(at[:, None] - np.arange(5))).clip(0)
    return weights @ rng.standard_normal((count, 5, 5)) @ weights.T


def _turned(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
