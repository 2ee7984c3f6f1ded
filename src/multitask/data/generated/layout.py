"""Writes generated sets: every example from its own stream, the folder whole or not at all."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multitask.runs.errors import UserError
from multitask.runs.seeding import numpy_generator
from multitask.runs.sources import code_hash
from system.reading import open_plain, read_json, reason
from system.writing import whole_folder, write_json

CHECKSUMS = "checksums.json"
MEND = "free some space, make data_root writable or change it, and run again"

# "image" [H, W, 3], "label" [H, W], "depth" [H, W, 1] and perhaps "normal" [H, W, 3].
Example = Mapping[str, NDArray[Any]]


def write_once(
    root: Path, name: str, parameters: Mapping[str, Any], write: Callable[[Path], None]
) -> Path:
    """Returns the folder `root`/generated/`name`-<digest>, made by `write` if it is missing.

    The digest covers the parameters and the generators' code, so that an edited generator never
    uses old files. If two processes make the same folder, both use the one that was finished first.
    An existing folder is compared with the checksums that were written with it.
    """
    # Sorted keys: the order of parameters must not change the digest.
    identity = json.dumps(
        [dict(parameters), code_hash(["src/multitask/data/generated"])], sort_keys=True
    )
    final = root / "generated" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not os.path.lexists(final):
        with whole_folder(final, MEND) as unfinished:
            write(unfinished)
            write_json(unfinished / CHECKSUMS, checksums(unfinished))
    verify(final)
    return final


def checksums(folder: Path) -> dict[str, str]:
    """Returns {path below the folder: sha256} of the files that belong to a set.

    The checksums themselves and hidden files are left out.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name == CHECKSUMS or path.name.startswith("."):
            continue
        with open_plain(path) as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return found


@cache
def verify(folder: Path) -> None:
    """Raises a UserError that names the first file that is not as it was generated.

    Each folder is checked once in a process.
    """
    remedy = f"delete {folder} and run again to make it anew"
    stored = read_json(folder / CHECKSUMS, remedy)
    try:
        present = checksums(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({reason(error)}); {remedy}") from None
    if not isinstance(stored, dict):
        raise UserError(f"{folder / CHECKSUMS} holds no mapping; {remedy}")
    for name in sorted({*stored, *present}):
        if present.get(name) != stored.get(name):
            what = "missing" if name not in present else "changed"
            words = what if name in stored else "no part of the set"
            raise UserError(f"{folder / name} is {words}; {remedy}")


def write_scenes(
    root: Path,
    name: str,
    picture: Callable[[np.random.Generator, int, int], Example],
    counts: Mapping[str, int],
    size: tuple[int, int],
    seed: int,
) -> Path:
    """Returns the folder of a set of scenes with `counts[split]` examples; makes it if missing.

    The files are <split>/<part>/<i>.npy. Example i depends only on seed, split and i.
    """

    def write(folder: Path) -> None:
        for split, count in counts.items():
            for i in range(count):
                example = picture(numpy_generator(seed, f"{split}/{i}"), *size)
                for part, values in example.items():
                    target = folder / split / part
                    target.mkdir(parents=True, exist_ok=True)
                    np.save(target / f"{i}.npy", values)

    height, width = size
    parameters = {**counts, "height": height, "width": width, "seed": seed}
    return write_once(root, name, parameters, write)
