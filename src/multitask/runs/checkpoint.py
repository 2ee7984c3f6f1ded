"""Runs that survive: atomic checkpoints, a clean stop on SIGTERM or at a deadline, resume bit for
bit.

A checkpoint holds tensors, numbers, strings, lists and dicts only (`torch.load(weights_only=True)`
reads it back), and an identity: seed, method, settings, threads and code hash of the run it belongs
to. Another identity is refused."""

import contextlib
import csv
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from multitask.runs.errors import UserError

State = dict[str, Any]


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The run was asked to stop, saved its state and can be resumed with the same command."""


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
        self.path, self.identity = path, identity
        self.deadline, self.every_seconds, self.accept_code_change = (
            deadline,
            every_seconds,
            accept_code_change,
        )
        self._stop_asked = False
        self._started = self._last_save = time.monotonic()
        self._save_seconds = 0.0
        self._shown = 0
        # Only the main thread may install handlers; a Session made elsewhere (tests) still saves on
        # time and deadline.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, self._ask_to_stop)

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_asked = True

    def load(self) -> State | None:
        """The state saved last, None at a first start; UserError if it is damaged or of another
        run.
        """
        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, weights_only=True)
            identity, state = saved["identity"], saved["state"]
        except Exception as error:
            raise UserError(
                f"checkpoint {self.path} is damaged ({error!r:.80}); delete it to start again"
            ) from None
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
        self._started = time.monotonic() - saved["elapsed"]
        return state

    def elapsed(self) -> float:
        """Seconds that the run has taken so far, earlier processes included up to their last
        checkpoint.
        """
        return time.monotonic() - self._started

    def save(self, state: State) -> None:
        """Write the checkpoint: temporary file, fsync, rename; a failure (full disk) leaves the old
        one.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        began = time.monotonic()
        try:
            with temporary.open("wb") as file:
                torch.save(
                    {"identity": self.identity, "state": state, "elapsed": self.elapsed()}, file
                )
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            temporary.unlink(missing_ok=True)
            message = (
                f"checkpoint {self.path} could not be written ({error}); free some space and resume"
            )
            raise UserError(message) from None
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
        stop = self._stop_asked or (self.deadline is not None and now >= self.deadline)
        # Large buffers take seconds to write: no more than a twentieth of the time goes into that.
        due = max(self.every_seconds, 20 * self._save_seconds) if self.every_seconds else 0.0
        if stop or now - self._last_save >= due:
            self.save(state())
        if stop:
            reason = "SIGTERM" if self._stop_asked else "--max-minutes"
            raise Stopped(f"stopped by {reason}; the same command resumes from {self.path}")
