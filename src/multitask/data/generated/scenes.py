"""Generated rooms (NYUv2) and streets (CityScapes): boxes before planes, seen by a pinhole camera.

The files have the layout of MTAN's preprocessed sets. Ray casting makes labels, depth and normals
exact. World and camera share the frame (right, ahead, up) but for a tilt of the camera. Label -1
marks unnamed things. No evidence rests on these pictures: they let the pipeline run without the
real sets.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multitask.data.generated.layout import Example, write_scenes

Array = NDArray[np.float64]
Color = tuple[float, float, float]
UNNAMED = -1
# Largest difference from a class's color, and of a pixel from its surface's color.
SPREAD, NOISE = 0.06, 0.03


class Kind(NamedTuple):
    """A class: its color, and the size (right, ahead, up) and lower edge of its boxes in meters.

    Without a size it is a plane, or the sky.
    """

    color: Color
    size: tuple[float, float, float] | None = None
    bottom: float = 0.0


# The classes in the real sets' orders.
ROOM = {
    "bed": Kind((0.90, 0.40, 0.55), (1.6, 2.0, 0.6)),
    "books": Kind((0.95, 0.45, 0.10), (0.7, 0.3, 0.5), 0.6),
    "ceiling": Kind((0.90, 0.90, 0.88)),
    "chair": Kind((0.15, 0.50, 0.20), (0.5, 0.5, 0.9)),
    "floor": Kind((0.45, 0.30, 0.20)),
    "furniture": Kind((0.60, 0.15, 0.10), (1.2, 0.5, 1.8)),
    "objects": Kind((0.20, 0.70, 0.65), (0.4, 0.4, 0.4), 0.4),
    "picture": Kind((0.60, 0.55, 0.10), (0.9, 0.1, 0.7), 1.3),
    "sofa": Kind((0.25, 0.25, 0.70), (1.8, 0.9, 0.8)),
    "table": Kind((0.80, 0.60, 0.25), (1.2, 0.8, 0.75)),
    "television": Kind((0.08, 0.08, 0.10), (1.1, 0.2, 0.7), 0.7),
    "wall": Kind((0.75, 0.72, 0.64)),
    "window": Kind((0.62, 0.80, 0.95), (1.3, 0.1, 1.1), 1.1),
}
STREET = {
    "flat": Kind((0.38, 0.36, 0.38)),
    "construction": Kind((0.55, 0.45, 0.38), (6.0, 12.0, 9.0)),
    "object": Kind((0.50, 0.48, 0.30), (0.5, 0.5, 4.5)),
    "nature": Kind((0.25, 0.42, 0.20), (3.0, 3.0, 4.0)),
    "sky": Kind((0.70, 0.80, 0.92)),
    "human": Kind((0.62, 0.28, 0.30), (0.7, 0.5, 1.8)),
    "vehicle": Kind((0.25, 0.28, 0.48), (1.9, 4.4, 1.5)),
}
OTHER = Kind((0.5, 0.5, 0.5), (0.8, 0.8, 1.2))
# In widths of the image; NYUv2's camera has 0.81, CityScapes' 2,262 of 2,048 pixels.
ROOM_FOCAL, STREET_FOCAL = 0.6, 1.105
# Distance in meters at which 1/e of a color is left.
ROOM_SIGHT, STREET_SIGHT = 6.0, 30.0
# CityScapes stores (256 d + 1) / 65,536 of a disparity d = baseline x focal / depth in pixels, and
# 0 where it has no measurement. With targets so close to 0 narrow networks need long to leave the
# constant answer, so STEPS is an eighth of 65,536.
BASELINE_PIXELS, STEPS, LARGEST_CODE = 0.22 * 2262, 8192, 32257
# Shares of the pixels: the left border that one camera does not see, and lost measurements.
LEFT_BORDER, SPECKLES = 0.05, 0.03


class View:
    """What a camera sees of the surfaces added so far: of each pixel the nearest one."""

    def __init__(
        self,
        draw: np.random.Generator,
        classes: dict[str, Kind],
        shape: tuple[int, int],
        focal: float,
        tilt: float,
        background: str,
    ) -> None:
        self.draw = draw
        self.classes = classes
        height, width = shape
        right = (np.arange(width) + 0.5 - width / 2) / (focal * width)
        up = (height / 2 - np.arange(height) - 0.5) / (focal * width)
        rays = np.stack(np.broadcast_arrays(right[None, :], 1.0, up[:, None]), axis=-1)
        cos, sin = np.cos(tilt), np.sin(tilt)
        # From the camera's frame to the world's; a ray is 1 long along the camera's axis, so that
        # the distance to a hit is the depth.
        self.turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        self.rays = rays @ self.turn.T
        self.depth = np.full(shape, np.inf)
        self.label = np.full(shape, self.index(background))
        self.color = np.full((*shape, 3), classes[background].color)
        self.normal = np.zeros((*shape, 3))

    def index(self, name: str) -> int:
        """Returns the label of a class."""
        return list(self.classes).index(name) if name in self.classes else UNNAMED

    def surface(
        self, name: str, axis: int, at: float, low: Array, high: Array, color: Array | None = None
    ) -> None:
        """Adds the part between `low` and `high` of the plane where coordinate `axis` is `at`."""
        if color is None:
            color = self.vary(name)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = at / self.rays[..., axis]
            points = self.rays * depth[..., None]
        others = [i for i in range(3) if i != axis]
        inside = ((points >= low) & (points <= high))[..., others].all(-1)
        seen = inside & (depth > 0) & (depth < self.depth)
        normal = np.eye(3)[axis] * -np.sign(at)
        self.depth[seen] = depth[seen]
        self.label[seen] = self.index(name)
        self.normal[seen] = normal @ self.turn
        # Light from the upper left tells the sides of a box apart.
        self.color[seen] = color * (0.8 + normal @ np.array([-0.1, -0.05, 0.2]))

    def vary(self, name: str) -> Array:
        """Draws a color near the class's; unnamed things have any color."""
        if name not in self.classes:
            return self.draw.uniform(0.1, 0.9, 3)
        color = np.array(self.classes[name].color) + self.draw.uniform(-SPREAD, SPREAD, 3)
        return np.clip(color, 0.02, 1.0)

    def box(self, name: str, x: float, y: float, ground: float) -> None:
        """Adds a box of a class whose near side is at (x, y), in up to 1.5 times its size."""
        kind = self.classes.get(name, OTHER)
        size = np.array(kind.size) * self.draw.uniform(0.7, 1.5, 3)
        low = np.array([x - size[0] / 2, y, ground + kind.bottom])
        high = low + size
        color = self.vary(name)
        for axis in range(3):
            # A side is visible if the camera, at the origin, is beyond it.
            for at, visible in ((low[axis], low[axis] > 0), (high[axis], high[axis] < 0)):
                if visible:
                    self.surface(name, axis, at, low, high, color)

    def image(self, sight: float, haze: Color) -> Array:
        """Returns the picture [H, W, 3] in steps of 1/255: hazy with distance, and noisy."""
        clear = np.exp(-self.depth / sight)[..., None]
        image = clear * self.color + (1 - clear) * haze
        image = self.draw.uniform(0.9, 1.1) * image
        image += self.draw.uniform(-NOISE, NOISE, image.shape)
        return np.round(np.clip(image, 0, 1) * 255) / 255


def room(draw: np.random.Generator, height: int, width: int) -> Example:
    """Draws image in [0, 1], label, depth in meters and unit normals of a room, all float32."""
    side, back = draw.uniform(1.6, 2.2), draw.uniform(3.5, 5.5)
    eyes, ceiling = draw.uniform(1.3, 1.7), draw.uniform(0.8, 1.1)
    view = View(draw, ROOM, (height, width), ROOM_FOCAL, draw.uniform(-0.4, -0.2), "wall")
    low, high = np.full(3, -np.inf), np.full(3, np.inf)
    walls = view.vary("wall")
    for axis, at in ((0, -side), (0, side), (1, back)):
        view.surface("wall", axis, at, low, high, walls)
    view.surface("floor", 2, -eyes, low, high)
    view.surface("ceiling", 2, ceiling, low, high)
    names = [name for name, kind in ROOM.items() if kind.size]
    for name in draw.permutation([*names, "unnamed"]):
        # What hangs on the wall ahead is thin; the rest stands before it.
        hangs = ROOM.get(name, OTHER).bottom > 1
        ahead = back - 0.15 if hangs else draw.uniform(1.2, 0.85 * back)
        view.box(name, draw.uniform(-0.9, 0.9) * side, ahead, -eyes)
    return {
        "image": view.image(ROOM_SIGHT, ROOM["window"].color).astype(np.float32),
        "label": view.label.astype(np.float32),
        "depth": view.depth.round(3)[..., None].astype(np.float32),
        # Rounded, so that a difference in the last bit of a sine does not reach the file.
        "normal": view.normal.round(4).astype(np.float32),
    }


def street(draw: np.random.Generator, height: int, width: int) -> Example:
    """Draws image in [0, 1], label and coded disparity of a street, all float32."""
    lane, eyes = draw.uniform(4.0, 7.0), draw.uniform(1.1, 1.5)
    view = View(draw, STREET, (height, width), STREET_FOCAL, draw.uniform(-0.03, 0.03), "sky")
    view.surface("flat", 2, -eyes, np.full(3, -np.inf), np.full(3, np.inf))
    for y in np.arange(draw.uniform(4, 8), 80, 8):
        for side in (-1, 1):
            view.box(
                "construction" if draw.random() < 0.6 else "nature", side * (lane + 5), y, -eyes
            )
            name = draw.choice(["object", "nature", "human", "vehicle", "unnamed"])
            view.box(name, side * (lane + draw.uniform(-1, 1)), y, -eyes)
        if draw.random() < 0.5:
            view.box("vehicle", draw.uniform(-0.8, 0.8) * lane, y, -eyes)
    # The car's own hood covers the lower edge.
    hood = np.arange(height) >= 0.93 * height
    view.label[hood], view.color[hood], view.depth[hood] = UNNAMED, 0.2, 1.0
    return {
        "image": view.image(STREET_SIGHT, STREET["sky"].color).astype(np.float32),
        "label": view.label.astype(np.float32),
        "depth": disparity(view.depth, hood[:, None], draw)[..., None].astype(np.float32),
    }


def disparity(depth: Array, hood: NDArray[np.bool_], draw: np.random.Generator) -> Array:
    """Codes depths [H, W] in meters (inf: sky) as the real files code disparities.

    0 marks pixels without a measurement: the left border, the hood and speckles.
    """
    codes = np.minimum(np.round(256 * BASELINE_PIXELS / depth) + 1, LARGEST_CODE)
    border = np.arange(depth.shape[1]) < LEFT_BORDER * depth.shape[1]
    unknown = hood | border | (draw.random(depth.shape) < SPECKLES)
    return np.where(unknown, 0.0, codes / STEPS)


def rooms(root: Path, counts: dict[str, int], height: int, width: int, seed: int) -> Path:
    """Returns the folder of a set of rooms below `root`; makes it if it is not there.

    `counts` gives the examples of every split.
    """
    return write_scenes(root, "rooms", room, counts, (height, width), seed)


def streets(root: Path, counts: dict[str, int], height: int, width: int, seed: int) -> Path:
    """Returns the folder of a set of streets below `root`; makes it if it is not there."""
    return write_scenes(root, "streets", street, counts, (height, width), seed)
