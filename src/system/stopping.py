"""Handles SIGTERM, SIGINT and SIGHUP for the process: it saves what there is and ends.

A signal ends the process at once while nothing would be lost. After `wait`, which is called
wherever a checkpoint can be taken, it takes effect at the next checkpoint. A second signal ends the
process at once.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

# SIGHUP comes when a terminal or a connection closes.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# In seconds: one Ctrl-C may arrive several times, through the process group and by the parent.
PATIENCE = 1.0


class Stopped(BaseException):
    """The process was asked to stop; the message names the cause and how to resume.

    It is no Exception, so that code that catches every exception does not catch it.
    """


class _Request:
    """The signal that was received. Signals are global to the process, and so is this class."""

    name = ""
    at = 0.0
    waits = False


def listen_to(number: int, _frame: FrameType | None = None) -> None:
    """Handles a signal: stores it and stops at once, unless a checkpoint comes first."""
    # Only a signal after PATIENCE is a second request: earlier ones repeat the first.
    again = bool(_Request.name) and time.monotonic() - _Request.at > PATIENCE
    if not _Request.name:
        _Request.name, _Request.at = signal.Signals(number).name, time.monotonic()
    if again or not _Request.waits:
        raise Stopped(f"stopped by {_Request.name}; {RESUME}")


def during_imports() -> None:
    """Ends a command `python -m …` with one line if a signal comes before its work begins.

    The packages of the commands call it first, because importing torch takes seconds.
    """
    # While Python looks for the module to run, this is all that it says of the command line.
    if sys.argv[:1] != ["-m"] or threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    # An exception within an import could be caught, or leave a half imported module behind.
    os.write(2, f"stopped by {signal.Signals(number).name}; {RESUME}\n".encode())
    os._exit(3)


RESUME = "the same command resumes from what is saved"


@contextlib.contextmanager
def listening(*, to_the_end: bool = False) -> Iterator[None]:
    """Handles the signals within the block.

    Afterwards they are handled as before, or ignored if `to_the_end`.
    """
    _Request.name, _Request.waits = "", False
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may install handlers.
        yield
        return
    # `nohup` has the process ignore SIGHUP.
    heard = [
        number
        for number in SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]
    before = [(number, signal.signal(number, listen_to)) for number in heard]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, signal.SIG_IGN if to_the_end else handler)
        _Request.name, _Request.waits = "", False


def wait() -> None:
    """Makes later signals wait for `proceed`, because there is something to save."""
    _Request.waits = True


def proceed() -> None:
    """Lets signals stop the process at once again; raises Stopped if one has been waiting.

    Call it when all is saved.
    """
    _Request.waits = False
    # A signal that arrived while the checkpoint was written takes effect now.
    if _Request.name:
        raise Stopped(f"stopped by {_Request.name}; {RESUME}")


def asked() -> str:
    """Returns the name of the signal that waits, or ""."""
    return _Request.name
