"""Writes files and folders whole or not at all, and sweeps away what killed processes left.

A new file is made under a hidden temporary name in the folder of its target, flushed to disk, then
renamed. Its maker holds a lock of the operating system (`flock`) on it: a temporary file or folder
that nobody locks belongs to a process that is gone, and the next writer of the target deletes it.
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
    """Whether the lock of an open file or folder could be taken; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(target: Path) -> None:
    """Delete what killed writers of `target` left beside it."""
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
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _make_folder(ending: str, beginning: str, folder: Path) -> tuple[int, str]:
    made = tempfile.mkdtemp(ending, beginning, folder)
    return os.open(made, os.O_RDONLY), made


def _claim(path: Path, make: Callable[[str, str, Path], tuple[int, str]]) -> tuple[int, str]:
    """Make a temporary file or folder for `path` and lock it: its descriptor and name."""
    while True:
        descriptor, made = make(ENDING, f".{path.name}.", path.parent)
        with contextlib.suppress(OSError):  # a file system without locks: nobody sweeps there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.exists(made):  # else a sweep came between making and locking
            return descriptor, made
        os.close(descriptor)


@contextlib.contextmanager
def whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that becomes `path` at the end of the block: a reader sees all or
    nothing.

    `mode`: "w" for text (UTF-8, line ends as they are) or "wb". UserError if the disk is full or
    the folder cannot be written; then, and after any other exception, nothing is left."""
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        descriptor, temporary = _claim(path, tempfile.mkstemp)
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)  # while the lock is held
    except BaseException as error:
        with contextlib.suppress(OSError):
            if temporary:
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise UserError(f"{path} cannot be written ({reason(error)}); {MEND}") from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole(path) as file:
        file.write(text)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON document whole; ValueError for a NaN, since JSON has none."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, gone at the end of the block, or at the next one after a
    kill.
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
    """A temporary folder that becomes `path` at the end of the block; `path` must not exist.

    If another process was first, its folder stays and this one is dropped. UserError if the disk is
    full or the folder cannot be written."""
    try:
        with scratch(path) as temporary:
            yield temporary
            temporary.chmod(0o755)
            with contextlib.suppress(OSError):
                temporary.rename(path)
            if not path.is_dir():
                raise OSError(0, "a file of this name is in the way")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)}); {mend}") from None


def probe(folder: Path) -> None:
    """Make a folder and write into it, so that a fault shows before hours of work; UserError."""
    made: list[Path] = []
    try:
        made = [part for part in (folder, *folder.parents) if not part.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".probe.", dir=folder) as file:
            file.write(b"probe")
            file.flush()
    except OSError as error:
        for part in made:  # only what this call made, and only while it is empty
            with contextlib.suppress(OSError):
                part.rmdir()
        raise UserError(f"cannot write into {folder} ({reason(error)}); {MEND}") from None
