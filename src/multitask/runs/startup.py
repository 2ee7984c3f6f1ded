"""Settings of the process that are made once, at its start. Imports no torch."""

import contextlib
import ctypes
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Excludes libraries that are imported within the block from garbage collection.

    torch makes half a million objects that live as long as the process; every full collection would
    walk through them.
    """
    # Restored afterwards: a caller may have turned collection off.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Frozen objects are ignored by all later collections, the one at exit included.
        gc.freeze()
        if was_enabled:
            gc.enable()


# Parameters of glibc's mallopt.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory for the next update instead of returning it to the kernel.

    Returned memory costs a page fault per page at the next update. No number changes. Blocks above
    32 MiB (glibc's own limit) are returned all the same; other C libraries are left as they are.
    """
    # Other C libraries have no mallopt.
    with contextlib.suppress(AttributeError, OSError):
        tune = ctypes.CDLL(None).mallopt
        tune(MMAP_THRESHOLD, 32 << 20)
        tune(TRIM_THRESHOLD, 256 << 20)
