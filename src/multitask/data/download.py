"""The folder of the data sets, and verified downloads into it from mirrors."""

import os
from collections.abc import Sequence
from pathlib import Path

import pooch

from multitask.runs.errors import UserError
from system.writing import probe, scratch

TIMEOUT_SECONDS = 30


def data_root(configured: str) -> Path:
    """Returns the folder of the data sets.

    It is the environment variable PCGRAD_DATA if set, else the config's `data_root`.
    """
    chosen = os.environ.get("PCGRAD_DATA")
    if chosen and not Path(chosen).is_dir():
        raise UserError(
            f"PCGRAD_DATA={chosen} is no folder; correct it, "
            "or unset it to use data_root of the config"
        )
    return Path(chosen or configured)


def fetch(folder: Path, name: str, checksum: str, mirrors: Sequence[str]) -> Path:
    """Downloads `name` into `folder` from the first mirror that serves the published content.

    A file appears under its name only when it is whole and verified (by pooch).

    Args:
        folder: Where to put the file.
        name: Name of the file, at the mirrors and in the folder.
        checksum: sha256 of the published content, or another hash as "md5:...".
        mirrors: Addresses to which the name is appended.

    Raises:
        UserError: No mirror helps; the message says which file to put where.
    """
    known = checksum if ":" in checksum else f"sha256:{checksum}"
    path = folder / name
    # Reading a pipe would never end.
    if os.path.lexists(path) and not path.is_file():
        raise UserError(f"{path} is no regular file; delete it and run again to download it")
    # Before the download, so that a full or read-only disk is reported at once.
    probe(folder)
    reasons = []
    for mirror in mirrors:
        downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)
        try:
            if path.is_file() and pooch.hashes.hash_matches(path, known):
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
        # The errors of requests are OSErrors; a wrong checksum is a ValueError.
        except (OSError, ValueError) as error:
            reasons.append(f"{mirror}: {type(error).__name__}")
    raise UserError(
        f"{folder / name} is missing and no mirror gave it ({'; '.join(reasons)}); "
        f"put {name} ({known.replace(':', ' ')}) into {folder}, "
        "or point PCGRAD_DATA or data_root at a folder that has it"
    )
