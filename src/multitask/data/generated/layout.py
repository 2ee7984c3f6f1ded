"""Writing a generated set: every example from a stream of its own, the folder whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multitask.runs.errors import UserError
from multitask.runs.seeding import numpy_generator
from multitask.runs.sources import code_hash

Example = Mapping[
    str, NDArray[Any]
]  # "image" [H, W, 3], "label" [H, W], "depth" [H, W, 1], maybe "normal" [H, W, 3]


def write_once(
    root: Path, name: str, parameters: Mapping[str, Any], write: Callable[[Path], None]
) -> Path:
    """The folder `root`/generated/`name`-<digest>, made by `write` if it is not there.

    The digest is of the parameters and of the generators' code, so that an edited generator never
    meets old files. A second process that comes to the same folder uses what the first one put
    there."""
    identity = json.dumps(
        [dict(parameters), code_hash(["src/multitask/data/generated"])], sort_keys=True
    )
    final = root / "generated" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
    except OSError as error:
        raise UserError(
            f"cannot write below {root} ({error.strerror}); make it writable or change data_root"
        ) from None
    try:
        write(unfinished)
        unfinished.chmod(0o755)
        _rename(unfinished, final)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return final


def _rename(unfinished: Path, final: Path) -> None:
    try:
        os.rename(unfinished, final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(unfinished)  # another process was first


def write_scenes(
    folder: Path,
    counts: Mapping[str, int],
    seed: int,
    draw: Callable[[np.random.Generator], Example],
) -> None:
    """`counts[split]` examples as <split>/<part>/<i>.npy; example i depends on seed, split and i
    alone.
    """
    for split, count in counts.items():
        for i in range(count):
            for part, values in draw(numpy_generator(seed, f"{split}/{i}")).items():
                target = folder / split / part
                target.mkdir(parents=True, exist_ok=True)
                np.save(target / f"{i}.npy", values)
