"""The how-to pages, followed to the letter in a copy: a new experiment, its data, a new method."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
HOWTO = ROOT / "docs" / "howto"
OUTPUT = "results/mine/tables/table_lines.csv"


def page(name):
    return (HOWTO / name).read_text(encoding="utf-8")


def blocks(text, language):
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def files(text):
    """{path: content} of the blocks that follow a path and a colon at the end of a line."""
    found = re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return dict(found)


def commands(text, *words):
    """The commands of a page that hold one of the words."""
    lines = [
        line.partition("#")[0].strip() for part in blocks(text, "sh") for line in part.splitlines()
    ]
    found = [line for line in lines if any(word in line for word in words)]
    assert found
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("additions")
    for name in ("src", "experiments", "proofs", "notebooks", "profiles", "report"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, root / name)
    for path, text in files(page("experiment.md")).items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    (root / "experiments/lines/__init__.py").touch()
    (root / "data").mkdir()
    return root


def typed(root, command, status=0):
    """Run a command of a page in a shell; return all that it printed."""
    places = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
        "PCGRAD_DATA": str(root / "data"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=root,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def replaced(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_an_experiment_is_four_files(copy):
    """Bug: something else must be edited, or a command of the page does not work."""
    made = files(page("experiment.md"))
    assert len(made) == 4
    assert sum(text.count("\n") for text in made.values()) <= 120
    for command in commands(page("experiment.md"), "snakemake", "python"):
        typed(copy, command)
    assert set(pd.read_csv(copy / OUTPUT)["method"]) >= {"sum", "pcgrad", "pcgrad - sum"}
    assert (copy / "results/mine/runs/lines/pcgrad/seeds7-7/metrics.csv").is_file()


def test_a_stopped_training_goes_on(copy):
    stop, resume = commands(page("run.md"), "experiments.run lines")
    place = copy / "results/mine/runs/lines/pcgrad/seeds0-0/metrics.csv"
    unbroken = place.read_bytes()
    place.unlink()
    assert "stopped by --max-minutes" in typed(copy, stop, status=3)
    assert not place.exists()
    typed(copy, resume)
    assert place.read_bytes() == unbroken


def test_a_method_is_one_row_and_trains_only_itself(copy):
    """Bug: a new method trains old rows again."""
    rule, row = blocks(page("method.md"), "python")
    (listed,) = blocks(page("method.md"), "text")
    (asked,) = blocks(page("method.md"), "yaml")
    methods = copy / "src/multitask/methods.py"
    replaced(methods, "@cache\ndef _peer", f"{rule}\n\n@cache\ndef _peer")
    replaced(methods, "METHODS = {\n", row)
    replaced(copy / "config/mine.yaml", "    methods: [sum, pcgrad]\n", asked)
    replaced(copy / "experiments/lines/table_lines.py", '    methods=("sum", "pcgrad"),\n', listed)
    (command,) = commands(page("method.md"), "snakemake")
    output = typed(copy, command)
    assert "train_lines/halved" in output
    assert "train_lines/sum" not in output
    assert "train_lines/pcgrad" not in output
    table = pd.read_csv(copy / OUTPUT).set_index("method")
    assert table.loc["halved", "seeds"] == 1


def test_own_data_are_read_from_a_file(copy):
    """Bug: a missing file is a traceback, or new data leave old numbers in the table."""
    make, read = blocks(page("data.md"), "python")
    task = copy / "experiments/lines/task.py"
    text = task.read_text(encoding="utf-8")
    old = text[text.index("def data(") : text.index("def problem(")]
    replaced(task, old, f"{read}\n\n")
    before = pd.read_csv(copy / OUTPUT)["mean"].tolist()
    (command,) = commands(page("data.md"), "table_lines")
    said = typed(copy, command, status=1)
    assert "error: no data at" in said
    assert "Traceback" not in said.partition("error: no data at")[2]
    typed(copy, f"python - <<'END'\n{make}END")
    typed(copy, commands(page("data.md"), "lines.npz")[0])
    typed(copy, command)
    table = pd.read_csv(copy / OUTPUT)
    assert table["mean"].tolist() != before
    assert "lines.npz" in (copy / "results/mine/data/lines.json").read_text()
