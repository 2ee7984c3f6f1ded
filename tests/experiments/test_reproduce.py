"""The launcher, with a stand-in for Snakemake: one run at a time, no trace of a killed one."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from experiments.run import ROOT

# Fails while a lock exists, as Snakemake does; holds one while its job works.
SNAKEMAKE = """
import pathlib, subprocess, sys
if "--report" in sys.argv:
    sys.exit(0)
locks = pathlib.Path(".snakemake/locks")
if locks.exists():
    sys.exit("LockException")
locks.mkdir(parents=True)
pathlib.Path("words").write_text(" ".join(sys.argv))
status = subprocess.call(["sh", "-c", f"{sys.executable} job.py; exit $?"])
locks.rmdir()
sys.exit(status)
"""
JOB = """
import os, pathlib, time
from system import command, stopping

def work():
    pathlib.Path("job").write_text(str(os.getpid()))
    while pathlib.Path("busy").exists():
        time.sleep(0.05)
    pathlib.Path("done").touch()

command.leave(work)
"""


def furnish(folder):
    """Make a checkout with a config, a workflow of one job, and nothing else."""
    (folder / "config").mkdir()
    for path in (ROOT / "config").iterdir():
        shutil.copy(path, folder / "config")
    (folder / "snakemake.py").write_text(SNAKEMAKE)
    (folder / "job.py").write_text(JOB)
    (folder / "publishing").mkdir()
    for name in ("__init__", "runtimes"):
        (folder / f"publishing/{name}.py").write_text("")
    (folder / "busy").touch()


@pytest.fixture
def folder(tmp_path):
    furnish(tmp_path)
    yield tmp_path
    (tmp_path / "busy").unlink(missing_ok=True)


def start(folder, *words, module="experiments.reproduce"):
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-m", module, *(words or ("quick", "--cores", "1"))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def job_of(folder):
    wait_for(lambda: (folder / "job").exists() and (folder / "job").read_text())
    return int((folder / "job").read_text())


def alive(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_second_start_says_so_in_one_line(folder):
    first = start(folder)
    job_of(folder)
    second = start(folder)
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 2
    assert said.startswith("error: another `make reproduce` runs")
    assert said.count("\n") == 1
    (folder / "busy").unlink()
    first.communicate(timeout=30)
    assert first.returncode == 0
    assert (folder / "done").exists()


def test_jobs_end_with_a_killed_launcher_and_the_next_start_goes_on(folder):
    first = start(folder)
    job = job_of(folder)
    first.kill()
    first.communicate()
    wait_for(lambda: not alive(job))
    assert not (folder / "done").exists()
    (folder / ".snakemake/locks").mkdir(parents=True, exist_ok=True)
    (folder / "busy").unlink()
    second = start(folder)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0, said


def test_a_start_within_a_second_of_a_kill_goes_on_alone(folder):
    first = start(folder)
    job = job_of(folder)
    first.kill()
    (folder / "job").unlink()
    second = start(folder)
    again = job_of(folder)
    assert again != job
    assert not alive(job)
    (folder / "busy").unlink()
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0, said
    first.communicate()


def test_targets_alone_are_made_under_the_same_lock(folder):
    """Bug: `make laptop`, killed, left Snakemake's lock for ever."""
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / "busy").unlink()
    (folder / "publishing/runtimes.py").write_text("raise SystemExit(7)")
    done = start(folder, "laptop", "--cores", "1", "--targets", "results/laptop/a.csv")
    said, _ = done.communicate(timeout=60)
    assert done.returncode == 0, said
    assert (folder / "words").read_text().split()[-2:] == ["--", "results/laptop/a.csv"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_jobs_in_one_line(folder, number):
    first = start(folder)
    job = job_of(folder)
    first.send_signal(number)
    said, _ = first.communicate(timeout=30)
    assert first.returncode == 3, said
    assert f"stopped by {number.name}" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not alive(job)
    assert not (folder / ".snakemake/locks").exists()


def test_a_snakemake_that_somebody_runs_by_hand_is_left_alone(folder):
    by_hand = start(folder, "--cores", "1", module="snakemake")
    job_of(folder)
    second = start(folder)
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 2
    assert f"process {by_hand.pid}" in said
    assert (folder / ".snakemake/locks").exists()
    (folder / "busy").unlink()
    assert by_hand.wait(timeout=30) == 0
    by_hand.communicate()


@pytest.mark.parametrize(
    "words",
    [
        ("",),
        ("../x",),
        ("published",),
        ("quick\n",),
        ("quick", "--cores", "0"),
        ("quick", "--cores", "all; ls"),
    ],
)
def test_what_is_no_scale_is_one_line(folder, words):
    done = start(folder, *words)
    said, _ = done.communicate(timeout=30)
    assert done.returncode == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (folder / ".snakemake").exists()
