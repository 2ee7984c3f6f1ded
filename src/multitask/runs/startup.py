"""What a process does once, when it starts. Imports no torch."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import libraries within: the garbage collector looks at nothing made here, not now, not
    later, not at the end.

    torch makes half a million objects that live as long as the process; walking through them costs
    a job a second."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
