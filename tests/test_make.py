"""The Makefile's own decisions, with stand-ins for the programs that it calls."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def program(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def make(folder, *arguments):
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    """The Makefile in a folder whose environment counts as installed; Snakemake fails there while a
    lock exists.
    """
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    program(tmp_path / ".venv/bin/snakemake", "test ! -e .snakemake/locks")
    program(tmp_path / ".venv/bin/python", "exit 0")
    (tmp_path / ".venv/installed").touch()
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(("version", "refused"), [((3, 10, 13), True), ((3, 11, 0), False)])
def test_an_old_python_is_refused_in_one_line(tmp_path, version, refused):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    code = f"import sys; sys.version_info = {version}; exec(sys.argv[2]) if sys.argv[1] == '-c' else sys.exit(7)"
    program(tmp_path / "python", f'exec "{sys.executable}" -c "{code}" "$@"')
    done = make(tmp_path, "install", f"PYTHON={tmp_path / 'python'}")
    assert done.returncode != 0  # the stand-in makes no environment either
    assert ("error: Python 3.11 or newer is needed" in done.stderr) == refused
    assert not (tmp_path / ".venv").exists()


def test_a_lock_whose_holder_is_gone_is_dropped(folder):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder / ".snakemake/pid").write_text(f"{gone.pid}\n")
    done = make(folder, "reproduce")
    assert done.returncode == 0, done.stderr
    assert not (folder / ".snakemake/pid").exists()


def test_a_lock_whose_holder_runs_is_kept(folder):
    (folder / ".snakemake/pid").write_text(f"{os.getpid()}\n")
    assert make(folder, "reproduce").returncode != 0
    assert (folder / ".snakemake/locks").exists()


def test_a_lock_of_unknown_origin_is_kept(folder):
    assert make(folder, "reproduce").returncode != 0
    assert (folder / ".snakemake/locks").exists()


def test_a_killed_run_leaves_its_process_number(folder):
    program(folder / ".venv/bin/snakemake", "kill -9 $$")
    assert make(folder, "reproduce").returncode != 0
    assert (folder / ".snakemake/pid").exists()
    program(folder / ".venv/bin/snakemake", "test ! -e .snakemake/locks")
    assert make(folder, "reproduce").returncode == 0


def test_a_failed_run_fails_make(folder):
    (folder / ".snakemake/locks").rmdir()
    program(folder / ".venv/bin/snakemake", "exit 1")
    assert make(folder, "reproduce").returncode != 0


def test_clean_keeps_what_is_published(folder):
    for name in ("quick/a", "laptop/b", "published/quick/c"):
        (folder / "results" / name).mkdir(parents=True)
    assert make(folder, "clean").returncode == 0
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["laptop", "published"]
