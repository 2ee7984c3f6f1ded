"""Writes files and folders whole or not at all, and deletes what killed processes left.

A new file is written under a hidden temporary name in the folder of its target, flushed to disk,
then renamed. The writer holds an operating system lock (`flock`) on it meanwhile. A temporary file
or folder without a lock belongs to a process that has ended, and the next writer of the target
deletes it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from system.errors import UserError
from system.reading import reason

ENDING = ".partial"
MEND = "free some space, make its folder writable or choose another place, and run again"


def locked(descriptor: int) -> bool:
    """Tries to lock an open file or folder; False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(target: Path) -> None:
    """Deletes the temporary files and folders that killed writers of `target` left."""
    for path in target.parent.glob(f".{_escaped(target.name)}.*{ENDING}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if not locked(descriptor):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def _escaped(name: str) -> str:
    # A name may contain the wildcards of `glob`.
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _make_folder(ending: str, beginning: str, folder: Path) -> tuple[int, str]:
    made = tempfile.mkdtemp(ending, beginning, folder)
    return os.open(made, os.O_RDONLY), made


def _claim(path: Path, make: Callable[[str, str, Path], tuple[int, str]]) -> tuple[int, str]:
    """Makes and locks a temporary file or folder for `path`; returns its descriptor and name."""
    while True:
        descriptor, made = make(ENDING, f".{path.name}.", path.parent)
        # On a file system without locks nothing is swept, so the lock is not needed.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have swept it between making and locking: then try again.
        if os.path.exists(made):
            return descriptor, made
        os.close(descriptor)


@contextlib.contextmanager
def whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file that becomes `path` at the end of the block.

    A reader of `path` sees all of the new content or none. After an exception nothing is left.

    Args:
        path: The file to write.
        mode: "w" for text (UTF-8, line ends unchanged), "wb" or "w+b" for bytes.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        descriptor, temporary = _claim(path, tempfile.mkstemp)
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            # Flushed before the rename, so that a crash cannot leave a renamed, empty file.
            os.fsync(file.fileno())
            # `mkstemp` makes files that only their owner can read.
            os.chmod(temporary, 0o644)
            # Inside the block, while the lock is held: a sweep must not delete the file.
            os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            if temporary:
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise UserError(f"{path} cannot be written ({reason(error)}); {MEND}") from None
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with whole(path) as file:
        file.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file of bytes whole."""
    with whole(path, "wb") as file:
        file.write(content)


def copy_file(source: Path, target: Path) -> None:
    """Copies a file; the copy appears whole."""
    write_bytes(target, source.read_bytes())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes one JSON document whole.

    Raises:
        ValueError: The content holds a NaN, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yields a temporary folder next to `target` and deletes it at the end of the block.

    After a kill, the next call for the same target deletes it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    descriptor, made = _claim(target, _make_folder)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(descriptor)


@contextlib.contextmanager
def whole_folder(path: Path, mend: str = MEND) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` at the end of the block.

    `path` must not exist. If another process makes it first, that folder stays and this one is
    deleted.

    Args:
        path: The folder to make.
        mend: The end of the error message: what the user can do.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    try:
        with scratch(path) as temporary:
            yield temporary
            # `mkdtemp` makes folders that only their owner can read.
            temporary.chmod(0o755)
            with contextlib.suppress(OSError):
                temporary.rename(path)
            if not path.is_dir():
                # The rename failed and no other process made the folder.
                raise OSError(0, "a file of this name is in the way")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)}); {mend}") from None


def probe(folder: Path) -> None:
    """Makes a folder and writes into it, so that a fault shows before hours of work.

    Raises:
        UserError: The folder cannot be made or written.
    """
    made: list[Path] = []
    try:
        made = [part for part in (folder, *folder.parents) if not part.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".probe.", dir=folder) as file:
            file.write(b"probe")
            file.flush()
    except OSError as error:
        # Remove only what this call made, and only while it is empty.
        for part in made:
            with contextlib.suppress(OSError):
                part.rmdir()
        raise UserError(f"cannot write into {folder} ({reason(error)}); {MEND}") from None
