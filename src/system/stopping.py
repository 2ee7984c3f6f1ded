"""SIGTERM and SIGINT belong to the process: whatever it does, it saves what there is and ends.

A signal ends the process at once while nothing would be lost. From `wait` on, called wherever a
checkpoint can be taken, it waits for the next `check`; a second signal does not wait."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE = 1.0  # seconds: one Ctrl-C may arrive several times, through the group and by the parent


class Stopped(BaseException):
    """The process was asked to stop; the message says by what and how to go on.

    No Exception: code that turns every exception into a message of its own must not catch it."""


class _Request:
    """What was asked of this process; signals are global, and so is this."""

    name = ""
    at = 0.0
    waits = False


def listen_to(number: int, _frame: FrameType | None = None) -> None:
    """The handler: note the signal and, unless a checkpoint is to be taken first, stop at once."""
    again = bool(_Request.name) and time.monotonic() - _Request.at > PATIENCE
    if not _Request.name:
        _Request.name, _Request.at = signal.Signals(number).name, time.monotonic()
    if again or not _Request.waits:
        raise Stopped(f"stopped by {_Request.name}; {RESUME}")


RESUME = "the same command resumes from what is saved"


@contextlib.contextmanager
def listening(*, to_the_end: bool = False) -> Iterator[None]:
    """Handle both signals within; outside they do what they did before, or nothing `to_the_end`."""
    _Request.name, _Request.waits = "", False
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may install handlers
        return
    before = [(number, signal.signal(number, listen_to)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, signal.SIG_IGN if to_the_end else handler)
        _Request.name, _Request.waits = "", False


def wait() -> None:
    """From now on a signal waits for `check`: there is something to save."""
    _Request.waits = True


def proceed() -> None:
    """All is saved: a signal stops at once again, and so does one that has been waiting."""
    _Request.waits = False
    if _Request.name:
        raise Stopped(f"stopped by {_Request.name}; {RESUME}")


def asked() -> str:
    """The name of the signal that waits, or ""."""
    return _Request.name
