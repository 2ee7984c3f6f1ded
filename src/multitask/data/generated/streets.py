"""Generated streets in the layout of CityScapes as MTAN's authors preprocessed it.

An example is an image, labels of 7 classes and disparity. Labels and depth are exact. "depth" holds
stereo disparity, an inverse depth, as in the real files:

    (256 d + 1) / STEPS     for a disparity of d pixels, d = baseline x focal / depth

STEPS is 8,192, an eighth of the real set's 65,536, with which values end at 0.4922. With targets so
close to 0, Adam first shrinks the output to nothing, and narrow networks need more epochs to leave
the constant answer than a stand-in justifies.

0 marks pixels without a measurement: here the left border, most of the sky and some speckles.
Measured sky has d = 0, the smallest value, as far surfaces may have in the real set; it drives the
relative error up. Label -1 marks the car's own hood and unnamed objects.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multitask.data.generated.layout import Example, write_once, write_scenes
from multitask.data.generated.raycast import Array, Camera, Solid, cast, shade

UNNAMED = -1
# In widths of the image: 2,262 of 2,048 pixels, as the real camera.
FOCAL = 1.105
# Disparity times depth, in pixels of the original images times meters.
BASELINE_PIXELS = 0.22 * 2262
STEPS = 8192
# The largest code in the real files.
LARGEST = 32257 / STEPS
# Share of the width that only one of the two cameras sees.
LEFT_BORDER = 0.05
# Shares of pixels.
SKY_MEASURED, SPECKLES = 0.1, 0.03
# The 7 classes with their mean colors, around which instances vary.
PALETTE = {
    "flat": (0.38, 0.36, 0.38),
    "construction": (0.55, 0.45, 0.38),
    "object": (0.50, 0.48, 0.30),
    "nature": (0.25, 0.42, 0.20),
    "sky": (0.70, 0.80, 0.92),
    "human": (0.62, 0.28, 0.30),
    "vehicle": (0.25, 0.28, 0.48),
}
CLASSES = tuple(PALETTE)
SPREAD, NOISE = 0.1, 0.035
# Fog: distance in meters at which 1/e of a color is left.
SIGHT = 20.0


class Street:
    """The solids of one scene, drawn from one generator; the car drives along y."""

    def __init__(self, draw: np.random.Generator) -> None:
        self.draw = draw
        # Widths on each side of the middle.
        self.lane, self.pavement = self.between(4.0, 7.0), self.between(2.0, 4.0)
        self.solids: list[Solid] = []
        self.put("flat", (0, 100, -0.5), (2 * self.lane, 240, 1.0))
        for side in (-1, 1):
            self.put("flat", (side * (self.lane + 10), 100, -0.4), (20, 240, 1.0))
            self.row(side)
            self.furniture(side)
        for _ in range(int(draw.integers(2, 6))):
            self.vehicle(self.between(-0.9, 0.9) * self.lane, self.between(6, 40))

    def between(self, low: float, high: float) -> float:
        """Draws a uniform number."""
        return float(self.draw.uniform(low, high))

    def color(self, name: str) -> Array:
        """Draws a color of the class."""
        return np.clip(np.array(PALETTE[name]) + self.draw.uniform(-SPREAD, SPREAD, 3), 0.02, 1.0)

    def put(
        self,
        name: str,
        center: tuple[float, float, float],
        size: tuple[float, float, float],
        color: Array | None = None,
        stripes: float = 0.0,
        round: bool = False,
    ) -> None:
        """Adds a box or a ball of a class."""
        own = self.color(name) if color is None else color
        self.solids.append(
            Solid(center, size, CLASSES.index(name), own, stripes=stripes, round=round)
        )

    def row(self, side: int) -> None:
        """Adds houses, hedges and gaps along one side."""
        y = self.between(-5, 5)
        while y < 130:
            length = self.between(8, 22)
            wall = self.lane + self.pavement + self.between(0, 3)
            kind = self.draw.choice(["house", "trees", "gap"], p=[0.65, 0.25, 0.1])
            if kind == "house":
                height, stripes = self.between(5, 16), self.between(0.3, 1.0)
                center = (side * (wall + 6), y + length / 2, height / 2)
                self.put("construction", center, (12, length, height), stripes=stripes)
            elif kind == "trees":
                height = self.between(1, 3)
                self.put(
                    "nature", (side * (wall + 4), y + length / 2, height / 2), (8, length, height)
                )
            y += length

    def furniture(self, side: int) -> None:
        """Adds trees, poles with signs, people, parked cars and unnamed things on the pavement."""
        for y in np.arange(self.between(5, 12), 70, self.between(5, 9)):
            x = side * (self.lane + self.between(0.3, self.pavement))
            kind = self.draw.choice(
                ["tree", "pole", "people", "car", "unnamed"], p=[0.28, 0.22, 0.26, 0.18, 0.06]
            )
            if kind == "tree":
                self.tree(x, float(y))
            elif kind == "pole":
                height = self.between(3, 7)
                color = self.color("object")
                self.put("object", (x, y, height / 2), (0.25, 0.25, height), color)
                self.put(
                    "object",
                    (x, y, height),
                    (self.between(0.6, 1.4), 0.1, self.between(0.6, 1.2)),
                    color,
                )
            elif kind == "people":
                for _ in range(int(self.draw.integers(1, 4))):
                    self.person(x + self.between(-1, 1), y + self.between(-1, 1))
            elif kind == "car":
                self.vehicle(side * (self.lane - 1.2), float(y))
            else:
                size = (self.between(0.5, 1.5), self.between(0.5, 1.5), self.between(0.5, 2.0))
                self.solids.append(
                    Solid((x, y, size[2] / 2), size, UNNAMED, self.draw.uniform(0.1, 0.9, 3))
                )

    def tree(self, x: float, y: float) -> None:
        """Adds a trunk and a crown; both are nature."""
        height, crown = self.between(2, 4), self.between(2, 5)
        color = self.color("nature")
        self.put("nature", (x, y, height / 2), (0.35, 0.35, height), color * 0.7)
        self.put(
            "nature",
            (x, y, height + crown / 3),
            (crown, crown, crown),
            color,
            stripes=2.0,
            round=True,
        )

    def person(self, x: float, y: float) -> None:
        """Adds legs, body and head."""
        height = self.between(1.5, 1.95)
        self.put("human", (x, y, height * 0.25), (0.3, 0.3, height * 0.5))
        self.put("human", (x, y, height * 0.66), (0.55, 0.35, height * 0.36))
        self.put("human", (x, y, height * 0.92), (0.25, 0.25, height * 0.18), round=True)

    def vehicle(self, x: float, y: float) -> None:
        """Adds a car, or sometimes a bus or a truck."""
        color = self.color("vehicle")
        if self.draw.random() < 0.2:
            height, length = self.between(2.6, 3.6), self.between(6, 11)
            self.put("vehicle", (x, y + length / 2, height / 2 + 0.3), (2.4, length, height), color)
            return
        length = self.between(3.8, 4.8)
        self.put("vehicle", (x, y + length / 2, 0.65), (1.8, length, 0.8), color)
        self.put("vehicle", (x, y + length / 2, 1.2), (1.6, length * 0.55, 0.6), color * 0.7)


def picture(draw: np.random.Generator, height: int, width: int) -> Example:
    """Draws one example: image in [0, 1], label as float, disparity.

    All parts are float32, as in the real files.
    """
    street = Street(draw)
    position = (street.between(-0.3, 0.5) * street.lane, 0.0, street.between(1.1, 1.5))
    camera = Camera(position, street.between(-0.06, 0.06), street.between(0.02, 0.06), FOCAL)
    rays = camera.rays(height, width) @ camera.turn().T
    hits = cast(street.solids, np.array(position), rays)
    light = np.array([street.between(-30, 30), street.between(-20, 20), 40.0])
    colors = shade(street.solids, hits, light, street.color("sky"), SIGHT) * street.between(
        0.7, 1.15
    )
    # Rays that meet nothing have index -1 and so take the last label, the sky's.
    labels = np.array([*(solid.label for solid in street.solids), CLASSES.index("sky")])[hits.index]
    middle = np.arange(width) / width - 0.5
    # The car's own hood covers the lower edge and is highest in the middle.
    hood = np.arange(height)[:, None] >= height * (0.91 + 0.5 * middle**2)[None, :]
    labels[hood.ravel()] = UNNAMED
    colors[hood.ravel()] = street.between(0.1, 0.35)
    colors = np.clip(colors + draw.uniform(-1, 1, colors.shape) * NOISE, 0, 1)
    return {
        "image": (np.round(colors * 255) / 255).reshape(height, width, 3).astype(np.float32),
        "label": labels.reshape(height, width).astype(np.float32),
        "depth": disparity(hits.depth.reshape(height, width), hood, draw)[..., None].astype(
            np.float32
        ),
    }


def disparity(depth: Array, hood: NDArray[np.bool_], draw: np.random.Generator) -> Array:
    """Converts depths in meters [H, W] (inf: sky) to the real files' coding of disparity.

    0 marks pixels without a measurement.
    """
    # Rounded to whole codes, as the stereo camera's files are.
    share = np.minimum((np.round(256 * BASELINE_PIXELS / depth) + 1) / STEPS, LARGEST)
    unknown = draw.random(depth.shape) < np.where(np.isinf(depth), 1 - SKY_MEASURED, SPECKLES)
    unknown[:, : math.ceil(LEFT_BORDER * depth.shape[1])] = True
    return np.where(unknown | hood, 0.0, share)


def streets(root: Path, counts: dict[str, int], height: int, width: int, seed: int) -> Path:
    """Returns the folder of a set of streets below `root`; makes it if it is not there.

    `counts` gives the examples of every split.
    """
    parameters = {**counts, "height": height, "width": width, "seed": seed}
    draw = lambda generator: picture(generator, height, width)  # noqa: E731
    return write_once(
        root, "streets", parameters, lambda folder: write_scenes(folder, counts, seed, draw)
    )
