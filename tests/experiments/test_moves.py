"""`python -m experiments.moves` on a small project with one golden trace."""

import subprocess

import pytest
import yaml

from experiments import moves
from multitask.runs import sources
from multitask.runs.errors import UserError

FILES = {
    "src/core.py": "def step(x):\n    return 0.5 * x\n",
    "experiments/run.py": "def train_one():\n    pass\n\n\ndef prepare_torch():\n    pass\n",
    "experiments/landscape/run.py": "def run():\n    return 0\n",
    "config/paper.yaml": "scale: paper\n",
    "tests/golden/lines.json": "[0.5]\n",
    "tests/write.py": """import json
from pathlib import Path

from core import step

trace = [step(1.0), step(1 / 3)]
(Path(__file__).parent / "golden/lines.json").write_text(json.dumps(trace))
""",
}
TASK = """from core import step

METHODS = ("sum", "pcgrad")


def fingerprint(settings):
    return {}


def train(method, seed, settings, session):
    return step(1.0)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository whose experiments `lines` (traced) and `others` take the same step."""
    tasks = {f"experiments/{name}/task.py": TASK for name in ("lines", "others")}
    for path, text in {**FILES, **tasks}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "before")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(moves, "ROOT", tmp_path)
    monkeypatch.setattr(moves, "WRITERS", ("write.py",))
    for module in (moves, sources):
        monkeypatch.setattr(module, "MOVES", tmp_path / "experiments/moves.yaml")
    sources._moves.cache_clear()
    sources._code.cache_clear()
    yield tmp_path
    sources._moves.cache_clear()
    sources._code.cache_clear()


def change(root, path, old, new):
    file = root / path
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_a_neutral_change_keeps_the_hashes(project):
    before = sources.training_hash("lines", "sum", project)
    change(project, "src/core.py", "0.5 * x", "x / 2")
    sources._code.cache_clear()
    assert sources.training_hash("lines", "sum", project) != before

    moves.record("HEAD", "halved by division")

    (block,) = yaml.safe_load((project / "experiments/moves.yaml").read_text(encoding="utf-8"))
    assert block["reason"] == "halved by division"
    # The data and the landscape do not take the step.
    assert {name: set(rows) for name, rows in block["hashes"].items()} == {
        "lines": {"sum", "pcgrad"},
        "others": {"sum", "pcgrad"},
    }
    sources._moves.cache_clear()
    assert sources.training_hash("lines", "sum", project) == before


def test_a_change_of_the_numbers_is_refused(project):
    change(project, "src/core.py", "0.5 * x", "0.5 * x + 1e-6")
    with pytest.raises(UserError, match="golden trace lines: its numbers changed"):
        moves.record("HEAD", "wrong")
    assert not (project / "experiments/moves.yaml").exists()


def test_a_changed_task_without_a_trace_gets_a_new_hash(project, capsys):
    for name in ("lines", "others"):
        change(project, f"experiments/{name}/task.py", "step(1.0)", "step(1)")
    moves.record("HEAD", "whole numbers")
    (block,) = yaml.safe_load((project / "experiments/moves.yaml").read_text(encoding="utf-8"))
    assert set(block["hashes"]) == {"lines"}
    assert "experiments/others/task.py changed" in capsys.readouterr().out


def test_no_change_records_nothing_and_an_unknown_commit_is_named(project, capsys):
    moves.record("HEAD", "nothing")
    assert "nothing to record" in capsys.readouterr().out
    assert not (project / "experiments/moves.yaml").exists()
    with pytest.raises(UserError, match="elsewhere is no commit"):
        moves.record("elsewhere", "nothing")


def test_methods_whose_numbers_were_meant_to_change_get_a_new_hash(project):
    """The trace of one method changes, the other's stays."""
    writer = project / "tests/write.py"
    writer.write_text(
        writer.read_text(encoding="utf-8").replace(
            "json.dumps(trace)", 'json.dumps({"sum": [1.0], "pcgrad": trace})'
        ),
        encoding="utf-8",
    )
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    subprocess.run(["git", *who, "commit", "-qam", "two"], cwd=project, check=True)
    change(project, "src/core.py", "0.5 * x", "0.5 * x + 1e-6")
    with pytest.raises(UserError, match="golden trace lines/pcgrad: its numbers changed"):
        moves.record("HEAD", "wrong")
    moves.record("HEAD", "another step for pcgrad", ["lines/pcgrad", "others/pcgrad"])
    (block,) = yaml.safe_load((project / "experiments/moves.yaml").read_text(encoding="utf-8"))
    assert {name: set(rows) for name, rows in block["hashes"].items()} == {
        "lines": {"sum"},
        "others": {"sum"},
    }


@pytest.mark.parametrize("name", ["lines", "lines/mgda", "circles/sum"])
def test_an_unknown_method_after_but_is_named(name, project):
    with pytest.raises(UserError, match=f"--but {name}: "):
        moves.main(["HEAD", "why", "--but", name])
