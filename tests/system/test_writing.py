"""Files are complete or absent; leftovers of killed processes go, files of others stay."""

import errno
import os
import subprocess
import sys

import pytest

from system.errors import UserError
from system.writing import ENDING, probe, scratch, whole, whole_folder, write_text


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(error):
        with whole(path) as file:
            file.write("half")
            raise error

    for error in (RuntimeError(), OSError(errno.ENOSPC, "No space left on device")):
        with pytest.raises((RuntimeError, UserError)):
            fail(error)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_writer_left_goes_and_what_another_writes_stays(tmp_path):
    path = tmp_path / "a[1].txt"
    dead = tmp_path / f".{path.name}.dead{ENDING}"
    dead.write_text("half")
    other = tmp_path / f".b.txt.dead{ENDING}"
    other.write_text("of another target")
    with whole(path) as first:
        first.write("first")
        write_text(path, "second")  # a writer at the same time sweeps only what nobody locks
        assert not dead.exists()
    assert path.read_text() == "first"
    assert other.exists()


def test_a_folder_of_a_killed_process_is_swept(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom system.writing import scratch\n"
        "with scratch(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch()\n    os.kill(os.getpid(), 9)\n"
    )
    target = tmp_path / "set"
    paths = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code, str(target)], env={"PYTHONPATH": paths})
    assert [one.suffix for one in tmp_path.iterdir()] == [ENDING]
    with whole_folder(target) as folder:
        (folder / "all").touch()
    assert [one.name for one in tmp_path.iterdir()] == ["set"]
    with scratch(target):
        assert len(list(tmp_path.iterdir())) == 2
    assert (target / "all").exists()


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_made(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file/x", tmp_path / "a/b" / ("n" * 300)):
        with pytest.raises(UserError, match="cannot write into"):
            probe(folder)
    assert not (tmp_path / "a").exists()
    probe(tmp_path / "c/d")
    assert list((tmp_path / "c/d").iterdir()) == []
