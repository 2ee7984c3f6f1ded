"""The launcher of `make reproduce`: everything of one scale, then the report; one run at a time.

    python -m experiments.reproduce quick --cores 2
    python -m experiments.reproduce laptop --targets results/laptop/tables/table_4.csv

With targets it makes only these, and no report.

The launcher holds a lock of the operating system while it runs. It removes the lock files of a
killed Snakemake only under this lock, and only if no Snakemake and no job of an earlier run is left
in this folder. Its jobs end with it: on SIGTERM and SIGINT it asks them to save and stop, and if it
is killed they notice (`system.lifeline`).

Exit status: 0 done, 2 a fault that the message names, 3 stopped and resumable, else Snakemake's.
"""

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from experiments import config as configs
from system import command, lifeline, stopping
from system.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
STATE = Path(".snakemake")
PATIENCE = 60.0  # seconds that jobs have to save before they are killed
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def scale_config(scale: str) -> Path:
    """The path of a scale's config.

    Raises:
        UserError: The config is missing or not valid.
    """
    path = Path("config") / f"{scale}.yaml"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", scale) or not path.is_file():
        raise UserError(f"no scale {scale!r}: SCALE names a file config/SCALE.yaml")
    configs.read(str(path))
    return path


def others(folder: Path, marker: str) -> list[psutil.Process]:
    """Processes in `folder` that are Snakemake or jobs that a launcher started there."""
    found = []
    # This process and its parents are no leftovers of an earlier run.
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        # A process can end, or belong to another user, while it is inspected.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid in mine or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(lifeline.FILE) == marker or (
                Path(process.cwd()) == folder and runs_snakemake(process.cmdline())
            ):
                found.append(process)
    return found


def runs_snakemake(words: Sequence[str]) -> bool:
    """Whether a command line runs Snakemake, directly or through Python."""
    return any(Path(word).name == "snakemake" for word in words[:3])


def end(processes: Sequence[psutil.Process], patience: float) -> None:
    """Ask processes to stop, wait, and kill those that have not stopped."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=patience)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def clear(folder: Path, marker: str) -> None:
    """End jobs whose launcher was killed, and remove the lock files of a killed Snakemake.

    Raises:
        UserError: Somebody runs Snakemake by hand in this folder.
    """
    orphans = [p for p in others(folder, marker) if _started_here(p, marker)]
    if orphans:
        print(f"ending {len(orphans)} processes of a run that was killed", file=sys.stderr)
        end(orphans, PATIENCE)
    if running := others(folder, marker):
        raise UserError(
            f"Snakemake already runs in {folder} (process {running[0].pid}); wait for its end or "
            "stop it, then run again"
        )
    # No Snakemake is left, so its locks are stale.
    shutil.rmtree(STATE / "locks", ignore_errors=True)


def _started_here(process: psutil.Process, marker: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(lifeline.FILE) == marker
    return False


def run(words: Sequence[str], environment: dict[str, str]) -> int:
    """Run a program in its own process group, which ends with this process; return its status."""
    child = subprocess.Popen(words, env=environment, start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        # The child's jobs are in its process group and get the signal as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        raise


def die_with_parent() -> None:
    """Ask Linux for a SIGTERM if the parent process (a shell or `make`) is killed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGTERM)


def reproduce(scale: str, cores: str, targets: Sequence[str] = ()) -> int:
    """Run the workflow of a scale, then make its report; with targets, make only these."""
    config = scale_config(scale)
    lock, number = STATE / "reproduce.lock", secrets.token_hex(8)
    held = lifeline.hold(lock, number)
    if held is None:
        here = Path.cwd()
        raise UserError(f"another `make reproduce` runs in {here}; wait for its end or stop it")
    with held:
        marker = str(lock.absolute())
        clear(Path.cwd(), marker)
        environment = {**os.environ, **lifeline.environment(lock, number)}
        snakemake = [sys.executable, "-m", "snakemake", "--configfile", str(config)]
        steps = [[*snakemake, "--cores", cores, "--logger", "lines", "--", *targets]]
        if not targets:
            steps += [
                [*snakemake, "--report", f"results/{scale}/report.html"],
                [sys.executable, "-m", "publishing.runtimes", f"results/{scale}"],
            ]
        for words in steps:
            try:
                status = run(words, environment)
            except stopping.Stopped:
                end(others(Path.cwd(), marker), PATIENCE)
                shutil.rmtree(STATE / "locks", ignore_errors=True)
                raise
            if status:
                return status
    if not targets:
        told = f"results/{scale}/report.html holds everything; results/{scale}/runtimes.md"
        print(f"{told} the times")
    return command.DONE


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run the command."""
    parser = command.Parser(prog="python -m experiments.reproduce", description=__doc__)
    parser.add_argument("scale", help="quick, laptop or paper")
    parser.add_argument("--cores", default="all", help="cores to use (default: all)")
    parser.add_argument("--targets", nargs="+", default=[], help="files to make, instead of all")
    args = parser.parse_args(arguments)
    if not re.fullmatch(r"all|[1-9][0-9]{0,5}", args.cores):
        raise UserError(f"CORES is a number or all, not {args.cores!r}")
    die_with_parent()
    return reproduce(args.scale, args.cores, args.targets)


if __name__ == "__main__":
    command.leave(lambda: main())
