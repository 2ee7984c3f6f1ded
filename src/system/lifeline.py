"""Jobs end with the launcher that started them, even if it is killed with -9.

The launcher holds a lock of the operating system on a file for as long as it lives, and gives its
jobs the file's name and the number of the run (`environment`). A job looks once a second: when the
lock is free or another run has it, the launcher is gone, and the job asks itself to stop as a
SIGTERM would."""

import contextlib
import fcntl
import os
import signal
import threading
import time
from pathlib import Path
from typing import IO

FILE, RUN = "PCGRAD_LOCK_FILE", "PCGRAD_RUN"
EVERY_SECONDS = 1.0


def hold(path: Path, run: str, *, attempts: int = 20) -> IO[str] | None:
    """Take the lock and write the run's number into its file; None if another process has it.

    Keep the result open: the lock lasts as long. Jobs that look for a moment do not count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    for _ in range(attempts):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.1)
            continue
        file.truncate(0)
        file.write(run)
        file.flush()
        return file
    file.close()
    return None


def environment(path: Path, run: str) -> dict[str, str]:
    """What a job's environment must have in addition."""
    return {FILE: str(path.absolute()), RUN: run}


def gone(path: Path, run: str) -> bool:
    """Whether the launcher of this run lives no more."""
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read() != run  # held: by our launcher, or by a later one
            return True
    except OSError:
        return True


def watch() -> None:
    """Watch the launcher from a thread, if one started this process."""
    path, run = os.environ.get(FILE), os.environ.get(RUN)
    if path and run:
        threading.Thread(target=_watch, args=(Path(path), run), daemon=True).start()


def _watch(path: Path, run: str) -> None:
    while not gone(path, run):
        time.sleep(EVERY_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGTERM)
