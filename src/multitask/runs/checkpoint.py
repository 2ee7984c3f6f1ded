"""Runs that survive: atomic checkpoints, a clean stop on a signal or at a deadline, resume bit for
bit.

A checkpoint holds tensors, numbers, strings, lists and dicts only (`torch.load(weights_only=True)`
reads it back), and an identity: seed, method, settings, threads and code hash of the run it belongs
to. Another identity is refused. The file ends with the sha256 of all before it, as the comment of
the ZIP archive that torch writes: torch compares no checksum, and a flipped bit would resume to
other numbers.
"""

import contextlib
import csv
import hashlib
import math
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from multitask.runs.errors import UserError
from system import stopping
from system.reading import open_plain, reason
from system.stopping import Stopped
from system.writing import whole

__all__ = ["Session", "State", "Stopped"]

State = dict[str, Any]

END_RECORD = struct.Struct("<4s4H2LH")  # how every ZIP archive ends; the last field: comment length
END_SIGNATURE = b"PK\5\6"
DIGEST_LENGTH = 64


class Session:
    """The lifetime of one run (one method, one seed) over any number of processes.

    The loop calls `load` once and `tick` after every step (or wherever its state is consistent).
    """

    def __init__(
        self,
        path: Path,
        identity: State,
        *,
        deadline: float | None = None,
        every_seconds: float = 60.0,
        accept_code_change: bool = False,
    ) -> None:
        """`deadline`: time.monotonic() after which the next tick saves and stops."""
        self.path = path
        self.identity = identity
        self.deadline = deadline
        self.every_seconds = every_seconds
        self.accept_code_change = accept_code_change
        self.code_hashes = [
            str(identity.get("code_hash"))
        ]  # under which the run was made, in order
        self._saved: State | None = None
        self._started = self._last_save = time.monotonic()
        self._save_seconds = 0.0
        self._shown = 0

    def load(self, like: State | None = None) -> State | None:
        """The state saved last, None at a first start; UserError if it is damaged or of another
        run.

        `like`: the state of a run that has not begun; what was saved must have its keys, types and
        shapes.
        """
        if self._saved is None and os.path.lexists(self.path):
            self._saved = self._read()
        if self._saved is None:
            return None
        state = self._saved["state"]
        if like is not None:
            with self.restoring():
                compare(state, like, "state")
        return state

    def _read(self) -> State:
        try:
            with open_plain(self.path) as file:
                verify(file)
                saved = torch.load(file, weights_only=True)
            check_frame(saved)
        except OSError as error:
            raise UserError(
                f"checkpoint {self.path} cannot be read ({reason(error)}); make it readable, or "
                "delete it to start again"
            ) from None
        except Exception as error:  # a damaged archive raises nearly anything
            raise self.damaged(error) from None
        self._refuse_other(saved["identity"])
        self.code_hashes = saved["code_hashes"]
        if (present := str(self.identity.get("code_hash"))) != self.code_hashes[-1]:
            self.code_hashes = [*self.code_hashes, present]
        self._started = time.monotonic() - saved["elapsed"]
        return saved

    def _refuse_other(self, identity: State) -> None:
        """UserError that names what differs from the identity of this run."""
        changed = [
            key
            for key in {*identity, *self.identity}
            if identity.get(key) != self.identity.get(key)
        ]
        if self.accept_code_change and "code_hash" in changed:
            changed.remove("code_hash")
        if changed:
            remedy = " or pass --accept-code-change" if changed == ["code_hash"] else ""
            named = ", ".join(sorted(changed))
            raise UserError(
                f"checkpoint {self.path} was written under another {named}; delete it to start again{remedy}"
            )

    def damaged(self, error: object) -> UserError:
        """What to raise when the saved state cannot be that of this run."""
        return UserError(
            f"checkpoint {self.path} is damaged ({error!s:.100}); delete it to start again"
        )

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Whatever fails within, while a loaded state is put to use, means that it is damaged."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise self.damaged(error) from None

    def elapsed(self) -> float:
        """Seconds that the run has taken so far, earlier processes included up to their last
        checkpoint.
        """
        return time.monotonic() - self._started

    def save(self, state: State) -> None:
        """Write the checkpoint whole; a failure (full disk) leaves the old one."""
        began = time.monotonic()
        content = {
            "identity": self.identity,
            "state": state,
            "elapsed": self.elapsed(),
            "code_hashes": self.code_hashes,
        }
        try:
            with whole(self.path, "w+b") as file:
                torch.save(content, file)
                seal(file)
        except (UserError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            first = str(error).partition("\n")[0].partition(";")[0]
            message = (
                f"checkpoint {self.path} could not be written ({first}); free some space and resume"
            )
            raise UserError(message) from None
        self._saved = None
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - began

    @property
    def progress(self) -> Path:
        """The rows of the run so far, as CSV beside the checkpoint."""
        return self.path.with_suffix(".csv")

    def show(self, rows: Sequence[tuple[int, str, str, float]]) -> None:
        """Append the rows since the last call to `progress`, which can be plotted while the run
        goes on.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.progress.open(
                "a" if self._shown else "w", newline="", encoding="utf-8"
            ) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([] if self._shown else [("step", "task", "metric", "value")])
                writer.writerows(rows[self._shown :])
        except OSError as error:
            raise UserError(
                f"{self.progress} could not be written ({error}); free some space and resume"
            ) from None
        self._shown = len(rows)

    def tick(self, state: Callable[[], State]) -> None:
        """Save when a checkpoint is due; on SIGTERM or past the deadline save and raise Stopped."""
        now = time.monotonic()
        stopping.wait()
        late = self.deadline is not None and now >= self.deadline
        stop = bool(stopping.asked()) or late
        # Large buffers take seconds to write: no more than a twentieth of the time goes into that.
        due = max(self.every_seconds, 20 * self._save_seconds) if self.every_seconds else 0.0
        if stop or now - self._last_save >= due:
            self.save(state())
        if stop:
            stopping.proceed()
            raise Stopped(f"stopped by --max-minutes; {stopping.RESUME}")


def seal(file: IO[bytes]) -> None:
    """Append to a ZIP archive, opened for reading and writing, the sha256 of all before it."""
    file.flush()
    file.seek(-END_RECORD.size, os.SEEK_END)
    *fields, comment = END_RECORD.unpack(file.read())
    if fields[0] != END_SIGNATURE or comment:
        raise RuntimeError("torch.save wrote no archive that ends as expected")
    file.seek(-END_RECORD.size, os.SEEK_END)
    file.write(END_RECORD.pack(*fields, DIGEST_LENGTH))
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.write(digest.encode())


def verify(file: IO[bytes]) -> None:
    """ValueError unless the file ends with the sha256 of all before it; then stands at 0."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - DIGEST_LENGTH))
    stored = file.read()
    file.seek(0)
    digest, left = hashlib.sha256(), size - DIGEST_LENGTH
    while left > 0 and (block := file.read(min(left, 2**20))):
        digest.update(block)
        left -= len(block)
    if stored != digest.hexdigest().encode():
        raise ValueError("its content is not what its checksum says")
    file.seek(0)


def check_frame(saved: Any) -> None:
    """ValueError unless a checkpoint has the parts that `Session.save` writes, in their types."""
    types = {"identity": dict, "state": dict, "elapsed": float, "code_hashes": list}
    for key, kind in types.items():
        if not isinstance(saved, dict) or not isinstance(saved.get(key), kind):
            raise ValueError(f"it holds no {key}")
    if not (math.isfinite(saved["elapsed"]) and saved["elapsed"] >= 0 and saved["code_hashes"]):
        raise ValueError("it holds no sound elapsed time or code hash")


def compare(saved: Any, like: Any, place: str) -> None:
    """ValueError that names the first part of a state that is not as in a run that has not begun.

    Types and the keys of dicts must be the same, tensors of the same shape and type; what is empty
    at the beginning (records, the optimizer's moments, the replay) may hold anything later."""
    if isinstance(like, Tensor):
        if not isinstance(saved, Tensor):
            raise ValueError(f"{place} is no tensor")
        if (like.numel() and saved.shape != like.shape) or saved.dtype != like.dtype:
            words = [
                f"{str(one.dtype).removeprefix('torch.')}{[*one.shape]}" for one in (saved, like)
            ]
            raise ValueError(f"{place} is {words[0]}, not {words[1]}")
    elif isinstance(like, Mapping):
        if not isinstance(saved, Mapping) or (like and set(saved) != set(like)):
            raise ValueError(f"{place} has other parts")
        for key, value in like.items():
            compare(saved[key], value, f"{place}.{key}")
    elif isinstance(like, list | tuple):
        if not isinstance(saved, list | tuple):
            raise ValueError(f"{place} is no list")
        if like and len(saved) == len(like):
            for index, pair in enumerate(zip(saved, like, strict=True)):
                compare(*pair, f"{place}.{index}")
    elif type(like) in (int, float):
        if type(saved) not in (int, float):
            raise ValueError(f"{place} is no number")
    elif like is not None and type(saved) is not type(like):
        raise ValueError(f"{place} is a {type(saved).__name__}, not a {type(like).__name__}")
