"""CelebA's aligned faces with 40 binary attributes (Liu et al. 2015).

Layout below the data root, as the published archives unpack (for non-commercial research; not
downloaded here):

- `celeba/img_align_celeba/000001.jpg` ...: 178x218 pixels
- `celeba/list_attr_celeba.txt`: count; 40 names; per image a line of its name and 40 values, 1 or
  -1
- `celeba/list_eval_partition.txt`: per image a line with 0 train, 1 validation, 2 test

Images are reduced as in Sener and Koltun's code (multi_task/loaders/celeba_loader.py): channels in
the order blue, green, red; a mean of their Cityscapes loader subtracted; then scipy's former
`imresize`. That function stretches values that are not bytes to each image's own range 0...255 and
reduces the whole picture to a square, bilinear with antialiasing. The task divides by 255.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from multitask.runs.errors import UserError
from multitask.runs.seeding import generator
from system.reading import read_bytes, read_text, reason

FOLDER = "celeba"
WIDTH, HEIGHT = 178, 218
# Codes 0, 1, 2 in the partition file.
SPLITS = ("train", "validation", "test")
# Images of the splits.
PUBLISHED = 162_770, 19_867, 19_962
MEAN = {"red": 72.39239876, "green": 82.90891754, "blue": 73.15835921}
# The second line of the list of attributes.
_NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses "
    "Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache "
    "Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick "
    "Wearing_Necklace Wearing_Necktie Young"
)
ATTRIBUTES = tuple(_NAMES.split())
# Pillow reads dozens of formats, and starts another program for one of them.
FORMATS = ("JPEG", "PNG")
# In bytes; a CelebA picture has 116,412 bytes uncompressed.
MOST_IMAGE = 4 * 2**20
# Refuses paths that lead out of the folder.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
REMEDY = "put the original files of CelebA there"


@dataclass(frozen=True)
class Collection:
    """A set of images with binary attributes in CelebA's list format.

    Attributes:
        images: Folder of the images.
        list_file: The list of attributes.
        attributes: Names of the attributes, in the list's order.
        size: Width and height of the images.
        published: Images of the splits train, validation, test.
        remedy: What to do about a damaged file.
        missing: What to put where, if the folder is missing.
    """

    images: str
    list_file: str
    attributes: tuple[str, ...]
    size: tuple[int, int]
    published: tuple[int, int, int]
    remedy: str
    missing: str


CELEBA = Collection(
    "img_align_celeba",
    "list_attr_celeba.txt",
    ATTRIBUTES,
    (WIDTH, HEIGHT),
    PUBLISHED,
    REMEDY,
    "put CelebA's img_align_celeba/, list_attr_celeba.txt, list_eval_partition.txt there "
    "(Liu et al. 2015, mmlab.ie.cuhk.edu.hk/projects/CelebA.html; for non-commercial research, "
    "to be cited)",
)


@dataclass(frozen=True)
class Faces:
    """Images and attributes of every split, with a hash of all.

    Images are [N, 3, S, S] uint8, attributes [N, T] uint8 (1: present).
    """

    images: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    sha256: str


def read_attributes(path: Path, collection: Collection = CELEBA) -> dict[str, NDArray[np.uint8]]:
    """Reads {file name: values 0 or 1} from the list of attributes.

    Raises:
        UserError: The list is damaged; the message names the line that is wrong.
    """
    wanted, remedy = collection.attributes, collection.remedy
    lines = read_text(path, remedy).splitlines()
    count = lines[0].strip() if lines else ""
    if not re.fullmatch("[0-9]{1,9}", count) or len(lines) < 2:
        raise UserError(
            f"{path} does not begin with the number of images, but {count[:40]!r}; {remedy}"
        )
    names = tuple(lines[1].split())
    if names != wanted:
        odd = next(
            (f"{a} for {b}" for a, b in zip(names, wanted, strict=False) if a != b),
            f"{len(names)} names",
        )
        raise UserError(
            f"{path}: line 2 does not name the {len(wanted)} attributes in their order ({odd}); "
            f"{remedy}"
        )
    if len(lines) - 2 != int(count):
        raise UserError(
            f"{path} announces {count} images and has lines for {len(lines) - 2}; {remedy}"
        )
    found = {}
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split() or [""]
        wrong = set(values) - {"1", "-1"}
        if len(values) != len(wanted) or wrong:
            problem = (
                f"the value {min(wrong)!r}, neither 1 nor -1"
                if wrong
                else f"{len(values)} values, not {len(wanted)}"
            )
            raise UserError(f"{path}: line {number} has {problem}; {remedy}")
        if not PLAIN_NAME.fullmatch(name):
            raise UserError(f"{path}: line {number} has {name!r:.60}, no plain file name; {remedy}")
        found[name] = np.array([value == "1" for value in values], dtype=np.uint8)
    # Each line adds one name, so fewer names than lines means a repeated one.
    if len(found) != int(count):
        raise UserError(f"{path} lists an image twice; {remedy}")
    return found


def read_partition(
    path: Path, known: Mapping[str, object], remedy: str = REMEDY
) -> dict[str, list[str]]:
    """Reads {split: file names in the file's order} from `list_eval_partition.txt`.

    Raises:
        UserError: The file does not list every known name exactly once.
    """
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen = set()
    for number, line in enumerate(read_text(path, remedy).splitlines(), start=1):
        # Names have no spaces, as PLAIN_NAME requires.
        name, _, code = line.strip().partition(" ")
        if name not in known:
            raise UserError(
                f"{path}: line {number} names {name!r}, which has no attributes; {remedy}"
            )
        if code not in ("0", "1", "2"):
            raise UserError(
                f"{path}: line {number} gives {name} the split {code!r}, not 0, 1 or 2; {remedy}"
            )
        found[SPLITS[int(code)]].append(name)
        seen.add(name)
    names = sum(map(len, found.values()))
    if len(seen) != len(known) or names != len(seen):
        raise UserError(
            f"{path} lists {names} images, {len(seen)} of them different, not {len(known)}; "
            f"{remedy}"
        )
    return found


def read_image(
    path: Path, side: int, collection: Collection = CELEBA
) -> tuple[NDArray[np.uint8], bytes]:
    """Reads one image as the network sees it, and the sha256 of its file.

    The pixels are [3, side, side] in the order blue, green, red.
    """
    remedy = collection.remedy
    try:
        content = read_bytes(path, MOST_IMAGE)
        # The size is compared below, before any pixel is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            # The size is in the header: a short file may hold a picture of any size.
            size, mode = image.size, image.mode
            # A picture of another size is not decoded: its pixels could fill the memory.
            picture = image.convert("RGB") if size == collection.size else None
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy} ({collection.images})") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is no picture in JPEG or PNG; {remedy} again") from None
    # A damaged picture may raise almost any exception.
    except Exception as error:
        words = reason(error) if isinstance(error, OSError) else type(error).__name__
        raise UserError(f"{path} is no whole picture ({words:.80}); {remedy} again") from None
    # Pillow would cut 16 bits to 8 and drop transparency.
    if mode != "RGB":
        raise UserError(f"{path} has pixels of the kind {mode}, not RGB; {remedy}")
    if picture is None:
        raise UserError(
            f"{path} has {size[0]}x{size[1]} pixels, "
            f"not {collection.size[0]}x{collection.size[1]}; {remedy}"
        )
    return reduced(picture, side), hashlib.sha256(content).digest()


def reduced(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    """Returns the base code's pixels [3, side, side]; see the module's description.

    With v = pixel - mean of its channel, over the whole image:

        floor(255 (v - min v) / (max v - min v) + 1/2), then resized
    """
    means = np.array(list(MEAN.values()))
    ends = np.array(picture.getextrema()) - means[:, None]
    low, high = ends.min(), ends.max()
    # A byte has 256 values: a table per channel replaces arithmetic per pixel.
    scaled = (np.arange(256) - means[:, None] - low) * (255 / (high - low))
    table = (scaled.clip(0, 255) + 0.5).astype(np.uint8)
    small = picture.point(table.ravel().tolist()).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small)[:, :, ::-1].transpose(2, 0, 1)


@lru_cache(maxsize=1)
def read(
    folder: Path,
    side: int,
    limits: tuple[int, int, int],
    seed: int,
    published: bool = True,
    collection: Collection = CELEBA,
) -> Faces:
    """Reads the set in `folder`, or a part of each split, in the partition's order.

    Args:
        folder: Folder of the set.
        side: Rows and columns of the reduced images.
        limits: Images of each split, chosen by `seed`; 0 takes all.
        seed: Seed of the choice.
        published: Whether the splits must have the published sizes.
        collection: The files and attributes of the set.

    Raises:
        UserError: Anything is missing, damaged or too few.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing; {collection.missing}, "
            "or point PCGRAD_DATA or data_root elsewhere"
        )
    attributes = read_attributes(folder / collection.list_file, collection)
    partition = read_partition(folder / "list_eval_partition.txt", attributes, collection.remedy)
    images, labels, digest = {}, {}, hashlib.sha256()
    for split, limit, count in zip(SPLITS, limits, collection.published, strict=True):
        names = partition[split]
        if published and len(names) != count:
            raise UserError(
                f"{folder}: the {split} split has {len(names)} images, not {count}; "
                f"{collection.remedy}"
            )
        names = [names[row] for row in subset(len(names), limit, split, seed)]
        # Filled image by image: only reduced pictures are kept.
        pixels = np.empty((len(names), 3, side, side), dtype=np.uint8)
        for row, name in enumerate(names):
            pixels[row], file = read_image(folder / collection.images / name, side, collection)
            # The digest of a file instead of its pixels: it does not depend on `side`.
            digest.update(file)
        values = np.array([attributes[name] for name in names]).reshape(
            -1, len(collection.attributes)
        )
        digest.update(values.tobytes())
        images[split], labels[split] = torch.from_numpy(pixels), torch.from_numpy(values)
    return Faces(images, labels, digest.hexdigest())


def subset(count: int, limit: int, split: str, seed: int) -> list[int]:
    """Draws `limit` rows of a split at random and sorts them; 0 takes all.

    Raises:
        UserError: The split has fewer rows.
    """
    if limit > count:
        raise UserError(
            f"{split}_examples: {limit} are more than the {count} there are; "
            "choose fewer, or 0 for all"
        )
    # A stream per split, so that the size of one does not change the others.
    order = torch.randperm(count, generator=generator(seed, f"subset/{split}"))
    return sorted(order[: limit or count].tolist())
