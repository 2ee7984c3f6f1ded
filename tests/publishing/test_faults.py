"""The publishing commands on a disk that takes no more, and with arguments that name nothing."""

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from publishing import commands, readme, runtimes, verify
from publishing.manifest import check_manifest
from reporting import findings
from system.errors import UserError

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
        ("publishing.front", ["src"]),
        ("publishing.article", []),
        ("publishing.article", ["nowhere"]),
        ("publishing.publish", ["nowhere"]),
        ("publishing.publish", ["../quick"]),
        ("publishing.restore", ["nowhere"]),
        ("publishing.restore", ["../../src"]),
        ("publishing.verify", ["nowhere", "nothing"]),
        ("publishing.verify", ["nowhere", "results/published/quick"]),
        ("publishing.verify", ["--what"]),
        ("benchmarks.report", ["nowhere"]),
    ],
)
def test_arguments_that_name_nothing_are_one_line(module, words):
    is_one_line(run(module, *words))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", '{"files": []}', '{"files": {}}'),
        *('{"files": {"claims.csv": 5}}', '{"files": {}, "files": {}}'),
        '{"files": {}, "machines": [5], "versions": []}',
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json.*; publish again"):
        check_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "s\tmax_rss\n", "a\tb\n1\t2\n", "s\tmax_rss\nx\ty\n", "\0"])
def test_a_damaged_file_of_run_times_is_named(folder, text):
    (folder / "benchmarks" / "claims.tsv").write_text(text)
    with pytest.raises(UserError, match=r"claims\.tsv holds no run times"):
        runtimes.main([str(folder)])


@pytest.mark.parametrize("text", ["", "a\n1\n", "\0"])
def test_damaged_run_times_of_before_are_named(folder, text):
    (folder / "runtimes.csv").write_text(text)
    with pytest.raises(UserError, match=r"runtimes\.csv holds no run times"):
        runtimes.main([str(folder)])
    (folder / "benchmarks" / "claims.tsv").unlink()
    with pytest.raises(UserError, match="no benchmark files"):
        runtimes.main([str(folder)])


@pytest.mark.parametrize("text", ["", 'name,mean\na,"1', "name,mean\na,1\na,1\n"])
def test_a_damaged_table_is_named(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=r"t\.csv .*; make it again"):
        verify.read(tmp_path / "t.csv")


def test_a_task_of_two_sets_is_two_rows(tmp_path):
    """Bug: `make verify` took MT3's and MT10's rows of one task for a row that is there twice."""
    (tmp_path / "t.csv").write_text("set,task,method,mean\nMT3,reach,sac,1\nMT10,reach,sac,0\n")
    assert verify.read(tmp_path / "t.csv")["mean"].tolist() == ["1", "0"]


@pytest.mark.parametrize("words", [[], ["nothing"], ["estimate"], ["targets"]])
def test_the_list_of_commands_says_what_it_takes(words):
    with pytest.raises(UserError, match="takes help, estimate SCALE or targets SCALE"):
        commands.main(words)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("claims.csv", text) for text in ("", "id\na\n", 'id,"\n', "\0")),
        *(("tables/table_4.csv", text) for text in ("", 'name,mean\na,"1')),
        *(("manifest.json", text) for text in ("", "{", '{"a": NaN}', '{"a": 1, "a": 2}')),
    ],
)
def test_a_damaged_result_is_named(folder, name, text):
    """Bug: a traceback of pandas or json that did not name the file."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    one = findings.Results(folder)
    read = {"claims.csv": lambda: one.claims, "manifest.json": lambda: one.file(name)}
    with pytest.raises(UserError, match=f"{re.escape(name)}.*; make it again"):
        read.get(name, lambda: one.table("table_4"))()


@pytest.mark.parametrize("fill", [readme.verdicts, readme.answers, readme.untested])
def test_pages_show_no_number_that_was_changed_after_publishing(tmp_path, fill):
    """Bug: a digit changed in a published table went into the README."""
    place = tmp_path / "results" / "published" / "quick"
    shutil.copytree(PUBLISHED, place)
    (place / "claims.csv").write_text(
        (place / "claims.csv").read_text().replace(",quick", ",Quick")
    )
    with pytest.raises(UserError, match=r"claims\.csv was changed after it was published"):
        fill(tmp_path)


@pytest.mark.parametrize("module", ["publishing.readme", "publishing.site"])
def test_an_unknown_option_does_nothing(module):
    """Bug: `--chek` rewrote the pages, and `--help` was taken for the folder of the site."""
    is_one_line(run(module, "--chek"), "--chek")
