"""Generated rooms in the layout of NYUv2 as MTAN's authors preprocessed it.

An example is an image, labels of 13 classes, depth and normals of a furnished room. Ray casting
makes labels, depth in meters and normals exact. As in the real set, label -1 marks unnamed objects,
and normals are unit vectors (right, ahead, up) of the camera: a floor is (0, 0, 1), a wall ahead
(0, -1, 0). Room, view, furniture and its places, sizes, colors, stripes and light are drawn at
random.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from multitask.data.generated.layout import Example, write_once, write_scenes
from multitask.data.generated.raycast import Array, Camera, Solid, cast, shade

Place = tuple[float, float, float]
# Maps distance from a wall, height and distance aside to a point.
Spot = Callable[..., Place]

UNNAMED = -1
# In widths of the image; the real set's camera has 0.81.
FOCAL = 0.6
# The 13 classes in the real set's order, with their mean colors. Instances vary around the mean,
# so that color helps but does not decide.
PALETTE = {
    "bed": (0.90, 0.40, 0.55),
    "books": (0.95, 0.45, 0.10),
    "ceiling": (0.90, 0.90, 0.88),
    "chair": (0.15, 0.50, 0.20),
    "floor": (0.45, 0.30, 0.20),
    "furniture": (0.60, 0.15, 0.10),
    "objects": (0.20, 0.70, 0.65),
    "picture": (0.60, 0.55, 0.10),
    "sofa": (0.25, 0.25, 0.70),
    "table": (0.80, 0.60, 0.25),
    "television": (0.08, 0.08, 0.10),
    "wall": (0.75, 0.72, 0.64),
    "window": (0.62, 0.80, 0.95),
}
CLASSES = tuple(PALETTE)
SPREAD = 0.06
NOISE = 0.025
# Smoke: distance in meters at which 1/e of a color is left, and the color of the smoke.
SIGHT, HAZE = 9.0, (0.45, 0.60, 0.85)


class Room:
    """The solids of one scene, drawn from one generator."""

    def __init__(self, draw: np.random.Generator) -> None:
        self.draw = draw
        self.width, self.length, self.height = (
            self.between(3.0, 4.2),
            self.between(3.5, 5.5),
            self.between(2.3, 2.6),
        )
        self.solids: list[Solid] = []
        self.shell()
        for place in ("left", "ahead", "right"):
            for part in (-1, 1):
                self.against(place, part)
        for _ in range(int(draw.integers(1, 3))):
            self.free()

    def between(self, low: float, high: float) -> float:
        """Draws a uniform number."""
        return float(self.draw.uniform(low, high))

    def color(self, name: str) -> Array:
        """Draws a color of the class."""
        return np.clip(np.array(PALETTE[name]) + self.draw.uniform(-SPREAD, SPREAD, 3), 0.02, 1.0)

    def put(self, name: str, center: Place, size: Place, yaw: float = 0.0) -> None:
        """Adds a box of a class, sometimes striped."""
        stripes = self.between(3.0, 12.0) if self.draw.random() < 0.25 else 0.0
        self.solids.append(
            Solid(center, size, CLASSES.index(name), self.color(name), yaw, stripes=stripes)
        )

    def shell(self) -> None:
        """Adds walls, floor and ceiling: the room from within, and two thin plates."""
        w, d, h = self.width, self.length, self.height
        self.solids.append(
            Solid(
                (0, d / 2, h / 2), (w, d, h), CLASSES.index("wall"), self.color("wall"), hollow=True
            )
        )
        self.put("floor", (0, d / 2, 0.005), (w, d, 0.01))
        self.put("ceiling", (0, d / 2, h - 0.005), (w, d, 0.01))

    def against(self, place: str, part: int) -> None:
        """Adds a piece of furniture at one half of a wall, and perhaps something above it."""
        turn = {"left": math.pi / 2, "ahead": 0.0, "right": -math.pi / 2}[place]
        span = self.length if place != "ahead" else self.width
        # Each half of a wall takes one piece, so that two do not overlap by much.
        along = part * self.between(0.08, 0.4) * span

        def spot(out: float, up: float, aside: float = 0.0) -> Place:
            """Returns the world position of a point `out` from the wall and `aside` along it."""
            if place == "ahead":
                return along + aside, self.length - out, up
            side = 1 if place == "right" else -1
            return side * (self.width / 2 - out), self.length / 2 + along + aside, up

        kinds = (self.bed, self.sofa, self.cabinet, self.shelf, self.television, self.curtain)
        top = kinds[int(self.draw.integers(len(kinds)))](spot, turn)
        # Nothing fits above a tall piece.
        if top < 1.3:
            self.hang(spot, turn, top)

    def bed(self, spot: Spot, turn: float) -> float:
        """Adds a mattress, a headboard and a pillow.

        Like every piece of furniture at a wall it returns its height.
        """
        w, d, h = self.between(1.2, 1.9), self.between(1.9, 2.2), self.between(0.4, 0.6)
        self.put("bed", spot(d / 2, h / 2), (w, d, h), turn)
        self.put("bed", spot(0.05, 0.5), (w, 0.1, 1.0), turn)
        self.put("objects", spot(0.3, h + 0.06), (w * 0.7, 0.4, 0.12), turn)
        return 1.0

    def sofa(self, spot: Spot, turn: float) -> float:
        """Adds a seat, a back and two arms."""
        w, d = self.between(1.4, 2.2), self.between(0.8, 1.0)
        self.put("sofa", spot(d / 2, 0.21), (w, d, 0.42), turn)
        self.put("sofa", spot(0.12, 0.42), (w, 0.24, 0.85), turn)
        for side in (-1, 1):
            self.put("sofa", spot(d / 2, 0.3, side * w / 2), (0.2, d, 0.6), turn)
        return 0.85

    def cabinet(self, spot: Spot, turn: float) -> float:
        """Adds a block, with things on it if it is low."""
        w, d, h = self.between(0.9, 1.9), self.between(0.4, 0.6), self.between(0.9, 2.2)
        self.put("furniture", spot(d / 2, h / 2), (w, d, h), turn)
        if h < 1.3:
            self.clutter(spot(d / 2, h), 0.3)
        return h

    def shelf(self, spot: Spot, turn: float) -> float:
        """Adds furniture with rows of books."""
        w, h = self.between(1.0, 1.8), self.between(1.6, 2.1)
        self.put("furniture", spot(0.15, h / 2), (w, 0.3, h), turn)
        for row in np.arange(0.3, h - 0.2, 0.4):
            self.put(
                "books",
                spot(0.17, float(row), self.between(-0.1, 0.1) * w),
                (w * 0.7, 0.3, 0.27),
                turn,
            )
        return h

    def television(self, spot: Spot, turn: float) -> float:
        """Adds a screen on a low cabinet."""
        w, h = self.between(1.0, 1.5), self.between(0.4, 0.6)
        self.put("furniture", spot(0.25, h / 2), (w, 0.5, h), turn)
        self.put("television", spot(0.2, h + 0.4), (w * 0.85, 0.06, 0.65), turn)
        return h + 0.75

    def curtain(self, spot: Spot, turn: float) -> float:
        """Adds a curtain of any color, which has no label."""
        size = (self.between(0.6, 1.3), 0.1, 2.2)
        color, stripes = self.draw.uniform(0.1, 0.9, 3), self.between(6.0, 14.0)
        self.solids.append(Solid(spot(0.05, 1.2), size, UNNAMED, color, turn, stripes=stripes))
        return 2.2

    def hang(self, spot: Spot, turn: float, top: float) -> None:
        """Adds a picture or a window on the wall above `top`."""
        name = "window" if self.draw.random() < 0.6 else "picture"
        w, h = (1.2, 1.0) if name == "window" else (0.8, 0.6)
        w, h = w * self.between(1.0, 1.8), min(h * self.between(1.0, 1.5), self.height - top - 0.25)
        up = max(top + 0.1 + h / 2, self.between(1.2, 1.6))
        self.put(name, spot(0.01, min(up, self.height - h / 2 - 0.1)), (w, 0.05, h), turn)

    def free(self) -> None:
        """Adds a table with a chair, a lone chair, or things on the floor, off the walls."""
        x, y = self.between(-0.35, 0.35) * self.width, self.between(0.35, 0.75) * self.length
        turn = self.between(-math.pi, math.pi)
        kind = self.draw.choice(["table", "chair", "floor"], p=[0.45, 0.35, 0.2])
        if kind == "table":
            self.table(x, y, turn)
        if kind != "floor":
            angle = self.between(-math.pi, math.pi)
            far = 0.75 if kind == "table" else 0.0
            self.chair(x + far * math.cos(angle), y + far * math.sin(angle), turn)
        else:
            self.clutter((x, y, 0.0), 0.5)

    def table(self, x: float, y: float, turn: float) -> None:
        """Adds a top on two side plates, with things on it."""
        w, d, h = self.between(0.9, 1.5), self.between(0.6, 0.9), self.between(0.45, 0.78)
        self.put("table", (x, y, h), (w, d, 0.06), turn)
        for side in (-0.4, 0.4):
            self.put(
                "table",
                (x + side * w * math.cos(turn), y + side * w * math.sin(turn), h / 2),
                (0.1, d, h),
                turn,
            )
        self.clutter((x, y, h + 0.03), 0.25)

    def chair(self, x: float, y: float, turn: float) -> None:
        """Adds a seat on a block, and a back."""
        self.put("chair", (x, y, 0.42), (0.48, 0.48, 0.1), turn)
        self.put("chair", (x, y, 0.2), (0.3, 0.3, 0.4), turn)
        back = (x - 0.22 * math.sin(turn), y + 0.22 * math.cos(turn), 0.68)
        self.put("chair", back, (0.48, 0.06, 0.55), turn)

    def clutter(self, base: Place, spread: float) -> None:
        """Adds balls, boxes, books and unnamed things."""
        for _ in range(int(self.draw.integers(1, 4))):
            size = (self.between(0.12, 0.38), self.between(0.12, 0.38), self.between(0.12, 0.38))
            name = str(self.draw.choice(["objects", "books", "unnamed"], p=[0.5, 0.25, 0.25]))
            if name == "books":
                size = (0.3, 0.22, 0.1)
            x, y = base[0] + self.between(-spread, spread), base[1] + self.between(-spread, spread)
            label = UNNAMED if name == "unnamed" else CLASSES.index(name)
            color = self.draw.uniform(0.1, 0.9, 3) if name == "unnamed" else self.color(name)
            ball = name == "objects" and self.draw.random() < 0.5
            center = (x, y, base[2] + size[2] / 2)
            self.solids.append(
                Solid(center, size, label, color, self.between(-1.5, 1.5), round=ball)
            )

    def camera(self) -> Camera:
        """Places the camera near the wall behind, looking into the room and slightly down."""
        # The height of a person's eyes, above most furniture.
        position = (
            self.between(-0.15, 0.15) * self.width,
            self.between(0.1, 0.5),
            self.between(1.3, 1.7),
        )
        return Camera(position, self.between(-0.15, 0.15), self.between(-0.42, -0.3), FOCAL)


def picture(draw: np.random.Generator, height: int, width: int) -> Example:
    """Draws one example: image in [0, 1], label as float, depth in meters, normals.

    All parts are float32, as in the real files.
    """
    room = Room(draw)
    camera = room.camera()
    turn = camera.turn()
    rays = camera.rays(height, width)
    hits = cast(room.solids, np.array(camera.position), rays @ turn.T)
    light = np.array([room.between(-1, 1), room.between(0.5, 0.9 * room.length), room.height - 0.2])
    colors = shade(room.solids, hits, light, np.array(HAZE), SIGHT) * room.between(0.9, 1.15)
    colors = np.clip(colors + draw.uniform(-1, 1, colors.shape) * NOISE, 0, 1)
    labels = np.array([solid.label for solid in room.solids])[hits.index]
    return {
        "image": (np.round(colors * 255) / 255).reshape(height, width, 3).astype(np.float32),
        "label": labels.reshape(height, width).astype(np.float32),
        "depth": np.round(hits.depth, 3).reshape(height, width, 1).astype(np.float32),
        # Rounded, so that a difference in the last bit of a sine does not reach the file.
        "normal": np.round(hits.normal @ turn, 4).reshape(height, width, 3).astype(np.float32),
    }


def rooms(root: Path, counts: dict[str, int], height: int, width: int, seed: int) -> Path:
    """Returns the folder of a set of rooms below `root`; makes it if it is not there.

    `counts` gives the examples of every split.
    """
    parameters = {**counts, "height": height, "width": width, "seed": seed}
    draw = lambda generator: picture(generator, height, width)  # noqa: E731
    return write_once(
        root, "rooms", parameters, lambda folder: write_scenes(folder, counts, seed, draw)
    )
