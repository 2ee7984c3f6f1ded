"""CIFAR-100 from its three Python pickles, read without running any code that a pickle may carry.

Layout of `cifar-100-python` (Krizhevsky 2009): `train`, `test`: {b"data": uint8 [N, 3072], red
plane first, b"fine_labels", b"coarse_labels": N integers each}; `meta`: {b"fine_label_names",
b"coarse_label_names"}."""

import hashlib
import pickle
import tarfile
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multitask.data.download import fetch
from multitask.runs.errors import UserError
from multitask.runs.seeding import generator

TASKS, CLASSES, SIDE = 20, 5, 32  # coarse labels, fine labels of each, pixels
PER_CLASS = {"train": 500, "test": 100}  # of the published set
FOLDER, ARCHIVE = "cifar-100-python", "cifar-100-python.tar.gz"
ARCHIVE_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
# What pickled NumPy arrays of Python 2 and 3 are made of, and nothing else.
HARMLESS = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class Images:
    """Images [N, 3, 32, 32] uint8, tasks (coarse labels) [N] and fine labels [N] int64."""

    images: Tensor
    tasks: Tensor
    fine: Tensor


@dataclass(frozen=True)
class Cifar100:
    """Both splits, the names of the tasks, and a fingerprint of all content."""

    train: Images
    test: Images
    names: tuple[str, ...]
    sha256: str


class _Unpickler(pickle.Unpickler):
    """Refuses every global but those of NumPy arrays: a pickle of unknown origin may run anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: Path) -> dict[bytes, Any]:
    """The dictionary in a CIFAR file; UserError if it is damaged or asks for anything but arrays,
    lists and numbers.
    """
    remedy = f"delete {path.parent} and run again to download it, or put the original files there"
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(
            f"{path} is no CIFAR-100 file ({type(error).__name__}: {error}); {remedy}"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dictionary; {remedy}")
    return content


def read_images(path: Path, per_class: int | None) -> Images:
    """One split, its shapes, label ranges and (if given) counts per fine class checked; UserError
    names the fault.
    """
    content = read_pickle(path)
    missing = [
        key.decode() for key in (b"data", b"fine_labels", b"coarse_labels") if key not in content
    ]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}; put the original CIFAR-100 file there (not CIFAR-10's)"
        )
    data = np.asarray(content[b"data"])
    if (
        data.ndim != 2
        or data.shape[1] != 3 * SIDE * SIDE
        or data.dtype != np.uint8
        or not len(data)
    ):
        raise UserError(f"{path}: data is {data.dtype} {list(data.shape)}, not uint8 [N, 3072]")
    labels = {}
    for key, classes in ((b"coarse_labels", TASKS), (b"fine_labels", TASKS * CLASSES)):
        values = np.asarray(content[key])
        if values.shape != (len(data),) or not np.issubdtype(values.dtype, np.integer):
            raise UserError(
                f"{path}: {key.decode()} is {values.dtype} {list(values.shape)}, not {len(data)} integers"
            )
        wrong = np.flatnonzero((values < 0) | (values >= classes))
        if len(wrong):
            at = wrong[0]
            raise UserError(
                f"{path}: {key.decode()}[{at}] is {values[at]}, outside 0...{classes - 1}"
            )
        labels[key] = torch.from_numpy(values.astype(np.int64))
    if per_class is not None:
        counts = labels[b"fine_labels"].bincount(minlength=TASKS * CLASSES)
        if not (counts == per_class).all():
            odd = int((counts != per_class).nonzero()[0])
            raise UserError(f"{path}: fine class {odd} has {counts[odd]} images, not {per_class}")
    images = torch.from_numpy(np.ascontiguousarray(data)).reshape(-1, 3, SIDE, SIDE)
    return Images(images, labels[b"coarse_labels"], labels[b"fine_labels"])


@lru_cache(maxsize=1)
def read(folder: Path, published: bool = True) -> Cifar100:
    """The set in `folder`; `published`: with the counts of the published one. UserError names what
    is wrong.
    """
    train, test = (
        read_images(folder / name, PER_CLASS[name] if published else None)
        for name in ("train", "test")
    )
    for splits in ([train], [test], [train, test]):  # each has all classes, and the same
        within_superclass(
            torch.cat([part.tasks for part in splits]), torch.cat([part.fine for part in splits])
        )
    names = read_pickle(folder / "meta").get(b"coarse_label_names", [])
    if len(names) != TASKS:
        raise UserError(
            f"{folder / 'meta'} names {len(names)} coarse labels, not {TASKS}; put the original file there"
        )
    digest = hashlib.sha256()
    for split in (train, test):
        for tensor in (split.images, split.tasks, split.fine):
            digest.update(tensor.numpy().tobytes())
    return Cifar100(train, test, tuple(name.decode() for name in names), digest.hexdigest())


def cifar100(root: Path) -> Cifar100:
    """The real set below `root`; downloaded and unpacked if it is not there."""
    folder = root / FOLDER
    if not folder.is_dir():
        unpack(fetch(root, ARCHIVE, ARCHIVE_SHA256, MIRRORS), folder)
    return read(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the archive's one folder to `folder`, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{FOLDER}-") as temporary:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        try:
            (Path(temporary) / FOLDER).rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another process was faster
                raise UserError(
                    f"{archive} cannot be unpacked to {folder} ({error.strerror})"
                ) from None


def within_superclass(tasks: Tensor, fine: Tensor) -> Tensor:
    """Labels 0...4 of the fine classes within their superclass, in the order of their numbers [N].

    UserError unless every superclass has exactly five fine classes and every fine class one
    superclass."""
    table = torch.full((TASKS * CLASSES,), -1)
    owners = torch.full((TASKS * CLASSES,), -1)
    for task in range(TASKS):
        classes = fine[tasks == task].unique()
        if len(classes) != CLASSES:
            raise UserError(
                f"coarse class {task} has {len(classes)} fine classes, not {CLASSES}; the labels are damaged"
            )
        if (owners[classes] >= 0).any():
            shared = int(classes[owners[classes] >= 0][0])
            raise UserError(
                f"fine class {shared} belongs to two coarse classes; the labels are damaged"
            )
        owners[classes] = task
        table[classes] = torch.arange(CLASSES)
    return table[fine]


def balanced_subset(fine: Tensor, examples: int, seed: int) -> Tensor:
    """Rows of a subset with equally many images of every fine class, in their order; 0 takes all
    [examples].

    UserError if `examples` is no multiple of the number of classes, or more than there are.
    """
    if examples == 0:
        return torch.arange(len(fine))
    per_class, rest = divmod(examples, TASKS * CLASSES)
    fewest = int(fine.bincount(minlength=TASKS * CLASSES).min())
    if rest or per_class > fewest:
        raise UserError(
            f"{examples} images are no multiple of {TASKS * CLASSES}, or more than {fewest} of a class; choose another "
            "number for train_examples or test_examples, or 0 for all"
        )
    order = torch.randperm(len(fine), generator=generator(seed, "subset"))
    picked = [order[fine[order] == label][:per_class] for label in range(TASKS * CLASSES)]
    return torch.cat(picked).sort().values
