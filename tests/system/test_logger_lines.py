"""`snakemake --logger lines`: one line per job, and what a failed one says last."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
WORKFLOW = """
rule all:
    input: expand("out/{x}.txt", x=range(3))
    localrule: True
rule copy:
    output: "out/{x}.txt"
    log: "logs/{x}.log"
    shell: "(test {wildcards.x} != 1 || (echo; echo 'error: one is refused'; echo; exit 2);"
           " touch {output}) > {log} 2>&1"
"""


def test_a_line_per_job(tmp_path):
    (tmp_path / "Snakefile").write_text(WORKFLOW)
    words = ("--cores", "1", "--logger", "lines", "--keep-going", "--show-failed-logs")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("4 jobs; ")
    made = [line for line in lines if re.search(r"\d/4  copy +\d+ s  out/[02]\.txt$", line)]
    assert len(made) == 2
    (failed,) = [line for line in lines if " failed " in line]
    assert failed.endswith("logs/1.log; error: one is refused")
    assert len(lines) == 5, done.stderr  # the last says that a job failed


def planned(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "-n", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["missing.yaml", "folder/missing.yaml", "."])
def test_a_config_file_that_cannot_be_read_is_one_line(tmp_path, name):
    (tmp_path / "Snakefile").write_text("rule all:\n")
    done = planned(tmp_path, "--configfile", name)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: --configfile {re.escape(name)}: .+\n", done.stderr), done.stderr


def test_other_faults_are_told_as_snakemake_does(tmp_path):
    (tmp_path / "Snakefile").write_text("open('missing.yaml')\n")
    done = planned(tmp_path)
    assert done.returncode == 1
    assert "missing.yaml" in done.stdout + done.stderr
    assert "--configfile" not in done.stdout + done.stderr
