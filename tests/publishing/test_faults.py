"""The publishing commands on a disk that takes no more, and with arguments that name nothing."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published" / "quick"


def run(module, *words, limit=None):
    """Runs a command in a process that may write files of at most `limit` bytes."""

    def confine():
        # Writing past the limit fails as on a full disk, and hits nobody else.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "src:.", "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=confine if limit is not None else None,
        capture_output=True,
        text=True,
        check=False,
    )


def is_one_line(done, *words):
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.fixture
def folder(tmp_path):
    """The small files of a published scale, in a folder of their own."""
    for name in ("claims.csv", "manifest.json"):
        (tmp_path / name).write_bytes((PUBLISHED / name).read_bytes())
    bench = tmp_path / "benchmarks"
    bench.mkdir()
    columns = ("s", "max_rss")
    (bench / "claims.tsv").write_text("\t".join(columns) + "\n1.5\t300\n")
    return tmp_path


@pytest.mark.parametrize("module", ["publishing.runtimes", "publishing.front"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(folder, module):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    is_one_line(run(module, folder, limit=20), str(folder))
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("publishing.runtimes", ["nowhere"]),
        ("publishing.runtimes", []),
        ("publishing.front", ["nowhere"]),
        ("publishing.front", []),
        ("publishing.article", []),
        ("publishing.article", ["nowhere"]),
        ("publishing.publish", ["nowhere"]),
        ("publishing.publish", ["../quick"]),
        ("publishing.restore", ["nowhere"]),
        ("publishing.restore", ["../../src"]),
        ("publishing.verify", ["nowhere", "nothing"]),
        ("publishing.verify", ["--what"]),
        ("publishing.seal", []),
        ("benchmarks.report", ["nowhere"]),
    ],
)
def test_arguments_that_name_nothing_are_one_line(module, words):
    is_one_line(run(module, *words))
