"""Kills with -9 at random moments: what is done again must end with the same bytes, nothing stuck.

    python -m tests.kills --page tests/README.md

Training, checkpoint writes, workers of environments, and the launcher with a stand-in for Snakemake
(its group, Snakemake alone, a job alone, the launcher alone; started again within a second).
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from experiments import config as configs
from experiments import run
from multitask.rl.fleet import Fleet
from multitask.runs.checkpoint import Session
from system.writing import write_text
from tests.experiments import test_reproduce as launcher
from tests.multitask.rl.test_fleet import makers

BEGIN, END = "<!-- begin kills -->\n", "<!-- end kills -->"
CONTEXT = multiprocessing.get_context("fork")  # what is imported once need not be imported again


def long_enough() -> str:
    """The tiny config with more epochs of MultiMNIST, as JSON: a run that lasts some seconds."""
    config = configs.read(str(run.ROOT / "tests" / "tiny.yaml"))
    more = {"epochs": 12, "evaluate_every": 12}
    blocks = {"multimnist": {**config["experiments"]["multimnist"], **more}}
    return json.dumps({**config, "experiments": blocks})


def killed_after(work: Callable[[], object], seconds: float, begun: Callable[[], bool]) -> bool:
    """Run `work` in a process, kill it so long after it has begun; whether it still ran then."""
    process = CONTEXT.Process(target=work)
    process.start()
    while not begun() and process.is_alive():
        time.sleep(0.001)
    process.join(seconds)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def train(folder: Path, method: str) -> None:
    """Train one method of MultiMNIST at the tiny scale, a checkpoint after every step."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        arguments = ["multimnist", method, "--seeds", "0-1", "--config", long_enough()]
        arguments += ["--out", str(folder / "r/x/y" / method), "--checkpoint-seconds", "0"]
        sys.exit(run.main([*arguments, "--checkpoints", str(folder / "checkpoints")]))


def metrics(folder: Path, method: str) -> bytes:
    return (folder / "r/x/y" / method / "metrics.csv").read_bytes()


def newest(folder: Path) -> int:
    """The time of the last checkpoint below a folder, in nanoseconds; 0 without one."""
    with contextlib.suppress(FileNotFoundError):  # a file may be replaced meanwhile
        return max((path.stat().st_mtime_ns for path in folder.rglob("*.pt")), default=0)
    return 0


def training(draw: random.Random, folder: Path, wanted: int) -> tuple[int, int]:
    """Kills of trainings; each is resumed, and may be killed again; (kills, unequal ends)."""
    kills = unequal = 0
    for number in range(wanted):
        if kills >= wanted:
            break
        method = ("sum", "pcgrad", "uncertainty")[number % 3]
        whole, broken = folder / f"whole{number}", folder / f"broken{number}"
        killed_after(partial(train, whole, method), 600, lambda: True)
        alive, turn = True, 0
        while alive and turn < 5:
            # In turn: soon after a checkpoint, and soon after the start.
            before = newest(broken / "checkpoints") if turn % 2 == 0 else -1
            begun = partial(later, broken / "checkpoints", before)
            alive = killed_after(partial(train, broken, method), draw.uniform(0, 0.5), begun)
            kills, turn = kills + alive, turn + 1
        killed_after(partial(train, broken, method), 600, lambda: True)
        unequal += metrics(whole, method) != metrics(broken, method)
    return kills, unequal


def later(folder: Path, before: int) -> bool:
    """Whether a checkpoint was written after the given time."""
    return newest(folder) > before


def save_for_ever(path: Path) -> None:
    """Write one checkpoint after the other; number n holds n everywhere."""
    session = Session(path, {"seed": 0})
    for number in range(10**9):
        session.save({"number": number, "values": torch.full((20_000,), float(number))})


def checkpoints(draw: random.Random, folder: Path, wanted: int) -> tuple[int, int]:
    """Kills while checkpoints are written: the one that is there is whole."""
    unequal = kills = 0
    for _ in range(wanted):
        path = folder / "c.pt"
        kills += killed_after(partial(save_for_ever, path), draw.uniform(0, 0.1), path.exists)
        session = Session(path, {"seed": 0})
        state = session.load()
        unequal += state is None or bool((state["values"] != state["number"]).any())
        session.save({"number": -1, "values": torch.full((20_000,), -1.0)})
        unequal += len(list(folder.iterdir())) != 1  # what the killed process left is swept away
    return kills, unequal


def play_for_ever(pids: Path) -> None:
    with Fleet(makers(4), 2) as fleet:
        fleet.reset()
        pids.write_text(" ".join(str(process.pid) for process in fleet._processes))
        while True:
            fleet.step(np.zeros((4, 2)))


def workers(draw: random.Random, folder: Path, wanted: int) -> tuple[int, int]:
    """Kills of a process with workers: none of them lives on."""
    kills = left = 0
    for number in range(wanted):
        pids = folder / f"pids{number}"
        begun = partial(lambda path: path.exists() and path.read_text() != "", pids)
        kills += killed_after(partial(play_for_ever, pids), draw.uniform(0, 0.3), begun)
        until = time.monotonic() + 10
        while time.monotonic() < until and any(map(launcher.alive, pids.read_text().split())):
            time.sleep(0.02)
        left += any(map(launcher.alive, pids.read_text().split()))
    return kills, left


def victims(main: psutil.Process, kind: str) -> list[int]:
    """Who is killed: the launcher's whole tree, Snakemake, the job, or the launcher alone."""
    below = main.children(recursive=True)
    if kind == "group":
        return [main.pid, *(process.pid for process in below)]
    if kind == "launcher":
        return [main.pid]
    name = "snakemake" if kind == "Snakemake" else "job.py"
    return [process.pid for process in below if name in " ".join(process.cmdline())]


def pipeline(draw: random.Random, folder: Path, wanted: int) -> tuple[int, int]:
    """Kills of the launcher's processes, started again at once; (kills, starts that were stuck)."""
    stuck = 0
    for number in range(wanted):
        place = folder / f"tree{number}"
        place.mkdir()
        launcher.furnish(place)
        first = launcher.start(place)
        launcher.job_of(place)
        time.sleep(draw.uniform(0, 0.3))
        kind = ("group", "Snakemake", "job", "launcher")[number % 4]
        for pid in victims(psutil.Process(first.pid), kind):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind in ("Snakemake", "job"):
            first.communicate(timeout=90)  # the launcher says that its run failed
        (place / "busy").unlink()
        second = launcher.start(place)
        said, _ = second.communicate(timeout=90)
        first.communicate()
        if second.returncode or not (place / "done").exists():
            stuck += 1
            print(kind, said, file=sys.stderr)
    return wanted, stuck


KINDS = {
    "training (resumed, metrics compared byte by byte)": (training, 20),
    "checkpoint writes": (checkpoints, 20),
    "workers of environments": (workers, 8),
    "pipeline: group, Snakemake, job, launcher in turn": (pipeline, 16),
}


def main() -> int:
    """Run all kinds and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--page", type=Path, help="page whose table is written anew")
    args = parser.parse_args()
    lines = ["| what is killed | kills | unequal or stuck |", "|---|--:|--:|"]
    bad = 0
    for kind, (work, wanted) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            kills, faults = work(random.Random(kind), Path(folder), wanted)
        print(f"{kind}: {kills} kills, {faults} unequal or stuck", flush=True)
        lines.append(f"| {kind} | {kills} | {faults} |")
        bad += faults
    if args.page:
        before, rest = args.page.read_text(encoding="utf-8").split(BEGIN)
        table = "\n".join(lines) + "\n"
        write_text(args.page, before + BEGIN + table + END + rest.partition(END)[2])
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
