"""Ends jobs with the launcher that started them, even if it is killed with -9.

The launcher holds an operating system lock on a file as long as it lives. It passes the file's name
and the number of the run to its jobs (`environment`). A job checks once a second: if the lock is
free or another run holds it, the launcher has ended, and the job sends itself a SIGTERM.
"""

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

FILE, RUN = "PCGRAD_LOCK_FILE", "PCGRAD_RUN"
EVERY_SECONDS = 1.0


def hold(path: Path, run: str, *, attempts: int = 20) -> IO[str] | None:
    """Takes the lock and writes the run's number into its file; None if another process has it.

    Keep the result open, because closing it releases the lock. Several attempts are made, because
    jobs that check take the lock for a moment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    for _ in range(attempts):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
            continue
        # A file system without locks refuses nobody.
        except OSError:
            pass
        # Written under the lock, so that no job reads a mixture of two numbers.
        file.truncate(0)
        file.write(run)
        file.flush()
        return file
    file.close()
    return None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Tells whether no other process is in this block with the same file, which the end removes."""
    file = hold(path, str(os.getpid()), attempts=1)
    # The process before may have removed the file after this one had opened it.
    while file and os.fstat(file.fileno()).st_nlink == 0:
        file.close()
        file = hold(path, str(os.getpid()), attempts=1)
    try:
        yield file is not None
    finally:
        if file:
            path.unlink(missing_ok=True)
            file.close()


def environment(path: Path, run: str) -> dict[str, str]:
    """Returns the variables to add to a job's environment."""
    return {FILE: str(path.absolute()), RUN: run}


def gone(path: Path, run: str) -> bool:
    """Tells whether the launcher of this run has ended."""
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                # The lock is held, by the launcher of this run or of a later one.
                return file.read() != run
            return True
    except OSError:
        return True


def watch() -> None:
    """Starts a thread that watches the launcher, if one started this process."""
    path, run = os.environ.get(FILE), os.environ.get(RUN)
    if path and run:
        # A daemon, so that the thread does not keep the process alive.
        threading.Thread(target=_watch, args=(Path(path), run), daemon=True).start()


def _watch(path: Path, run: str) -> None:
    while not gone(path, run):
        time.sleep(EVERY_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        # The usual signal, so that the job saves a checkpoint as it would on any stop.
        os.kill(os.getpid(), signal.SIGTERM)
