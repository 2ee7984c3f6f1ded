"""Scenes with several label images each, in the layout of MTAN's preprocessed sets (Liu, Johns and
Davison 2019).

<folder>/{train,val}/<part>/<i>.npy, i = 0, 1, ...: "image" [H, W, 3] in [0, 1]; "label" [H, W], a
class or -1; "depth" [H, W, 1], 0 where unknown: meters in NYUv2, in CityScapes the stereo disparity
as a share of 65,536 (inverse depth, issues 15 and 25 of lorenmt/mtan); NYUv2 also "normal" [H, W,
3], (right, ahead, up), 0 where unknown. CityScapes comes with 2, 7 and 19 classes in "label_2",
"label_7", "label_19". Their split "val" is the test set of every published table. Read into memory
as they are: per pixel 29 bytes (NYUv2: 2.55 + 2.10 GB), 17 without normals (CityScapes at
128x256: 1.66 + 0.28 GB).
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multitask.runs.errors import UserError

SPLITS = ("train", "val")  # folders
OVERSHOOT = 0.5  # of image values beyond [0, 1]: some resamplings overshoot, 0...255 does far more
UNIT_SLACK = 0.01

Part = tuple[str, int]  # folder and channels; 0: a plane without a channel axis


@dataclass(frozen=True)
class Source:
    """What a set's folders are called and where it comes from; of `labels` the first folder that
    exists counts.
    """

    name: str
    labels: tuple[str, ...]
    normals: bool
    terms: str


NYUV2 = Source(
    "NYUv2",
    ("label",),
    True,
    "the preprocessed set that the README of lorenmt/mtan on GitHub links to; for research, cite Silberman et al. 2012",
)
CITYSCAPES = Source(
    "CityScapes",
    ("label_7", "label"),
    False,
    "the 128x256 set that the README of lorenmt/mtan on GitHub links to; non-commercial use after registration at "
    "cityscapes-dataset.com, cite Cordts et al. 2016",
)


@dataclass(frozen=True)
class Scenes:
    """Splits of images [N, 3, H, W], labels [N, H, W] int8, depths [N, 1, H, W], perhaps normals
    [N, 3, H, W].
    """

    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    sha256: str


@lru_cache(maxsize=1)
def read_scenes(
    folder: Path, source: Source, classes: int, size: tuple[int, int], counts: tuple[int, int]
) -> Scenes:
    """Both splits of a set; `counts` examples of train and test are expected, 0: any number.

    UserError names the file and the remedy for whatever is missing, damaged or not as described
    above."""
    digest = hashlib.sha256()
    splits = []
    for split, expected in zip(SPLITS, counts, strict=True):
        splits.append(_split(folder / split, source, classes, size, expected, digest))
    return Scenes(splits[0], splits[1], digest.hexdigest())


def read_split(
    folder: Path, source: Source, classes: int, size: tuple[int, int], expected: int = 0
) -> tuple[Tensor, ...]:
    """One split by itself."""
    return _split(folder, source, classes, size, expected, hashlib.sha256())


def _split(
    folder: Path, source: Source, classes: int, size: tuple[int, int], expected: int, digest: Any
) -> tuple[Tensor, ...]:
    """Read and check one split; its contents go into `digest`, example by example."""
    parts = _parts(folder, source)
    count = _count(folder, parts, expected)
    arrays = []
    for _, channels in parts:
        shape = (count, channels, *size) if channels else (count, *size)
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
    """The parts of an example, in the order of `Scenes`."""
    label = next((name for name in source.labels if (folder / name).is_dir()), source.labels[0])
    parts = [("image", 3), (label, 0), ("depth", 1), *([("normal", 3)] if source.normals else [])]
    for name, _ in parts:
        if not (folder / name).is_dir():
            names = ",".join(name for name, _ in parts)
            raise UserError(
                f"no folder {folder / name}; put {source.name} into {folder.parent} as {{train,val}}/"
                f"{{{names}}}/<i>.npy ({source.terms}), or point PCGRAD_DATA or data_root elsewhere"
            )
    return parts


def _count(folder: Path, parts: list[Part], expected: int) -> int:
    """The number of examples: files 0.npy, 1.npy, ... without a gap, as many of every part."""
    found = {name: {path.name for path in (folder / name).glob("*.npy")} for name, _ in parts}
    count = max(len(names) for names in found.values())
    for name, names in found.items():
        missing = [i for i in range(count) if f"{i}.npy" not in names]
        if missing or not count:
            first = folder / name / f"{missing[0] if missing else 0}.npy"
            raise UserError(
                f"{first} is missing ({len(names)} of {count} files are there); unpack the set again"
            )
    if expected not in (0, count):
        raise UserError(
            f"{folder} holds {count} examples, not {expected}; complete the set, or set train_examples and "
            "test_examples to 0 to take what is there"
        )
    return count


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """One file's array of finite numbers in the given shape."""
    try:
        with path.open("rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
    except (
        ValueError,
        EOFError,
        MemoryError,
    ) as error:  # a damaged header may ask for any amount of memory
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is damaged or no .npy file of numbers ({reason:.80}); unpack the set again"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its permissions"
        ) from None
    if values.dtype.kind not in "fiu":
        raise UserError(
            f"{path} holds values of type {values.dtype}, not numbers; unpack the set again"
        )
    if values.shape != shape:
        raise UserError(
            f"{path} has shape {values.shape}, not {shape}; set height and width to the set's, or get the other version"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite; unpack the set again")
    return values


def _check(path: Path, part: str, values: NDArray[Any], classes: int) -> None:
    """The range that a part's values must lie in."""
    low, high = values.min(), values.max()
    if part.startswith("label"):
        if low < -1 or high >= classes or (values != np.round(values)).any():
            raise UserError(
                f"{path} holds labels from {low:g} to {high:g}, not integers from -1 to {classes - 1}; set classes to "
                "the set's number, or get the version with that many"
            )
    elif part == "image":
        if low < -OVERSHOOT or high > 1 + OVERSHOOT:
            raise UserError(
                f"{path} holds values from {low:g} to {high:g}, not from 0 to 1; divide the images by 255"
            )
    elif part == "depth":
        if low < 0:
            raise UserError(
                f"{path} holds negative depths ({low:g}); write 0 where the depth is unknown"
            )
    elif max(-low, high) > 1 + UNIT_SLACK:
        raise UserError(
            f"{path} holds normals with components from {low:g} to {high:g}; they are to be unit vectors"
        )
