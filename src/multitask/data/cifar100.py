"""CIFAR-100 from its three Python pickles, read without running code that a pickle may carry.

Layout of `cifar-100-python` (Krizhevsky 2009):

- `train`, `test`: {b"data": uint8 [N, 3072], red plane first; b"fine_labels" and b"coarse_labels":
  N integers each}
- `meta`: {b"fine_label_names", b"coarse_label_names"}
"""

import hashlib
import os
import tarfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multitask.data.download import fetch
from multitask.data.pickles import read_pickle
from multitask.runs.errors import UserError
from multitask.runs.seeding import generator
from system.reading import reason
from system.writing import scratch

# Coarse labels, fine labels of each, pixels.
TASKS, CLASSES, SIDE = 20, 5, 32
# Images of every fine class in the published set.
PER_CLASS = {"train": 500, "test": 100}
FOLDER, ARCHIVE = "cifar-100-python", "cifar-100-python.tar.gz"
ARCHIVE_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
# Digests of the published content (see `content_digest`), from a copy whose counts, means and
# deviations are the published ones.
CONTENT = {
    "train": "68ba4e4d8568b79a03270eb31a2a35ad6b5a24753c7acf132dcf305556b771ea",
    "test": "8a33adb1e16adba0d2ab34fafa3a6082608d065cd8c20b0bab06ee6d83d457da",
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


def remedy(folder: Path, published: bool) -> str:
    """Returns what helps against a damaged file; a generated set cannot be downloaded."""
    if published:
        return f"delete {folder} and run again to download it, or put the original files there"
    return f"delete {folder.parent} and run again to make it anew"


def read_images(path: Path, per_class: int | None) -> Images:
    """Reads one split and checks its shapes and label ranges.

    Args:
        path: The pickle of the split.
        per_class: Images that every fine class must have; None accepts any counts.

    Raises:
        UserError: The file is damaged or of another form.
    """
    mend = remedy(path.parent, per_class is not None)
    content = read_pickle(path, mend)
    # CIFAR-10's files have the key "labels" instead, a likely confusion.
    missing = [
        key.decode() for key in (b"data", b"fine_labels", b"coarse_labels") if key not in content
    ]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}; "
            "put the original CIFAR-100 file there (not CIFAR-10's)"
        )
    data = content[b"data"]
    if not isinstance(data, np.ndarray):
        raise UserError(f"{path}: data is a {type(data).__name__}, not an array; {mend}")
    if (
        data.ndim != 2
        or data.shape[1] != 3 * SIDE * SIDE
        or data.dtype != np.uint8
        or not len(data)
    ):
        raise UserError(
            f"{path}: data is {data.dtype} {list(data.shape)}, not uint8 [N, 3072]; {mend}"
        )
    coarse = read_labels(path, content, b"coarse_labels", len(data), TASKS, mend)
    fine = read_labels(path, content, b"fine_labels", len(data), TASKS * CLASSES, mend)
    if per_class is not None:
        counts = fine.bincount(minlength=TASKS * CLASSES)
        if not (counts == per_class).all():
            odd = int((counts != per_class).nonzero()[0])
            raise UserError(
                f"{path}: fine class {odd} has {counts[odd]} images, not {per_class}; {mend}"
            )
    # Copy, because an array that is a view of a file's bytes is read-only.
    images = torch.from_numpy(np.array(data, order="C")).reshape(-1, 3, SIDE, SIDE)
    return Images(images, coarse, fine)


def read_labels(
    path: Path, content: dict[bytes, Any], key: bytes, count: int, classes: int, mend: str
) -> Tensor:
    """Reads one list or array of labels [N].

    Raises:
        UserError: The labels are not `count` integers below `classes`.
    """
    values = content[key]
    if isinstance(values, list):
        # `type` instead of isinstance: True is an int in Python, but no label.
        odd = next((value for value in values if type(value) is not int), None)
        if odd is not None:
            raise UserError(f"{path}: {key.decode()} holds a {type(odd).__name__}; {mend}")
        # Python integers have no bounds: clip them to values that the check below still refuses.
        values = np.array([min(max(value, -1), classes) for value in values], dtype=np.int64)
    if not isinstance(values, np.ndarray) or values.shape != (count,):
        size = list(values.shape) if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(f"{path}: {key.decode()} is {size}, not {count} integers; {mend}")
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if len(wrong):
        found = content[key][wrong[0]]
        raise UserError(
            f"{path}: {key.decode()}[{wrong[0]}] is {found!s:.30}, "
            f"outside 0...{classes - 1}; {mend}"
        )
    return torch.from_numpy(values.astype(np.int64))


def read_names(folder: Path, published: bool) -> tuple[str, ...]:
    """Reads the names of the coarse classes from `meta`.

    Raises:
        UserError: They are not 20 printable texts.
    """
    path, mend = folder / "meta", remedy(folder, published)
    names = read_pickle(path, mend).get(b"coarse_label_names", [])
    if not isinstance(names, list) or len(names) != TASKS:
        count = len(names) if isinstance(names, list) else "no list of"
        raise UserError(f"{path} names {count} coarse labels, not {TASKS}; {mend}")
    try:
        texts = tuple(name.decode("utf-8") for name in names)
    except (AttributeError, UnicodeDecodeError):
        raise UserError(
            f"{path} names a coarse label by something else than text; {mend}"
        ) from None
    if not all(text.isprintable() and text for text in texts):
        raise UserError(f"{path} names a coarse label that cannot be printed; {mend}")
    return texts


def content_digest(part: Images) -> str:
    """Returns a digest of images and labels that does not depend on their order.

    It is the sum of the records' sha256, modulo 2^256.
    """
    rows = zip(part.images.flatten(1).numpy(), part.tasks.tolist(), part.fine.tolist(), strict=True)
    total = 0
    for image, task, fine in rows:
        total += int.from_bytes(
            hashlib.sha256(image.tobytes() + bytes([task, fine])).digest(), "big"
        )
    return f"{total % 2**256:064x}"


def check_content(folder: Path, data: "Cifar100") -> None:
    """Raises a UserError unless the images and labels are those of the published set."""
    for name, part in (("train", data.train), ("test", data.test)):
        if content_digest(part) != CONTENT[name]:
            raise UserError(
                f"{folder / name} has the form but not the published content of CIFAR-100 (pixels "
                f"or labels differ); {remedy(folder, True)}"
            )


@lru_cache(maxsize=1)
def read(folder: Path, published: bool = True) -> Cifar100:
    """Reads the set in `folder`.

    Args:
        folder: Folder of the three files.
        published: Whether counts and content must be those of the published set.

    Raises:
        UserError: A file is missing, damaged or of another set.
    """
    train, test = (
        read_images(folder / name, PER_CLASS[name] if published else None)
        for name in ("train", "test")
    )
    # Each split has all classes, and both have the same: hence the check of the union.
    for splits in ([train], [test], [train, test]):
        within_superclass(
            torch.cat([part.tasks for part in splits]), torch.cat([part.fine for part in splits])
        )
    names = read_names(folder, published)
    # The fingerprint depends on the order, which a run's batches depend on too.
    digest = hashlib.sha256()
    for split in (train, test):
        for tensor in (split.images, split.tasks, split.fine):
            digest.update(tensor.numpy().tobytes())
    data = Cifar100(train, test, names, digest.hexdigest())
    if published:
        check_content(folder, data)
    return data


def cifar100(root: Path) -> Cifar100:
    """Reads the published set below `root`; downloads and unpacks it if it is not there."""
    folder = root / FOLDER
    if not os.path.lexists(folder):
        unpack(fetch(root, ARCHIVE, ARCHIVE_SHA256, MIRRORS), folder)
    return read(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks the archive's one folder to `folder`, whole or not at all."""
    # Unpack next to the target, so that the rename stays on one file system.
    with scratch(folder) as temporary:
        try:
            with tarfile.open(archive) as tar:
                # The filter refuses paths and links that lead out of the folder.
                tar.extractall(temporary, filter="data")
            (temporary / FOLDER).rename(folder)
        except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
            # Otherwise another process was faster, and its folder is as good.
            if not folder.is_dir():
                words = reason(error) if isinstance(error, OSError) else str(error)
                raise UserError(
                    f"{archive} cannot be unpacked to {folder} ({words}); free some space, or "
                    f"delete {archive} and run again to download it"
                ) from None


def within_superclass(tasks: Tensor, fine: Tensor) -> Tensor:
    """Returns labels 0...4 [N] of the fine classes within their superclass, in numerical order.

    Raises:
        UserError: A superclass has not exactly five fine classes, or a fine class has two
            superclasses.
    """
    table = torch.full((TASKS * CLASSES,), -1)
    owners = torch.full((TASKS * CLASSES,), -1)
    for task in range(TASKS):
        classes = fine[tasks == task].unique()
        if len(classes) != CLASSES:
            raise UserError(
                f"coarse class {task} has {len(classes)} fine classes, not {CLASSES}; "
                "the labels are damaged"
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
    """Returns the rows of a subset with equally many images of every fine class, sorted.

    Args:
        fine: Fine labels [N].
        examples: Images in the subset; 0 takes all.
        seed: Seed of the choice.

    Raises:
        UserError: `examples` is no multiple of the number of classes, or more than there are.
    """
    if examples == 0:
        return torch.arange(len(fine))
    per_class, rest = divmod(examples, TASKS * CLASSES)
    fewest = int(fine.bincount(minlength=TASKS * CLASSES).min())
    if rest or per_class > fewest:
        raise UserError(
            f"{examples} images are no multiple of {TASKS * CLASSES}, "
            f"or more than {fewest} of a class; choose another "
            "number for train_examples or test_examples, or 0 for all"
        )
    # The same stream for every size, so that a smaller subset is a part of a larger one.
    order = torch.randperm(len(fine), generator=generator(seed, "subset"))
    picked = [order[fine[order] == label][:per_class] for label in range(TASKS * CLASSES)]
    return torch.cat(picked).sort().values
