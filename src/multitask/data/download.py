"""Where data lies and how it gets there: `data_root`, checksums, mirrors, and a message when
nothing helps.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import pooch

from multitask.runs.errors import UserError
from system.writing import probe, scratch

TIMEOUT_SECONDS = 30


def data_root(configured: str) -> Path:
    """The folder of the data sets: the environment variable PCGRAD_DATA if set, else the config's
    `data_root`.
    """
    chosen = os.environ.get("PCGRAD_DATA")
    if chosen and not Path(chosen).is_dir():
        raise UserError(
            f"PCGRAD_DATA={chosen} is no folder; correct it, or unset it to use data_root of the config"
        )
    return Path(chosen or configured)


def fetch(folder: Path, name: str, checksum: str, mirrors: Sequence[str]) -> Path:
    """Download `name` into `folder` from the first mirror that serves the published content.

    A file arrives under its name only whole and verified (pooch). UserError says what to put where
    if no mirror helps."""
    known = checksum if ":" in checksum else f"sha256:{checksum}"
    path = folder / name
    if os.path.lexists(path) and not path.is_file():  # a pipe would be read for ever
        raise UserError(f"{path} is no regular file; delete it and run again to download it")
    probe(folder)
    reasons = []
    for mirror in mirrors:
        downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)
        try:
            if path.is_file() and pooch.hashes_match(path, known):
                return path
            with scratch(path) as temporary:
                found = pooch.retrieve(
                    mirror + name,
                    known,
                    fname=name,
                    path=temporary,
                    downloader=downloader,
                )
                os.replace(found, path)
            return path
        except (
            OSError,
            ValueError,
        ) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
            reasons.append(f"{mirror}: {type(error).__name__}")
    raise UserError(
        f"{folder / name} is missing and no mirror gave it ({'; '.join(reasons)}); "
        f"put {name} ({known.replace(':', ' ')}) into {folder}, or point PCGRAD_DATA or data_root at a folder that has it"
    )
