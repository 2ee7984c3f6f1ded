"""`snakemake --logger lines`: one line per job, and what a failed one says last."""

import os
import re
import subprocess
import sys
from pathlib import Path

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
