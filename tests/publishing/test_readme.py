"""The README's tables are copies of published files, and its paths exist."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from publishing import readme, runtimes
from publishing.commands import usage
from system.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_blocks_are_replaced_and_the_rest_is_kept(tmp_path):
    (tmp_path / "table.md").write_text("| a |\n|---|\n| 1 |\n")
    text = "before\n<!-- begin table.md -->\nold\n<!-- end table.md -->\nafter\n"
    new = readme.filled(text, tmp_path)
    assert (
        new
        == "before\n<!-- begin table.md -->\n| a |\n|---|\n| 1 |\n<!-- end table.md -->\nafter\n"
    )
    assert readme.filled(new, tmp_path) == new


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.md"):
        readme.filled("<!-- begin nowhere.md -->\n<!-- end nowhere.md -->\n", tmp_path)


@pytest.mark.parametrize("page", readme.PAGES)
def test_pages_hold_what_is_published(page):
    text = (readme.ROOT / page).read_text(encoding="utf-8")
    assert len(readme.BLOCK.findall(text)) >= 2
    assert readme.filled(text) == text
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert ((readme.ROOT / page).parent / path).exists(), path


def test_a_page_that_differs_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "table.md").write_text("new\n")
    block = "<!-- begin table.md -->\n{}\n<!-- end table.md -->\n"
    (tmp_path / "README.md").write_text(block.format("new"))
    (tmp_path / "benchmarks/README.md").write_text(block.format("old"))
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    assert readme.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("benchmarks/README.md differs")
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0


def test_runtimes_sum_the_jobs_of_each_rule(tmp_path):
    files = {"train/a.tsv": (10.0, 50.0), "train/b.tsv": (20.0, 40.0), "figure_1.tsv": (1.0, 60.0)}
    for name, (seconds, memory) in files.items():
        path = tmp_path / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\n{seconds}\t{memory}\n")
    table = runtimes.runtimes(tmp_path)
    assert table.to_dict("list") == {
        "rule": ["train", "figure_1"],
        "jobs": [2, 1],
        "core_seconds": [30.0, 1.0],
        "longest": [20.0, 1.0],
        "memory": [50.0, 60.0],
    }
    runtimes.main([str(tmp_path)])
    assert "31" in (tmp_path / "runtimes.md").read_text()
    assert pd.read_csv(tmp_path / "runtimes.csv").rule.tolist() == ["train", "figure_1"]


def test_runtimes_know_trainings_by_their_runs_and_keep_older_rows(tmp_path):
    published = ROOT / "results/published/quick/runs/triad"
    shutil.copytree(published, tmp_path / "runs/triad")
    # Snakemake measured only one of them, in its last attempt.
    (tmp_path / "benchmarks/train_triad").mkdir(parents=True)
    (tmp_path / "benchmarks/train_triad/a.tsv").write_text("s\tmax_rss\n1.0\t1.0\n")
    (tmp_path / "runtimes.csv").write_text(
        "rule,jobs,core_seconds,longest,memory\ntrain_triad,1,5,5,5\nlandscape,1,77,77,7\n"
    )
    infos = [json.loads(path.read_text()) for path in published.rglob("run.json")]
    table = runtimes.runtimes(tmp_path).set_index("rule")
    assert table.loc["train_triad", "jobs"] == len(infos) > 1
    spent = sum(sum(info["seconds"].values()) for info in infos)
    assert table.loc["train_triad", "core_seconds"] == pytest.approx(spent)
    assert table.loc["landscape", "core_seconds"] == 77


def test_runtimes_without_a_run_say_so(tmp_path):
    with pytest.raises(UserError, match="run the pipeline first"):
        runtimes.runtimes(tmp_path)


# ------------------------------------------------------------------ the README as a reader meets it


README = readme.ROOT / "README.md"


def test_the_readme_is_short_and_no_block_is_long():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 14_000
    for match in readme.BLOCK.finditer(text):
        assert match["body"].count("\n") <= 14, match["path"]  # 12 rows and the head


def commands():
    """Every command that the README shows: the lines of its sh blocks and of its table."""
    text = README.read_text(encoding="utf-8")
    lines = [
        line.partition("#")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    cells = re.findall(r"\| `((?:make|snakemake) [^`]+)` \|", text)
    return sorted(
        {*lines, *cells, *re.findall(r"`(make \w+(?: SCALE=\w+)?|snakemake -n -q rules)`", text)}
    )


def test_the_readme_shows_commands():
    assert {"make reproduce", "make test", "make laptop", "snakemake -n -q rules"} <= set(
        commands()
    )


def to_try():
    """The commands; those of Snakemake that differ by their targets alone are one.

    A dry run takes seconds, nearly all of them before it looks at a target.
    """
    found = {}
    for command in commands():
        words, target, rest = command.partition(" results/")
        found.setdefault(words if command.startswith("snakemake ") else command, []).append(
            target + rest
        )
    return ["".join((words, *targets)) for words, targets in found.items()]


def test_every_command_is_tried():
    tried = " ".join(to_try()).split()
    assert {word for command in commands() for word in command.split()} <= {*tried}


@pytest.mark.parametrize("command", to_try())
def test_every_command_works_as_typed_in_a_fresh_shell(command):
    """Quick ones truly, long ones as a dry run: `make -n` and `snakemake -n -q rules`."""
    if not (readme.ROOT / ".venv" / "bin" / "activate").is_file():
        pytest.skip("no .venv beside the README")
    typed = command
    if command.startswith("make ") and command != "make help":
        typed = command.replace("make ", "make -n ")
    elif command.startswith("snakemake "):
        typed = f". .venv/bin/activate && {command.removesuffix(' -n -q rules')} -n -q rules"
    done = subprocess.run(
        [
            "env",
            "-i",
            f"HOME={os.environ['HOME']}",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "sh",
            "-c",
            typed,
        ],
        cwd=readme.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_the_python_block_runs_and_trains():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    found = {}
    exec(code, found)
    assert found["losses"][0].isfinite()
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 16


def test_help_names_every_target_and_what_the_long_ones_cost():
    text = usage(readme.ROOT)
    for target in ("reproduce", "test", "laptop", "docs", "article", "publish", "verify"):
        assert re.search(rf"^  {target} ", text, re.MULTILINE), target
    assert re.search(r"^  reproduce +\d+ min ", text, re.MULTILINE)
