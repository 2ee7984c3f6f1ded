"""Exit of every command: 0 done, 2 a fault that one line names, 3 stopped and resumable."""

import argparse
import contextlib
import errno
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from system import lifeline, stopping
from system.errors import UserError, one_line

DONE, FAULT, STOPPED = 0, 2, 3
# Errors that the machine causes wherever they occur; any other OSError is a fault of the code.
OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    # A file in the place of a folder, or the other way round.
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
    # A limit of the shell on file sizes, and shared file systems.
    *(errno.EFBIG, errno.ESTALE, errno.ELOOP, errno.ETIMEDOUT, errno.EPIPE),
}
# How torch words a lack of memory.
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class Parser(argparse.ArgumentParser):
    """A parser that says a module's first line, and whose errors take one line, like all others."""

    def __init__(self, prog: str, description: str | None = None) -> None:
        super().__init__(prog, description=(description or "").partition("\n")[0])

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` says more")


def place(text: str) -> Path:
    """Parses a path of the command line.

    Raises:
        argparse.ArgumentTypeError: It is empty, which would be the present folder, or holds a line
            break or another character that cannot be printed.
    """
    # A shell leaves the ~ of `--out=~/x` as it is, and a folder named ~ would be made.
    text = os.path.expanduser(text)
    if text and text.isprintable() and text[0] != "~":
        return Path(text)
    raise argparse.ArgumentTypeError(f"{text!r:.60} is no path; give one in printable characters")


def folder(text: str) -> Path:
    """Parses the path of a folder that must exist.

    Raises:
        argparse.ArgumentTypeError: There is no such folder.
    """
    if (path := place(text)).is_dir():
        return path
    raise argparse.ArgumentTypeError(f"{path} is no folder; name one that is there")


def told(error: Exception) -> str:
    """What a command says of a fault that it caught: for a file, its name and the reason."""
    if isinstance(error, shutil.Error):
        # Copying a folder collects all faults; the first says why the others followed.
        _, target, why = error.args[0][0]
        return f"{target} cannot be written ({str(why).partition(': ')[0]})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename2 or error.filename or 'the machine'}: {error.strerror}"
    return str(error)


@contextlib.contextmanager
def script(log: str) -> Iterator[None]:
    """Ends one of Snakemake's scripts with one line where the user is at fault.

    The traceback goes to the rule's log.
    """
    try:
        yield
    # Readers of results and settings raise ValueError, of which UserError is one kind.
    except (ValueError, MemoryError) as error:
        line = f"error: {one_line(str(error)) or 'out of memory'}"
        with open(log, "a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
            print(line, file=file)
        sys.exit(line)


def run(main: Callable[[], int | None], *, to_the_end: bool = False) -> int:
    """Calls `main` and turns faults and signals into one line on stderr and an exit status.

    A fault that neither user nor machine caused keeps its traceback.

    Args:
        main: Returns its exit status, or None for 0.
        to_the_end: Whether to ignore signals after `main`, when nothing is left to interrupt.

    Returns:
        The exit status.
    """
    try:
        with stopping.listening(to_the_end=to_the_end):
            status = main() or DONE
            # At the end of the process a full disk behind standard output would be overlooked.
            print(end="", flush=True)
            return status
    except stopping.Stopped as stopped:
        tell(str(stopped))
        return STOPPED
    except UserError as error:
        message = str(error)
    except MemoryError as error:
        message = f"out of memory ({error}); {LESS}"
    except OSError as error:
        # A fault of the code keeps its traceback.
        if error.errno not in OF_THE_MACHINE:
            raise
        message = f"{error.filename or 'the machine'}: {error.strerror}; correct it and run again"
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        # torch appends advice and a stack to its message.
        first = str(error).partition("\n")[0]
        message = f"out of memory ({first:.150}); {LESS}"
    tell(f"error: {message}")
    return FAULT


def tell(message: str) -> None:
    """Prints one line on stderr; the exit status stays sound where nobody can be told."""
    for stream, text in ((sys.stderr, f"{one_line(message)}\n"), (sys.stdout, "")):
        try:
            print(end=text, file=stream, flush=True)
        except OSError:
            # What cannot be written would fail again at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


LESS = "lower batch sizes, widths or numbers of examples in the config, or run fewer jobs at once"


def leave(main: Callable[[], int | None]) -> NoReturn:
    """Runs `main` as the whole process, which ends with its launcher.

    Signals do not interrupt the end of the process.
    """
    lifeline.watch()
    # A path or a sign that the terminal's encoding lacks must not end a run.
    if sys.stdout:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(main, to_the_end=True))
