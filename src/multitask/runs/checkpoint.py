"""Checkpoints: atomic writes, a clean stop on a signal or deadline, bit-exact resume.

A checkpoint holds only tensors, numbers, strings, lists and dicts, so that
`torch.load(weights_only=True)` reads it. It also holds the identity of its run: seed, method,
settings, threads and code hash. A checkpoint of another identity is refused.

The file ends with the sha256 of all bytes before it, stored as the comment of the ZIP archive that
torch writes. torch compares no checksum, so without it a flipped bit would resume to wrong numbers.
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

from multitask.runs.errors import NonFiniteError, UserError
from system import stopping
from system.reading import open_plain, reason
from system.stopping import Stopped
from system.writing import whole

__all__ = ["Session", "State", "Stopped"]

State = dict[str, Any]

# The last record of every ZIP archive; its last field is the length of the comment that follows.
END_RECORD = struct.Struct("<4s4H2LH")
END_SIGNATURE = b"PK\5\6"
DIGEST_LENGTH = 64
GAP = 16


class Session:
    """The lifetime of one run (one method, one seed) over any number of processes.

    The loop calls `load` once, and `tick` after every step or wherever its state is consistent.
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
        """Prepares a run; reads nothing yet.

        Args:
            path: The checkpoint file.
            identity: What identifies the run: seed, method, settings, threads, code hash.
            deadline: `time.monotonic()` after which the next tick saves and stops.
            every_seconds: Time between two checkpoints; 0 writes one at every tick.
            accept_code_change: Whether to resume a checkpoint of another code hash.
        """
        self.path = path
        self.identity = identity
        self.deadline = deadline
        self.every_seconds = every_seconds
        self.accept_code_change = accept_code_change
        # The code hashes under which parts of the run were made, in order.
        self.code_hashes = [str(identity.get("code_hash"))]
        self._saved: State | None = None
        # Tensors that are not finite before a run begins, such as the weights of DWA.
        self._undefined: set[str] | None = None
        self._started = self._last_save = time.monotonic()
        self._save_seconds = 0.0
        self._shown = 0

    def load(self, like: State | None = None) -> State | None:
        """Returns the state saved last, or None at a first start.

        Args:
            like: State of a run that has not begun. The saved state must have its keys, types and
                shapes.

        Raises:
            UserError: The checkpoint is damaged or belongs to another run.
        """
        if like is not None:
            self._undefined = set(not_finite(like, "state"))
        # `lexists`: a broken link is an error to report, not a first start.
        if self._saved is None and os.path.lexists(self.path):
            self._saved = self._read()
        if self._saved is None:
            return None
        state = self._saved["state"]
        if like is not None:
            with self.restoring():
                # A checkpoint with a sound checksum may still come from other code.
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
        # A damaged archive may raise almost any exception.
        except Exception as error:
            raise self.damaged(error) from None
        # Only now is the content known to be whole, so a difference is real.
        self._refuse_other(saved["identity"])
        self.code_hashes = saved["code_hashes"]
        if (present := str(self.identity.get("code_hash"))) != self.code_hashes[-1]:
            self.code_hashes = [*self.code_hashes, present]
        # Continue the clock of the earlier processes.
        self._started = time.monotonic() - saved["elapsed"]
        return saved

    def _refuse_other(self, identity: State) -> None:
        """Raises a UserError that names what differs from the identity of this run."""
        changed = [
            key
            for key in {*identity, *self.identity}
            if identity.get(key) != self.identity.get(key)
        ]
        # Only the code may differ; other settings would make another run.
        if self.accept_code_change and "code_hash" in changed:
            changed.remove("code_hash")
        if changed:
            # Offered only where it would help.
            remedy = " or pass --accept-code-change" if changed == ["code_hash"] else ""
            named = ", ".join(sorted(changed))
            raise UserError(
                f"checkpoint {self.path} was written under another {named}; "
                f"delete it to start again{remedy}"
            )

    def damaged(self, error: object) -> UserError:
        """Returns the error to raise when the saved state cannot be that of this run."""
        return UserError(
            f"checkpoint {self.path} is damaged ({error!s:.100}); delete it to start again"
        )

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Turns any failure within the block into an error that the checkpoint is damaged.

        Use it where a loaded state is restored.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise self.damaged(error) from None

    def elapsed(self) -> float:
        """Returns the seconds that the run has taken, up to the last checkpoint of each process."""
        return time.monotonic() - self._started

    def save(self, state: State) -> None:
        """Writes the checkpoint whole; a failure (such as a full disk) leaves the old one.

        Raises:
            NonFiniteError: A weight or another tensor of the state is not finite.
            UserError: The file could not be written.
        """
        began = time.monotonic()
        # Losses and gradients can be finite while a step makes a weight infinite. Such a checkpoint
        # would be refused by every later start.
        if self._undefined is not None:
            bad = [place for place in not_finite(state, "state") if place not in self._undefined]
            if bad:
                raise NonFiniteError(
                    f"{bad[0]} is not finite after a step; lower the learning rate, then start "
                    "again: the last checkpoint is intact"
                )
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
        # torch reports a full disk as RuntimeError.
        except (UserError, RuntimeError) as error:
            first = str(error).partition("\n")[0].partition(";")[0]
            message = (
                f"checkpoint {self.path} could not be written ({first}); free some space and resume"
            )
            raise UserError(message) from None
        # The state in memory is older than the file now.
        self._saved = None
        self._last_save = time.monotonic()
        # `tick` spaces the checkpoints by the time that one takes.
        self._save_seconds = self._last_save - began

    @property
    def progress(self) -> Path:
        """Path of a CSV file with the rows of the run so far, next to the checkpoint."""
        return self.path.with_suffix(".csv")

    def show(self, rows: Sequence[tuple[int, str, str, float]]) -> None:
        """Appends the rows since the last call to `progress`, for plots of an unfinished run."""
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
        """Saves when a checkpoint is due.

        On SIGTERM or past the deadline it saves and raises Stopped.
        """
        now = time.monotonic()
        # From the first tick there is something to save: signals wait for the checkpoint.
        stopping.wait()
        late = self.deadline is not None and now >= self.deadline
        stop = bool(stopping.asked()) or late
        # Large buffers take seconds to write: spend at most a twentieth of the time on it.
        due = max(self.every_seconds, 20 * self._save_seconds) if self.every_seconds else 0.0
        if stop or now - self._last_save >= due:
            self.save(state())
        if stop:
            stopping.proceed()
            # `proceed` raises if a signal asked to stop; otherwise it was the deadline.
            raise Stopped(f"stopped by --max-minutes; {stopping.RESUME}")


def not_finite(part: Any, place: str) -> Iterator[str]:
    """Returns the places of the tensors of a state that are not finite."""
    if isinstance(part, Tensor):
        if not part.isfinite().all():
            yield place
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from not_finite(value, f"{place}.{key}")
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            # Rows of records, which are many, hold no tensors.
            if not isinstance(value, tuple):
                yield from not_finite(value, f"{place}.{index}")


def seal(file: IO[bytes]) -> None:
    """Appends the sha256 of its content to a ZIP archive that is open for reading and writing."""
    file.flush()
    file.seek(-END_RECORD.size, os.SEEK_END)
    *fields, comment = END_RECORD.unpack(file.read())
    # A comment would shift the record: its place is known only without one.
    if fields[0] != END_SIGNATURE or comment:
        raise RuntimeError("torch.save wrote no archive that ends as expected")
    file.seek(-END_RECORD.size, os.SEEK_END)
    # The digest covers the new length of the comment, so the record is written first.
    file.write(END_RECORD.pack(*fields, DIGEST_LENGTH))
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.write(digest.encode())


def verify(file: IO[bytes]) -> None:
    """Raises a ValueError unless the file ends with the sha256 of all before it.

    Afterwards the file's position is 0.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - DIGEST_LENGTH))
    stored = file.read()
    file.seek(0)
    digest, left = hashlib.sha256(), size - DIGEST_LENGTH
    # In blocks: a checkpoint with its replay buffers may be larger than the free memory.
    while left > 0 and (block := file.read(min(left, 2**20))):
        digest.update(block)
        left -= len(block)
    if stored != digest.hexdigest().encode():
        raise ValueError("its content is not what its checksum says")
    file.seek(0)


def check_frame(saved: Any) -> None:
    """Raises a ValueError unless a checkpoint has the parts that `Session.save` writes."""
    types = {"identity": dict, "state": dict, "elapsed": float, "code_hashes": list}
    for key, kind in types.items():
        if not isinstance(saved, dict) or not isinstance(saved.get(key), kind):
            raise ValueError(f"it holds no {key}")
    hashes, state = saved["code_hashes"], saved["state"]
    if not hashes or not all(isinstance(one, str) for one in hashes):
        raise ValueError("it holds no sound code hash")
    if "finished" in state and "seconds" not in state:
        raise ValueError("it holds no seconds")
    times = [saved["elapsed"], *(state.get(key, 0) for key in ("seconds", "peak_memory_mb"))]
    if not all(type(one) in (int, float) and 0 <= one < math.inf for one in times):
        raise ValueError("it holds no sound time or memory")
    for key in ("rows", "records", "finished"):
        check_rows(state.get(key, []), key)


def check_rows(rows: Any, key: str) -> None:
    """Raises a ValueError unless a list holds rows (step, task, metric, value) of a run."""
    if not isinstance(rows, list):
        raise ValueError(f"{key} are no list")
    for row in rows:
        if (
            not isinstance(row, list | tuple)
            or [*map(type, row)] != [int, str, str, float]
            or row[0] < 0
        ):
            raise ValueError(f"{key} hold {row!r:.60}")


# One case for each type that a state may hold.
def compare(saved: Any, like: Any, place: str) -> None:  # noqa: C901
    """Raises a ValueError that names the first part of a state that does not match `like`.

    Types and keys must be the same, and tensors must have the same shape and type. Numbers must be
    finite where those of `like` are. No integer may be below that of `like`, because only counts
    are integers. What is empty in a run that has not begun (records, the replay) may hold any
    number of items later.

    Args:
        saved: The state of a checkpoint.
        like: The state of a run that has not begun.
        place: Where in the state the parts are, for the message.
    """
    if isinstance(like, Tensor):
        if not isinstance(saved, Tensor):
            raise ValueError(f"{place} is no tensor")
        # A size of 0 allows any size: the replay is empty before a run begins.
        fits = saved.dim() == like.dim() and all(
            size in (0, found) for size, found in zip(like.shape, saved.shape, strict=True)
        )
        if not fits or saved.dtype != like.dtype:
            raise ValueError(f"{place} is {_form(saved)}, not {_form(like)}")
        # The weights of DWA begin as nan.
        if like.isfinite().all() and not saved.isfinite().all():
            raise ValueError(f"{place} is not finite")
    elif isinstance(like, Mapping):
        if not isinstance(saved, Mapping) or (like and set(saved) != set(like)):
            raise ValueError(f"{place} has other parts")
        for key, value in like.items():
            if isinstance(value, Mapping) and set(value) == {"state", "param_groups"}:
                # The parameters that it moves are beside it.
                beside = [part for name, part in like.items() if name != key]
                check_optimizer(saved[key], value, beside, f"{place}.{key}")
            else:
                compare(saved[key], value, f"{place}.{key}")
    elif isinstance(like, list | tuple):
        if not isinstance(saved, list | tuple):
            raise ValueError(f"{place} is no list")
        if like and len(saved) == len(like):
            for index, pair in enumerate(zip(saved, like, strict=True)):
                compare(*pair, f"{place}.{index}")
    # A number may change its type, as a metric of 0 becomes 0.5; a bool may not.
    elif type(like) in (int, float):
        if type(saved) not in (int, float) or not math.isfinite(saved):
            raise ValueError(f"{place} is no finite number")
        if type(like) is type(saved) is int and saved < like:
            raise ValueError(f"{place} is {saved}, below {like}")
    elif type(saved) is not type(like):
        raise ValueError(f"{place} is a {type(saved).__name__}, not a {type(like).__name__}")


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{[*tensor.shape]}"


def tensors(state: Any) -> Iterator[Tensor]:
    """Yields the tensors of a state in their order."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for part in state.values():
            yield from tensors(part)
    elif isinstance(state, list | tuple):
        for part in state:
            yield from tensors(part)


def check_optimizer(saved: Any, like: Mapping[Any, Any], beside: Sequence[Any], place: str) -> None:
    """Raises a ValueError unless `saved` can be the later state of a torch optimizer.

    torch compares neither the shapes of moments nor the settings of a group: with others a run
    would go on to other numbers, or fail in the middle of a step.

    Args:
        saved: The optimizer's state in the checkpoint.
        like: Its state before the run.
        beside: Parts of the state in which its parameters are, in the parameters' order.
        place: Where in the checkpoint it is, for the message.
    """
    if not isinstance(saved, Mapping) or set(saved) != set(like):
        raise ValueError(f"{place} has other parts")
    compare(saved["param_groups"], like["param_groups"], f"{place}.param_groups")
    for found, group in zip(saved["param_groups"], like["param_groups"], strict=True):
        # Schedules change only the rate.
        if {**found, "lr": 0} != {**group, "lr": 0} or found["lr"] < 0:
            raise ValueError(f"{place} has other settings")
    known = [number for group in like["param_groups"] for number in group["params"]]
    entries = saved["state"]
    if not isinstance(entries, Mapping) or not set(entries) <= set(known):
        raise ValueError(f"{place}.state has other parts")
    moments: list[Tensor] = []
    for number in sorted(entries):
        entry = entries[number]
        if not isinstance(entry, Mapping) or set(entry) != set(entries[min(entries)]):
            raise ValueError(f"{place}.state.{number} has other parts")
        values = [value for value in entry.values() if value is not None]
        if not all(isinstance(value, Tensor) and value.isfinite().all() for value in values):
            raise ValueError(f"{place}.state.{number} is no finite tensor")
        # Scalars count steps; all other values have the form of the parameter.
        forms = {_form(value): value for value in values if value.dim()}
        if len(forms) > 1:
            raise ValueError(f"{place}.state.{number} is {' and '.join(forms)}")
        moments += forms.values()
    # The search for each form goes on where the one before was found.
    rest = map(_form, tensors(beside))
    in_order = all(_form(moment) in rest for moment in moments)
    # The reinforcement learner packs the parameters of a network into the rows of fewer tensors,
    # with a gap of less than GAP numbers behind each.
    total = sum(moment.numel() for moment in moments)
    rows = max((len(moment) for moment in moments), default=0)
    packed = False
    for part in beside:
        sizes = [one.numel() for one in tensors(part)]
        gaps = GAP * len(sizes) * rows
        packed |= len(known) < len(sizes) and 0 <= total - sum(sizes) < gaps
    if not in_order and not packed:
        raise ValueError(f"{place}.state is {', '.join(map(_form, moments))}")
