"""Snakemake's messages with one line per job: `snakemake --logger lines`.

Snakemake finds a logger plugin by the name of its package. A line has the time, how many jobs are
done, the rule, the seconds that the job took, and the first file that it made. Snakemake's own
messages are kept whole in `.snakemake/log/`.
"""

import sys
import time
import traceback
from collections.abc import Callable
from functools import wraps
from logging import WARNING, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

__all__ = ["Lines", "LogHandler"]

# Words of errors that the line of a failed job has told already.
REPEATED = ("CalledProcessError in ", "At least one job did not complete successfully")


class Lines:
    """Turns log records into lines; keeps the jobs that have begun."""

    def __init__(self) -> None:
        self.begun: dict[int, tuple[float, str, str]] = {}
        self.done = self.total = 0

    def line(self, record: LogRecord) -> str:
        """The line to print for a record, or "" for none."""
        event, fields = getattr(record, "event", None), record.__dict__
        if event == LogEvent.RUN_INFO:
            self.total = fields["stats"]["total"]
            return f"{self.total} jobs; `make watch` in another terminal shows those that run"
        if event == LogEvent.JOB_INFO:
            made = next(iter(fields["output"] or ()), "")
            self.begun[fields["jobid"]] = record.created, fields["rule_name"], made
        elif event == LogEvent.JOB_FINISHED:
            self.done += 1
            began, rule, made = self.begun.pop(fields["job_id"], (record.created, "", ""))
            return self._job(record, rule, f"{record.created - began:7.0f} s", made)
        elif event == LogEvent.JOB_ERROR:
            why = next((last_line(Path(log)) for log in fields["log"] or ()), "")
            where = "; ".join(filter(None, [*(fields["log"] or ()), why]))
            return self._job(record, fields["rule_name"], "   failed", where)
        elif event in (None, LogEvent.ERROR) and record.levelno >= WARNING:
            text = str(record.msg or "")
            return "" if any(words in text for words in REPEATED) else text
        return ""

    def _job(self, record: LogRecord, rule: str, how: str, what: str) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        count = f"{self.done}/{self.total}".rjust(9)
        return f"{clock} {count}  {rule:<16} {how}  {what}".rstrip()


def last_line(path: Path) -> str:
    """The last line of a log that is not empty; "" without one."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    # A progress bar overwrites its line with carriage returns.
    return next((line.rpartition("\r")[2].strip() for line in reversed(lines) if line.strip()), "")


class LogHandler(LogHandlerBase):
    """The handler that Snakemake loads."""

    def __post_init__(self) -> None:
        self.lines = Lines()

    def emit(self, record: LogRecord) -> None:
        """Print the record's line."""
        if text := self.lines.line(record):
            print(text, file=sys.stderr, flush=True)

    @property
    def writes_to_stream(self) -> bool:
        """Snakemake adds no terminal handler of its own."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """The file in `.snakemake/log/` is Snakemake's."""
        return False

    @property
    def has_filter(self) -> bool:
        """`Lines` decides what is printed, not Snakemake's filter."""
        return True

    @property
    def has_formatter(self) -> bool:
        """`Lines` words the messages."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """No line shows the graph of rules."""
        return False


def tell_missing_config(tell: Callable[..., None]) -> Callable[..., None]:
    """Wrap Snakemake's printer of exceptions: a missing file of `--configfile` takes one line.

    Snakemake reads that file before the Snakefile, where our own checks are, and prints a
    traceback.
    """

    @wraps(tell)
    def told(error: BaseException, *rest: Any, **more: Any) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        reading = any(frame.name == "load_configfile" for frame in frames)
        if reading and isinstance(error, OSError) and error.filename:
            print(f"error: --configfile {error.filename}: {error.strerror}", file=sys.stderr)
        else:
            tell(error, *rest, **more)

    return told


# Snakemake imports its plugins while it reads the command line, before it reads any file.
for _module in filter(None, map(sys.modules.get, ("snakemake.cli", "snakemake.api"))):
    if "print_exception" in vars(_module):
        vars(_module)["print_exception"] = tell_missing_config(vars(_module)["print_exception"])
