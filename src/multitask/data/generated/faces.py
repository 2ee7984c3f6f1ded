"""A stand-in for CelebA: cartoon faces with the set's 40 attributes, files and sizes.

Each attribute is one feature of the drawing (a color, a shape, something worn), most with a share
near one half. As in the real set they depend on each other: facial hair, make-up and jewelry depend
on Male; hair colors exclude each other; No_Beard is the absence of four kinds of facial hair;
Attractive is a vote of three attributes. Skin, shades, clothes, background, light, size and place
vary from face to face. Later strokes cover earlier ones (a fringe hides wrinkles), so no classifier
is perfect.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from multitask.data.celeba import ATTRIBUTES, HEIGHT, SPLITS, WIDTH
from multitask.runs.seeding import numpy_generator

Color = tuple[int, ...]
HAIR = {
    "Black_Hair": (25, 22, 26),
    "Blond_Hair": (232, 200, 90),
    "Brown_Hair": (120, 60, 20),
    "Gray_Hair": (172, 174, 180),
}
DYED_HAIR = (236, 110, 180)
# Brows and beard of a bald head.
BROWS = (90, 60, 40)
FACIAL_HAIR = ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
WORN = ("Heavy_Makeup", "Wearing_Earrings", "Wearing_Lipstick", "Wearing_Necklace")
HALF = (
    *(
        "Arched_Eyebrows",
        "Bags_Under_Eyes",
        "Big_Lips",
        "Big_Nose",
        "Bushy_Eyebrows",
        "Chubby",
        "Double_Chin",
    ),
    *(
        "Eyeglasses",
        "High_Cheekbones",
        "Male",
        "Mouth_Slightly_Open",
        "Narrow_Eyes",
        "Oval_Face",
        "Pale_Skin",
    ),
    *("Pointy_Nose", "Rosy_Cheeks", "Smiling", "Wearing_Hat", "Young"),
)
# Of the JPEG files.
QUALITY = 95


def generate_faces(folder: Path, counts: Mapping[str, int], seed: int) -> None:
    """Writes `folder`/celeba with `counts[split]` faces in every split.

    Face i depends only on seed, split and i.
    """
    images = folder / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    attributes: list[str] = []
    partition: list[str] = []
    for code, split in enumerate(SPLITS):
        for i in range(counts[split]):
            rng = numpy_generator(seed, f"faces/{split}/{i}")
            has = choose(rng)
            name = f"{len(partition) + 1:06d}.jpg"
            draw(has, rng).save(images / name, quality=QUALITY)
            attributes.append(
                " ".join([name, *("1" if has[attribute] else "-1" for attribute in ATTRIBUTES)])
            )
            partition.append(f"{name} {code}")
    lines = [str(len(attributes)), " ".join(ATTRIBUTES), *attributes]
    (folder / "celeba" / "list_attr_celeba.txt").write_text(
        "\n".join(lines) + "\n", encoding="utf-8"
    )
    (folder / "celeba" / "list_eval_partition.txt").write_text(
        "\n".join(partition) + "\n", encoding="utf-8"
    )


def choose(rng: np.random.Generator) -> dict[str, bool]:
    """Draws the attributes of one face."""
    has = {name: bool(rng.random() < 0.5) for name in HALF}
    male = has["Male"]
    has |= {name: bool(rng.random() < (0.6 if male else 0.1)) for name in FACIAL_HAIR}
    has |= {name: bool(rng.random() < (0.25 if male else 0.75)) for name in WORN}
    has["Wearing_Necktie"] = bool(rng.random() < (0.75 if male else 0.25))
    has["Blurry"] = bool(rng.random() < 0.25)
    has["Bald"] = bald = bool(rng.random() < 0.2)
    has["Receding_Hairline"] = not bald and bool(rng.random() < 0.4)
    has["Bangs"] = not bald and not has["Receding_Hairline"] and bool(rng.random() < 0.6)
    # Gray hair is more frequent among the old, dyed hair among the young.
    shares = [0.24, 0.24, 0.24, 0.2, 0.08] if has["Young"] else [0.2, 0.2, 0.2, 0.36, 0.04]
    color = rng.choice([*HAIR, "dyed"], p=shares)
    has |= {name: not bald and name == color for name in HAIR}
    long = rng.choice(["Straight_Hair", "Wavy_Hair", "short"], p=[0.4, 0.4, 0.2])
    has |= {name: not bald and name == long for name in ("Straight_Hair", "Wavy_Hair")}
    # Derived attributes come last: they depend on the drawn ones.
    has["No_Beard"] = not any(has[name] for name in FACIAL_HAIR)
    has["Attractive"] = has["Young"] + has["Smiling"] + (not has["Bags_Under_Eyes"]) >= 2
    return has


class Pen(NamedTuple):
    """Draws on one face.

    Attributes:
        on: The picture.
        has: The face's attributes.
        rng: The face's stream.
        skin: Color of the skin.
        hair: Color of the hair.
        x: Center of the head.
        y: Center of the head.
        rx: Half the width of the head.
        ry: Half the height of the head.
    """

    on: ImageDraw.ImageDraw
    has: Mapping[str, bool]
    rng: np.random.Generator
    skin: Color
    hair: Color
    x: float
    y: float
    rx: float
    ry: float

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        """Fills an ellipse at (x, y) from the head's center; rx, ry: half its axes."""
        self.on.ellipse(
            (self.x + x - rx, self.y + y - ry, self.x + x + rx, self.y + y + ry), fill=color
        )

    def box(
        self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0
    ) -> None:
        """Fills a rectangle; its sides are relative to the head's center."""
        place = (self.x + left, self.y + top, self.x + right, self.y + bottom)
        self.on.rounded_rectangle(place, radius, fill=color)

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: int) -> None:
        """Draws a broken line; its points are relative to the head's center."""
        self.on.line(
            [(self.x + x, self.y + y) for x, y in points], fill=color, width=width, joint="curve"
        )

    def shade(self, color: Color, spread: int = 12) -> Color:
        """Returns a random color near the given one."""
        shift = self.rng.integers(-spread, spread + 1, 3)
        return tuple(int(v) for v in np.clip(np.array(color[:3]) + shift, 0, 255))


def draw(has: Mapping[str, bool], rng: np.random.Generator) -> Image.Image:
    """Draws one face, 178x218 pixels, in layers from the back to the front."""
    colors = Image.fromarray(rng.integers(105, 155, (4, 3, 3), dtype=np.uint8))
    back = colors.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    skin = rng.uniform(0.93, 1.0) * np.array(
        (250, 226, 208) if has["Pale_Skin"] else (196, 136, 92)
    )
    color = next((HAIR[name] for name in HAIR if has[name]), BROWS if has["Bald"] else DYED_HAIR)
    pen = Pen(
        ImageDraw.Draw(back, "RGBA"),
        has,
        rng,
        tuple(int(v) for v in skin),
        tuple(int(v) for v in np.clip(np.array(color) + rng.integers(-12, 13), 0, 255)),
        x=WIDTH / 2 + rng.uniform(-3, 3),
        y=HEIGHT / 2 + rng.uniform(-3, 3),
        rx=(58 if has["Chubby"] else 44) + rng.uniform(-2, 2),
        ry=(76 if has["Oval_Face"] else 62) + rng.uniform(-2, 2),
    )
    # The order matters: later layers cover earlier ones.
    for layer in (_behind, _body, _head, _hair, _eyes, _nose_and_cheeks, _beard, _mouth, _hat):
        layer(pen)
    image = back.filter(ImageFilter.GaussianBlur(6)) if has["Blurry"] else back
    # Grain in blocks: single pixels would vanish when the loader reduces the picture.
    grain = (
        rng.integers(-10, 11, (HEIGHT // 4, WIDTH // 4, 3))
        .repeat(5, 0)
        .repeat(5, 1)[:HEIGHT, :WIDTH]
    )
    # Light and grain vary from picture to picture, as in photographs.
    lit = np.asarray(image) * rng.uniform(0.85, 1.02) + grain
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _behind(pen: Pen) -> None:
    """Draws long hair, straight or in waves."""
    for side in (-1, 1):
        if pen.has["Straight_Hair"]:
            edges = sorted((side * (pen.rx - 14), side * (pen.rx + 22)))
            pen.box(edges[0], -40, edges[1], 100, pen.hair)
        elif pen.has["Wavy_Hair"]:
            for step, y in enumerate(range(-30, 90, 24)):
                pen.oval(side * (pen.rx + (16 if step % 2 else 0)), y, 17, 15, pen.hair)


def _body(pen: Pen) -> None:
    """Draws neck and shoulders, and what is worn there."""
    clothes = pen.shade((90, 100, 120), 40)
    neck = 34 if pen.has["Male"] else 22
    pen.box(-84 if pen.has["Male"] else -62, 84, 84 if pen.has["Male"] else 62, 130, clothes, 14)
    pen.box(-neck, 40, neck, 92, pen.skin)
    if pen.has["Double_Chin"]:
        pen.oval(0, pen.ry, pen.rx * 0.8, 22, (120, 50, 40))
    if pen.has["Wearing_Necklace"]:
        for x in range(-32, 33, 8):
            pen.oval(x, 90 - x * x / 90, 6, 6, (255, 226, 40))
    if pen.has["Wearing_Necktie"]:
        pen.box(-10, 84, 10, 130, pen.shade((170, 10, 30)))


def _head(pen: Pen) -> None:
    """Draws ears, earrings and the face, with a square or a round jaw."""
    for side in (-1, 1):
        pen.oval(side * (pen.rx + 2), 0, 9, 14, pen.shade(pen.skin))
        if pen.has["Wearing_Earrings"]:
            pen.oval(side * (pen.rx + 10), 24, 11, 13, (60, 250, 235))
    pen.oval(0, 0, pen.rx, pen.ry, pen.skin)
    if pen.has["Male"]:
        pen.box(-pen.rx, 0, pen.rx, pen.ry - 2, pen.skin, 20)
    if not pen.has["Young"]:
        for y in (-52, -43, -34):
            pen.line([(-32, y), (32, y)], (80, 36, 24), 5)


def _hair(pen: Pen) -> None:
    """Draws the top of the hair and its fringe, unless the head is bald."""
    if pen.has["Bald"]:
        return
    rx, ry = pen.rx + 6, pen.ry + 12
    line = -pen.ry + (2 if pen.has["Receding_Hairline"] else 20)
    corner = np.degrees(np.arcsin(line / ry))
    pen.on.chord(
        (pen.x - rx, pen.y - ry, pen.x + rx, pen.y + ry), 180 - corner, 360 + corner, fill=pen.hair
    )
    if pen.has["Bangs"]:
        pen.box(-pen.rx * 0.8, line - 6, pen.rx * 0.8, -22, pen.hair, 5)


def _eyes(pen: Pen) -> None:
    """Draws eyes, lids, brows and glasses."""
    half = 3 if pen.has["Narrow_Eyes"] else 12
    brow = 12 if pen.has["Bushy_Eyebrows"] else 3
    dark = tuple(int(v * 0.5) for v in pen.hair)
    iris = pen.shade((60, 80, 60), 40)
    for side in (-1, 1):
        x = side * 22
        if pen.has["Bags_Under_Eyes"]:
            pen.oval(x, 5, 17, 13, (88, 40, 120))
        if pen.has["Heavy_Makeup"]:
            pen.oval(x, -16, 17, 9, (40, 90, 220))
        pen.oval(x, -9, 14, half, (250, 250, 250))
        pen.oval(x, -9, min(half, 7), half, iris)
        rise = 16 if pen.has["Arched_Eyebrows"] else -4
        pen.line([(x - 15, -25), (x, -25 - rise), (x + 15, -25)], dark, brow)
        if pen.has["Eyeglasses"]:
            place = (pen.x + x - 20, pen.y - 26, pen.x + x + 20, pen.y + 8)
            pen.on.ellipse(place, outline=(10, 10, 10), width=6)


def _nose_and_cheeks(pen: Pen) -> None:
    """Draws cheeks and a round or pointed nose."""
    size = 20 if pen.has["Big_Nose"] else 8
    if pen.has["Pointy_Nose"]:
        corners = [(0, -30), (-size, 19), (size, 19)]
        pen.on.polygon(
            [(pen.x + x, pen.y + y) for x, y in corners],
            fill=tuple(int(v * 0.55) for v in pen.skin),
        )
    else:
        pen.oval(0, 14, size, size * 0.8, (236, 130, 110))
    for side in (-1, 1):
        if pen.has["Rosy_Cheeks"]:
            pen.oval(side * (pen.rx - 15), 22, 14, 12, (240, 60, 80, 220))
        if pen.has["High_Cheekbones"]:
            pen.line([(side * (pen.rx - 26), 12), (side * (pen.rx - 4), 2)], (255, 250, 235), 11)


def _beard(pen: Pen) -> None:
    """Draws four kinds of facial hair."""
    if pen.has["5_o_Clock_Shadow"]:
        pen.box(-pen.rx * 0.86, 32, pen.rx * 0.86, pen.ry - 10, (50, 60, 80, 110), 18)
    dark = tuple(int(v * 0.8) for v in pen.hair)
    if pen.has["Goatee"]:
        pen.box(-15, 48, 15, pen.ry + 8, dark, 6)
    if pen.has["Mustache"]:
        pen.box(-26, 23, 26, 33, dark, 4)
    if pen.has["Sideburns"]:
        for side in (-1, 1):
            edges = sorted((side * (pen.rx - 8), side * (pen.rx + 4)))
            pen.box(edges[0], -20, edges[1], 36, dark)


def _mouth(pen: Pen) -> None:
    """Draws lips in a line or a smile, thin or full, open or closed."""
    color = (
        pen.shade((214, 10, 50))
        if pen.has["Wearing_Lipstick"]
        else tuple(int(v * 0.6) for v in pen.skin)
    )
    half = 10 if pen.has["Big_Lips"] else 4
    curve = 20 if pen.has["Smiling"] else -16
    points = [(x, 43 - curve * (x / 32) ** 2) for x in range(-32, 33, 4)]
    pen.line(points, color, 2 * half)
    if pen.has["Mouth_Slightly_Open"]:
        pen.oval(0, 43, 16, 8, (30, 0, 10))


def _hat(pen: Pen) -> None:
    """Draws a hat with a brim."""
    if pen.has["Wearing_Hat"]:
        felt = pen.shade((40, 140, 60), 30)
        pen.box(-pen.rx + 4, -pen.ry - 50, pen.rx - 4, -pen.ry + 4, felt, 8)
        pen.box(-pen.rx - 20, -pen.ry - 4, pen.rx + 20, -pen.ry + 8, felt, 4)
