"""Scenes with several label images each, in the layout of MTAN's preprocessed sets.

Source: Liu, Johns and Davison (2019). Layout: <folder>/{train,val}/<part>/<i>.npy, i = 0, 1, ...

- "image" [H, W, 3] in [0, 1]
- "label" [H, W]: a class, or -1
- "depth" [H, W, 1], 0 where unknown: meters in NYUv2; in CityScapes the stereo disparity as a share
  of 65,536 (inverse depth, issues 15 and 25 of lorenmt/mtan)
- "normal" [H, W, 3], NYUv2 only: (right, ahead, up), 0 where unknown

CityScapes comes with 2, 7 and 19 classes in "label_2", "label_7", "label_19". The split "val" is
the test set of every published table. Sets are kept in memory: 29 bytes per pixel (NYUv2: 2.55 +
2.10 GB), or 17 without normals (CityScapes at 128x256: 1.66 + 0.28 GB).
"""

import hashlib
import io
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multitask.runs.errors import UserError
from system.reading import read_bytes, reason

# Folders of the splits.
SPLITS = ("train", "val")
# Permitted distance of image values from [0, 1]: some resamplings overshoot a little, while
# images in 0...255 exceed it by far.
OVERSHOOT = 0.5
# Permitted excess of a unit vector's component over 1.
UNIT_SLACK = 0.01
# Bytes of a value.
WIDEST = 8
# Bytes of an .npy file before its values.
LONGEST_HEADER = 10_000

# Folder and channels; 0 channels: a plane without a channel axis.
Part = tuple[str, int]


@dataclass(frozen=True)
class Source:
    """What a set's folders are called and where the set comes from.

    Attributes:
        name: Name of the set.
        labels: Possible folders of the labels, of which the first that exists is read.
        normals: Whether the set has surface normals.
        terms: Where to get the set and under which terms.
        second: The task whose values are in the folder depth/.
    """

    name: str
    labels: tuple[str, ...]
    normals: bool
    terms: str
    second: str = "depth"


NYUV2 = Source(
    "NYUv2",
    ("label",),
    True,
    "the preprocessed set that the README of lorenmt/mtan on GitHub links to; "
    "for research, cite Silberman et al. 2012",
)
CITYSCAPES = Source(
    "CityScapes",
    ("label_7", "label"),
    False,
    "the 128x256 set that the README of lorenmt/mtan on GitHub links to; "
    "non-commercial use after registration at "
    "cityscapes-dataset.com, cite Cordts et al. 2016",
)


CAMVID = Source(
    "CamVid",
    ("label",),
    False,
    "SegNet's copy of CamVid at 96x128 with 7 classes and, below depth/, "
    "the distance to the nearest class boundary; "
    "for research, non-commercial, cite Brostow et al. 2008",
    second="boundary",
)


@dataclass(frozen=True)
class Scenes:
    """Both splits of a set, with a hash of their content.

    A split is images [N, 3, H, W], labels [N, H, W] int8, depths [N, 1, H, W] and, if the set has
    them, normals [N, 3, H, W]. `second` is the task of the third part.
    """

    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    sha256: str
    second: str = "depth"


@lru_cache(maxsize=1)
def read_scenes(
    folder: Path, source: Source, classes: int, size: tuple[int, int], counts: tuple[int, int]
) -> Scenes:
    """Reads both splits of a set.

    Args:
        folder: Folder of the set.
        source: The set's folders and origin.
        classes: Number of classes of the labels.
        size: Rows and columns of the images.
        counts: Expected examples of train and test; 0 accepts any number.

    Raises:
        UserError: Something is missing, damaged or not as described above; the message names the
            file and the remedy.
    """
    digest = hashlib.sha256()
    splits = []
    for split, expected in zip(SPLITS, counts, strict=True):
        splits.append(read_split(folder / split, source, classes, size, expected, digest))
    return Scenes(splits[0], splits[1], digest.hexdigest(), source.second)


def in_both(scenes: Scenes) -> int:
    """Counts the test images that are training images as well."""
    known = {hashlib.sha256(image.numpy().tobytes()).digest() for image in scenes.train[0]}
    test = (hashlib.sha256(image.numpy().tobytes()).digest() for image in scenes.test[0])
    return sum(digest in known for digest in test)


def read_split(
    folder: Path, source: Source, classes: int, size: tuple[int, int], expected: int, digest: Any
) -> tuple[Tensor, ...]:
    """Reads and checks one split; its contents go into `digest`, example by example."""
    parts = _parts(folder, source)
    count = _count(folder, parts, expected)
    arrays = []
    for _, channels in parts:
        shape = (count, channels, *size) if channels else (count, *size)
        # Filled file by file, so that a set is in memory only once.
        arrays.append(torch.empty(shape, dtype=torch.float32 if channels else torch.int8))
    for i in range(count):
        for (name, channels), array in zip(parts, arrays, strict=True):
            path = folder / name / f"{i}.npy"
            values = _read(path, (*size, channels) if channels else size)
            _check(path, name, values, classes)
            array[i] = torch.from_numpy(np.moveaxis(values, -1, 0) if channels else values)
            digest.update(array[i].numpy().tobytes())
    return tuple(arrays)


def _parts(folder: Path, source: Source) -> list[Part]:
    """Returns the parts of an example, in the order of `Scenes`."""
    label = next((name for name in source.labels if (folder / name).is_dir()), source.labels[0])
    parts = [("image", 3), (label, 0), ("depth", 1), *([("normal", 3)] if source.normals else [])]
    for name, _ in parts:
        if not (folder / name).is_dir():
            names = ",".join(name for name, _ in parts)
            raise UserError(
                f"no folder {folder / name}; put {source.name} into {folder.parent} "
                f"as {{train,val}}/{{{names}}}/<i>.npy ({source.terms}), "
                "or point PCGRAD_DATA or data_root elsewhere"
            )
    return parts


def _count(folder: Path, parts: list[Part], expected: int) -> int:
    """Counts the examples: every part must have the files 0.npy, 1.npy, ... without a gap."""
    found = {name: _numbered(folder / name) for name, _ in parts}
    count = max(len(names) for names in found.values())
    for name, names in found.items():
        missing = [i for i in range(count) if f"{i}.npy" not in names]
        if missing or not count:
            first = folder / name / f"{missing[0] if missing else 0}.npy"
            raise UserError(
                f"{first} is missing ({len(names)} of {count} files are there); "
                "unpack the set again"
            )
    if expected not in (0, count):
        raise UserError(
            f"{folder} holds {count} examples, not {expected}; complete the set, "
            "or set train_examples and test_examples to 0 to take what is there"
        )
    return count


def _numbered(folder: Path) -> set[str]:
    """Returns the names <i>.npy in a folder; hidden files are ignored.

    Raises:
        UserError: A file has a name of another form.
    """
    try:
        names = {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({reason(error)}); make it readable (chmod u+rx)"
        ) from None
    for name in sorted(names):
        if not re.fullmatch(r"(0|[1-9][0-9]{0,8})\.npy", name):
            raise UserError(f"{folder / name} is no example of the form <i>.npy; delete it")
    return names


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Reads one file's array of finite numbers in the given shape."""
    longest = LONGEST_HEADER + WIDEST * math.prod(shape)
    try:
        values = parse_npy(path, read_bytes(path, longest), shape)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}); check its permissions, "
            "or unpack the set again"
        ) from None
    except UserError:
        raise
    # A damaged header may raise almost any exception.
    except Exception as error:
        words = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is damaged or no .npy file of numbers ({words:.80}); unpack the set again"
        ) from None
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite; unpack the set again")
    # Finite in float64 may still overflow in float32, in which sets are kept.
    if np.abs(values).max() > np.finfo(np.float32).max:
        raise UserError(f"{path} holds values that float32 cannot; unpack the set again")
    return values


def parse_npy(path: Path, content: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns the array in the bytes of an .npy file; `path` is for messages.

    Raises:
        UserError: The file is sound, but holds no numbers or another shape.
        Exception: Any exception, if the file is damaged.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    parse = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        parse = np.lib.format.read_array_header_2_0
    found, columns_first, dtype = parse(file, max_header_size=LONGEST_HEADER)
    if dtype.kind not in "fiu" or dtype.itemsize > WIDEST:
        raise UserError(
            f"{path} holds values of type {dtype!s:.40}, not numbers; unpack the set again"
        )
    if found != shape:
        raise UserError(
            f"{path} has shape {found!r:.60}, not {shape}; set height and width to the set's, or "
            "get the other version"
        )
    # Type, shape and length are checked before an array of the announced size is made.
    if len(content) - file.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content) - file.tell()} bytes for {shape}")
    flat = np.frombuffer(content, dtype, offset=file.tell())
    values = flat.reshape(shape, order="F" if columns_first else "C")
    # A copy in the machine's byte order, because torch accepts no other.
    return values.astype(dtype.newbyteorder("="))


def _check(path: Path, part: str, values: NDArray[Any], classes: int) -> None:
    """Raises a UserError unless a part's values are in their range."""
    low, high = values.min(), values.max()
    if part.startswith("label"):
        # The published files hold labels as floats.
        if low < -1 or high >= classes or (values != np.round(values)).any():
            raise UserError(
                f"{path} holds labels from {low:g} to {high:g}, "
                f"not integers from -1 to {classes - 1}; set classes to "
                "the set's number, or get the version with that many"
            )
    elif part == "image":
        if low < -OVERSHOOT or high > 1 + OVERSHOOT:
            raise UserError(
                f"{path} holds values from {low:g} to {high:g}, not from 0 to 1; "
                "divide the images by 255"
            )
    elif part == "depth":
        if low < 0:
            raise UserError(
                f"{path} holds negative depths ({low:g}); write 0 where the depth is unknown"
            )
    elif max(-low, high) > 1 + UNIT_SLACK:
        raise UserError(
            f"{path} holds normals with components from {low:g} to {high:g}; "
            "they are to be unit vectors"
        )
