"""The Makefile's own decisions, with substitutes for the programs that it calls."""

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
    """The Makefile in a folder whose environment counts as installed."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    program(tmp_path / ".venv/bin/python", "exit 7")
    (tmp_path / ".venv/installed").touch()
    (tmp_path / "config").mkdir()
    for scale in ("quick", "laptop"):
        (tmp_path / f"config/{scale}.yaml").touch()
    return tmp_path


@pytest.mark.parametrize(("version", "refused"), [((3, 10, 13), True), ((3, 11, 0), False)])
def test_an_old_python_is_refused_in_one_line(tmp_path, version, refused):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    code = (
        f"import sys; sys.version_info = {version}; "
        f"exec(sys.argv[2]) if sys.argv[1] == '-c' else sys.exit(7)"
    )
    program(tmp_path / "python", f'exec "{sys.executable}" -c "{code}" "$@"')
    done = make(tmp_path, "install", f"PYTHON={tmp_path / 'python'}")
    assert done.returncode != 0  # the stand-in makes no environment either
    assert ("error: Python 3.11 or newer is needed" in done.stderr) == refused
    assert not (tmp_path / ".venv").exists()


def test_a_failed_run_fails_make(folder):
    assert make(folder, "reproduce").returncode != 0


def test_clean_keeps_what_is_published(folder):
    for name in ("quick/a", "laptop/b", "published/quick/c"):
        (folder / "results" / name).mkdir(parents=True)
    assert make(folder, "clean").returncode == 0
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["laptop", "published"]


@pytest.mark.parametrize(
    "scale",
    [
        "",
        "published",
        "../src",
        "quick/",
        "quick laptop",
        ".",
        "*",
        "quick/../../src",
        "a;b",
        "$$(touch x)",
    ],
)
def test_clean_refuses_what_has_no_config(folder, scale):
    for name in ("results/quick/a", "results/published/quick/c", "src/d"):
        (folder / name).mkdir(parents=True)
    done = make(folder, "clean", f"SCALE={scale}")
    assert done.returncode != 0
    assert "error: no scale" in done.stderr
    for name in ("results/quick/a", "results/published/quick/c", "src/d"):
        assert (folder / name).is_dir()
    assert not (folder / "x").exists()


@pytest.mark.parametrize("target", ["publish", "article", "report", "config"])
@pytest.mark.parametrize("scale", ["", "../src", "$$(touch x)", "a;touch x", "schema"])
def test_no_target_lets_a_scale_become_a_command(folder, target, scale):
    done = make(folder, target, f"SCALE={scale}", "PARTIAL=;touch x")
    assert "error: no scale" in done.stderr
    assert not (folder / "x").exists()


def test_options_of_make_become_no_command(folder):
    program(folder / ".venv/bin/python", 'echo "$@" >> told')
    for target in ("publish", "laptop", "reproduce", "bench"):
        make(folder, target, "PARTIAL=;touch x", "CORES=1;touch x", "OUT=;touch x", "SCALE=laptop")
    told = (folder / "told").read_text()
    assert "--cores 1;touch x" in told
    assert "publishing.publish laptop ;touch x" in told  # the command refuses it
    assert told.count("--out ;touch x") == 3
    assert not (folder / "x").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_report_of_what_is_not_there_ends_in_one_line(folder, there):
    program(folder / ".venv/bin/snakemake", "touch ran; exit 1")
    if there:  # a part of the results is missing: Snakemake names it first
        (folder / "results/quick").mkdir(parents=True)
        (folder / "results/quick/front.rst").touch()
    done = make(folder, "report")
    assert done.returncode != 0
    assert "error: results/quick lacks what the report shows" in done.stderr.splitlines()[0]
    assert (folder / "ran").exists() == there


def test_a_copy_that_is_not_whole_is_not_verified(folder):
    """Bug: a pipe hid that tar had failed, and what had come through was run."""
    body = '[ "$1" = -xf ] && exec tar "$@"; tar -cf "$2" Makefile; exit 2'
    program(folder / "bin/tar", f"PATH=/usr/bin:/bin; {body}")
    program(folder / ".venv/bin/snakemake", "touch ran")
    assert make(folder, "verify", f"PATH={folder / 'bin'}:{os.environ['PATH']}").returncode != 0
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("there", [False, True])
def test_what_the_site_needs_is_installed_only_where_it_is_missing(folder, there):
    """Bug: a package that is there and broken was hidden behind an installation of nothing."""
    for name in ("myst_nb", "pydata_sphinx_theme", "latex2mathml") if there else ():
        (folder / f"{name}.py").write_text("raise ImportError")
    program(
        folder / ".venv/bin/python",
        f'echo "$@" >> told; [ "$1" != -c ] || PYTHONPATH=. exec {sys.executable} -S "$@"',
    )
    make(folder, "docs")
    assert ("pip install" in (folder / "told").read_text()) != there


def test_the_checkout_may_lie_in_a_folder_with_a_space(folder):
    place = folder.rename(folder.with_name("a b"))
    program(place / ".venv/bin/python", 'echo "$@" >> told')
    program(place / ".venv/bin/snakemake", "exit 0")
    (place / "results/quick").mkdir(parents=True)
    (place / "results/quick/front.rst").touch()
    done = make(place, "report")
    assert done.returncode == 0, done.stderr
    assert "zipfile" in (place / "results/quick/told").read_text()
