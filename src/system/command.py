"""How every command ends: 0 done, 2 a fault that one line names, 3 stopped and resumable."""

import argparse
import errno
import sys
from collections.abc import Callable
from typing import NoReturn

from system import lifeline, stopping
from system.errors import UserError, one_line

DONE, FAULT, STOPPED = 0, 2, 3
# Faults of the machine wherever they happen; any other OSError would be a fault of the code.
OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # torch's words


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` says more")


def run(main: Callable[[], int | None], *, to_the_end: bool = False) -> int:
    """Call `main` and turn faults and signals into one line on stderr and an exit status.

    `main` returns its status, None for 0. What is no fault of user or machine keeps its traceback.
    `to_the_end`: nothing is left to interrupt, signals do nothing afterwards.
    """
    try:
        with stopping.listening(to_the_end=to_the_end):
            return main() or DONE
    except stopping.Stopped as stopped:
        print(one_line(str(stopped)), file=sys.stderr)
        return STOPPED
    except UserError as error:
        message = str(error)
    except MemoryError as error:
        message = f"out of memory ({error}); {LESS}"
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        message = f"{error.filename or 'the machine'}: {error.strerror}; mend it and run again"
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        first = str(error).partition("\n")[0]
        message = f"out of memory ({first:.150}); {LESS}"
    print(f"error: {one_line(message)}", file=sys.stderr)
    return FAULT


LESS = "lower batch sizes, widths or numbers of examples in the config, or run fewer jobs at once"


def leave(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` as the whole process: nothing interrupts its end, and it ends with its launcher."""
    lifeline.watch()
    sys.exit(run(main, to_the_end=True))
