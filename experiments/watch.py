"""Shows the trainings that run: the last line of progress in each log, every half minute.

    python -m experiments.watch            # until Ctrl-C
    python -m experiments.watch --once

It reads the logs of this folder's scales and of the campaigns next to it, whoever started the jobs:
make, snakemake, or Slurm on other machines.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.run import PROGRESS
from multitask.runs.provenance import ROOT
from system import command, stopping
from system.times import duration

EVERY_SECONDS = 30.0
# A checkpoint, and with it a line, may take longer than a minute.
RECENT_SECONDS = 600.0


def running(root: Path, now: float) -> Iterator[tuple[Path, float, str]]:
    """Yield (log, seconds since its last line, the line) of every training that runs."""
    for place in (root / "results", *sorted(root.parent.glob("campaign-*/results"))):
        for path in sorted(place.glob("*/logs/**/*.log")):
            # A log may be deleted meanwhile, and another clock may be ahead of this one.
            with contextlib.suppress(OSError):
                age = max(0.0, now - path.stat().st_mtime)
                if age < RECENT_SECONDS and (line := last_line(path)).startswith(PROGRESS):
                    yield path, age, line.removeprefix(PROGRESS)


def last_line(path: Path) -> str:
    """The last line of a log; "" if there is none."""
    with path.open("rb") as file:
        # Lines of progress are short.
        file.seek(max(0, path.stat().st_size - 2000))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return lines[-1] if lines else ""


def report(root: Path, now: float) -> str:
    """All running trainings, one line each."""
    lines = [
        f"{line}  ({duration(age)} ago, {scale_of(path)})" for path, age, line in running(root, now)
    ]
    head = time.strftime("%H:%M:%S", time.localtime(now))
    recent = duration(RECENT_SECONDS)
    if not lines:
        return f"{head}  no training has written its progress in the last {recent}"
    return "\n".join([f"{head}  {len(lines)} running", *(f"  {line}" for line in lines)])


def scale_of(path: Path) -> str:
    """The scale that a log belongs to: the folder above `logs`."""
    return path.parts[len(path.parts) - 1 - path.parts[::-1].index("logs") - 1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = command.Parser(prog="python -m experiments.watch", description=__doc__)
    parser.add_argument("--once", action="store_true", help="print once and end")
    once = parser.parse_args(arguments).once
    # Ctrl-C is how this command ends; nothing is lost by it.
    with contextlib.suppress(stopping.Stopped):
        while True:
            print(report(ROOT, time.time()), flush=True)
            if once:
                break
            time.sleep(EVERY_SECONDS)
    return command.DONE


if __name__ == "__main__":
    command.leave(main)
