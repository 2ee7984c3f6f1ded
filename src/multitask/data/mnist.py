"""Small gray images: MNIST and Fashion-MNIST from idx files, and scikit-learn's digits."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multitask.data.download import fetch
from multitask.data.idx import read_idx
from multitask.runs.seeding import generator

SIDE = 28
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# Name: shape, sha256 of the published .gz file, sha256 of its unpacked content.
MNIST_FILES = {
    "train-images-idx3-ubyte": (
        (60_000, SIDE, SIDE),
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        (60_000,),
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        (10_000, SIDE, SIDE),
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        (10_000,),
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
# As above, but with the published md5 of the packed files.
FASHION_FILES = {
    "train-images-idx3-ubyte": (
        (60_000, SIDE, SIDE),
        "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": (
        (60_000,),
        "md5:25c81989df183df01b3e8a0aad5dffbe",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": (
        (10_000, SIDE, SIDE),
        "md5:bef4ecab320f06d8554ea6380940ec79",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": (
        (10_000,),
        "md5:bb300cfdad3c16e7a12a480ee83cd310",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
# About a fifth of scikit-learn's 1,797 images.
DIGITS_TEST = 360


@dataclass(frozen=True)
class Digits:
    """Images and labels of the two splits, with a fingerprint.

    Images are [N, 28, 28] uint8 (0: background), labels [N] int64.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    sha256: str


@lru_cache(maxsize=1)
def mnist(root: Path) -> Digits:
    """Reads MNIST from `root`/MNIST/raw, torchvision's layout, as .gz or unpacked.

    Missing files are downloaded.
    """
    return _idx_set(root / "MNIST" / "raw", MNIST_FILES, MIRRORS)


@lru_cache(maxsize=1)
def fashion_mnist(root: Path) -> Digits:
    """Reads Fashion-MNIST, garments in MNIST's format, from `root`/FashionMNIST/raw.

    Missing files are downloaded (Xiao et al. 2017, MIT license).
    """
    return _idx_set(root / "FashionMNIST" / "raw", FASHION_FILES, FASHION_MIRRORS)


def _idx_set(
    folder: Path,
    files: Mapping[str, tuple[tuple[int, ...], str, str]],
    mirrors: Sequence[str],
) -> Digits:
    """Reads both splits of a set of four idx files and checks their content."""
    arrays = {}
    for name, (shape, packed, unpacked) in files.items():
        # A broken link counts as present, so that reading it reports the fault.
        found = [path for path in (folder / name, folder / f"{name}.gz") if os.path.lexists(path)]
        path = found[0] if found else fetch(folder, f"{name}.gz", packed, mirrors)
        arrays[name] = read_idx(path, shape, unpacked)
    return Digits(
        (arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"].long()),
        (arrays["t10k-images-idx3-ubyte"], arrays["t10k-labels-idx1-ubyte"].long()),
        _hash(*arrays.values()),
    )


@lru_cache(maxsize=1)
def sklearn_digits() -> Digits:
    """Reads scikit-learn's 8x8 digits and enlarges them to 28x28 (bilinear).

    A fixed permutation splits them into 1,437 and 360.
    """
    # The file of sklearn.datasets.load_digits, read without the slow import of scikit-learn.
    file = metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    # A line holds 64 pixels 0...16 and the digit.
    table = torch.from_numpy(np.loadtxt(str(file), delimiter=",")).long()
    small, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    images = enlarge(small, top=16)
    # Seed 0 for every run: the split belongs to the data, not to the run.
    order = torch.randperm(len(labels), generator=generator(0, "data"))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    return Digits(
        (images[train], labels[train]), (images[test], labels[test]), _hash(images, labels)
    )


def enlarge(small: Tensor, top: int) -> Tensor:
    """Enlarges 8x8 to 28x28 by bilinear interpolation with half-pixel centers.

    Integers 0...`top` become uint8 0...255. The arithmetic is in integers, so it is exact on every
    machine. Pixel i is at (i + 1/2) 8/28 - 1/2 = (4i - 5)/14 on the small image's grid.
    """
    count = small.shape[-1]
    at = (4 * torch.arange(SIDE) - 5).clamp(0, 14 * (count - 1))
    low, part = at // 14, at % 14
    weights = torch.zeros(SIDE, count, dtype=torch.int64)
    # Each output pixel mixes two input pixels, with weights in fourteenths.
    weights[torch.arange(SIDE), low] = 14 - part
    weights[torch.arange(SIDE), (low + 1).clamp(max=count - 1)] += part
    scale = 14 * 14 * top
    # Adding half of the divisor rounds to the nearest integer.
    return ((weights @ small @ weights.T * 255 + scale // 2) // scale).to(torch.uint8)


def _hash(*arrays: Tensor) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.contiguous().numpy().tobytes())
    return digest.hexdigest()
