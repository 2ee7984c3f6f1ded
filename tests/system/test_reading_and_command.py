"""Pipes, devices and endless files are refused at once; commands end in one line and a status."""

import errno
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from multitask.data.idx import read_idx
from system import command, stopping
from system.errors import UserError
from system.reading import open_plain, read_arrays, read_bytes, read_json


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match=r"regular|directory"):
            open_plain(path)
    with pytest.raises(OSError, match="too long"):
        read_bytes(tmp_path / "sparse", 1000)
    for name in ("pipe", "sparse"):
        with pytest.raises(UserError, match=name):
            read_json(tmp_path / name, "mend it")
        with pytest.raises(UserError, match=name):
            read_idx(tmp_path / name, (3, 28, 28), "0" * 64)


def test_damaged_arrays_are_named(tmp_path):
    path, values = tmp_path / "surface.npz", np.arange(1000.0)
    np.savez_compressed(path, values=values)
    assert read_arrays(path, "make it again")["values"].tolist() == values.tolist()
    whole = path.read_bytes()
    middle = whole[:400] + bytes(8) + whole[408:]
    # A flag in the archive's directory says that the file is encrypted.
    flags = whole.index(b"PK\x01\x02") + 8
    locked = whole[:flags] + b"\x01" + whole[flags + 1 :]
    for damaged in (b"", whole[:-30], middle, locked):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"surface.npz .*make it again"):
            read_arrays(path, "make it again")
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        read_arrays(path, "make it again")


def raises(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("two\nlines"), "error: two\\nlines"),
        (
            MemoryError("Unable to allocate 7 TiB"),
            "error: out of memory (Unable to allocate 7 TiB)",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: x\nmore"),
            "error: out of memory",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"), "error: a.csv: No space left"),
        (OSError(errno.EISDIR, "Is a directory", "a.lock"), "error: a.lock: Is a directory"),
    ],
)
def test_faults_of_user_and_machine_are_one_line(capsys, error, said):
    assert command.run(raises(error)) == command.FAULT
    found = capsys.readouterr().err
    assert found.startswith(said)
    assert found.count("\n") == 1


def test_a_fault_of_the_code_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 // 0)


PRINTS = "from system import command; command.leave(lambda: print('x' * 100_000))"
FAILS = """
from system import command, errors
def fail(): raise errors.UserError("it is wrong")
command.leave(fail)
"""


@pytest.mark.parametrize(
    ("code", "redirected", "status", "said"),
    [
        (PRINTS, ">/dev/full", 2, "No space left on device"),
        (PRINTS, "| head -c 5", 2, "Broken pipe"),
        (PRINTS, ">&-", 0, ""),
        (FAILS, "2>/dev/full", 2, ""),
        (FAILS, ">/dev/full", 2, "it is wrong"),
        (FAILS, "2>&-", 2, ""),
    ],
)
def test_a_full_disk_behind_the_output_is_one_line(code, redirected, status, said):
    paths = os.pathsep.join(sys.path)
    words = f"set -o pipefail; {shlex.quote(sys.executable)} -c {shlex.quote(code)} {redirected}"
    done = subprocess.run(
        ["bash", "-c", words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize(("redirected", "said"), [("", b"1 \\xb7 \\udcff\n"), (">&-", b"")])
def test_what_the_terminal_cannot_show_ends_no_command(redirected, said):
    code = r"from system import command; command.leave(lambda: print('1 \u00b7 \udcff'))"
    done = subprocess.run(
        f"{sys.executable} -c {shlex.quote(code)} {redirected}",
        shell=True,
        env={**PATHS, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")


def test_a_process_that_ignores_hangups_goes_on(capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        assert command.run(lambda: signal.raise_signal(signal.SIGHUP)) == command.DONE
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_signals_stop_at_once_or_wait_for_what_is_saved(capsys, number):
    before = signal.getsignal(number)
    done = []

    def waits():
        stopping.wait()
        signal.raise_signal(number)
        done.append("saved")
        stopping.proceed()
        done.append("never")

    assert command.run(lambda: signal.raise_signal(number)) == command.STOPPED
    assert command.run(waits) == command.STOPPED
    assert done == ["saved"]
    assert capsys.readouterr().err.count(f"stopped by {number.name}") == 2
    assert signal.getsignal(number) is before


def test_a_fault_of_a_file_is_told_by_its_name(tmp_path):
    with pytest.raises(shutil.Error) as caught:
        shutil.copytree(FOLDER_OF_TESTS, tmp_path / "copy", copy_function=refuse)
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))}/copy/\S+ cannot be written \(.*No space left.*\)",
        command.told(caught.value),
    )
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "from", None, "to")
    assert command.told(error) == "to: No space left on device"
    assert command.told(ValueError("no scale")) == "no scale"


FOLDER_OF_TESTS = Path(__file__).parent
ROOT = FOLDER_OF_TESTS.parents[1]
PATHS = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}


def refuse(source, target):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)


@pytest.mark.parametrize("package", ["experiments", "publishing", "proofs", "benchmarks"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_during_the_imports_of_a_command_is_one_line(package, name):
    # So Python begins `python -m package.module`.
    code = f"import os, signal, sys; signal.signal(signal.{name}, signal.SIG_DFL)\n"
    code += f"sys.argv = ['-m']; import {package}\n"
    code += f"os.kill(os.getpid(), signal.{name})\nimport time; time.sleep(9)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=PATHS, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (command.STOPPED, 1)
    assert done.stderr.startswith(f"stopped by {name}; ")


def test_a_path_of_an_option_may_begin_at_home():
    """Bug: `--out=~/x`, which a shell leaves as it is, made a folder named ~."""
    assert command.place("~/x") == Path.home() / "x"


def test_an_import_by_other_code_leaves_its_signals_alone():
    code = "import signal; old = signal.getsignal(signal.SIGINT)\n"
    code += "import experiments, publishing, proofs\n"
    code += "assert signal.getsignal(signal.SIGINT) is old"
    subprocess.run([sys.executable, "-c", code], env=PATHS, check=True)
