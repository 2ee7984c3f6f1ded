"""The code hash: edits that must retrain a run, and edits that must not."""

import shutil

import pytest
import yaml

from multitask.runs import sources
from multitask.runs.sources import ROOT, code_hash, training_hash
from system.errors import UserError

# A few rows whose code differs: loops, data, architectures, learning rules.
ROWS = {
    ("multimnist", "sum"),
    ("multimnist", "pcgrad"),
    ("cifar100", "routing"),
    ("nyuv2", "mtan_equal_pcgrad"),
    ("celeba", "pcgrad"),
    ("triad", "sac_pcgrad"),
    ("metaworld_mt10", "gradnorm"),
    ("goal_conditioned", "sac"),
}
SUPERVISED = {row for row in ROWS if row[0] in ("multimnist", "cifar100", "nyuv2", "celeba")}


@pytest.fixture
def retrained(tmp_path):
    """A function that edits a copy of the sources and returns the rows whose hash changes."""
    for folder in ("src", "experiments"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.csv", "*.pyc")
        )
    before = {row: training_hash(*row) for row in ROWS}

    def edit(path, old, new):
        file = tmp_path / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"{path} no longer holds {old!r}: choose another edit"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")
        sources._code.cache_clear()
        return {row for row in ROWS if training_hash(*row, root=tmp_path) != before[row]}

    yield edit
    sources._code.cache_clear()


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        # a new method: a row of a table
        (
            "src/multitask/methods.py",
            "METHODS = {\n",
            "def new(gramian, orders, reduction):\n    return gramian.diagonal()\n\n\n"
            'METHODS = {\n    "new": Method(gradients=new),\n',
        ),
        (
            "src/multitask/rl/sac/methods.py",
            'METHODS = {\n    "',
            'METHODS = {\n    "new": Method(own="all"),\n    "',
        ),
        # a helper of another experiment, in a module that these runs import
        ("src/multitask/data/download.py", "def ", "def helper(x):\n    return 2 * x\n\n\ndef "),
        ("src/multitask/data/mnist.py", "def enlarge(", "OTHER = 3\n\n\ndef enlarge("),
        # words
        ("src/multitask/supervised.py", '"""Trains', '"""One loop trains'),
        ("src/multitask/supervised.py", "def fit(", "# why\ndef fit("),
        # reports, and the command around the runs
        ("src/reporting/statistics.py", "def ", "def more():\n    return 1\n\n\ndef "),
        ("experiments/run.py", "--seeds takes", "--seeds wants"),
    ],
)
def test_these_edits_retrain_nothing(retrained, path, old, new):
    assert retrained(path, old, new) == set()


@pytest.mark.parametrize(
    ("path", "old", "new", "rows"),
    [
        ("src/multitask/supervised.py", "self.step += 1", "self.step += 2", SUPERVISED),
        ("src/multitask/rl/sac/losses.py", "0.5", "0.6", ROWS - SUPERVISED),
        (
            "src/multitask/data/multimnist.py",
            "CANVAS = 36",
            "CANVAS = 37",
            {row for row in ROWS if row[0] == "multimnist"},
        ),
        (
            "src/multitask/models/mtan.py",
            "super().__init__()",
            "super().__init__()\n        self.x = 1",
            {("nyuv2", "mtan_equal_pcgrad")},
        ),
        (
            "src/multitask/rl/sac/methods.py",
            '"gradnorm": Method(gradnorm=True)',
            '"gradnorm": Method(gradnorm=True, own="head")',
            {("metaworld_mt10", "gradnorm")},
        ),
        (
            "src/multitask/methods.py",
            '"pcgrad": Method(gradients=pcgrad)',
            '"pcgrad": Method(gradients=cagrad)',
            {("multimnist", "pcgrad"), ("celeba", "pcgrad")},
        ),
        ("src/pcgrad/_measures.py", "    return ", "    return 0 * ", ROWS),
        # a statement that runs at import, in a module that the run only passes through
        ("src/pcgrad/__init__.py", "__all__", "print()\n__all__", ROWS),
    ],
)
def test_these_edits_retrain_exactly_what_they_change(retrained, path, old, new, rows):
    assert retrained(path, old, new) == rows


def test_a_moved_definition_keeps_the_hash(retrained, tmp_path):
    text = (tmp_path / "src/multitask/runs/devices.py").read_text(encoding="utf-8")
    (tmp_path / "src/multitask/runs/place.py").write_text(text, encoding="utf-8")
    old, new = "multitask.runs.devices import", "multitask.runs.place import"
    assert retrained("experiments/multimnist/task.py", old, new) == set()


def test_every_row_of_every_experiment_has_a_hash_that_says_its_method():
    hashes = {row: training_hash(*row) for row in ROWS}
    assert len(set(hashes.values())) == len(ROWS)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        training_hash("nowhere", "sum")


def test_recorded_moves_lead_to_the_oldest_hash(tmp_path, monkeypatch):
    moves = [
        {"reason": "moved", "hashes": {"one": {"sum": ["a", "b"], "pcgrad": ["a", "c"]}}},
        {"reason": "moved again", "hashes": {"one": {"sum": ["b", "d"]}}},
    ]
    (tmp_path / "moves.yaml").write_text(yaml.safe_dump(moves), encoding="utf-8")
    monkeypatch.setattr(sources, "MOVES", tmp_path / "moves.yaml")
    sources._moves.cache_clear()
    assert [sources.canonical(one) for one in "abcde"] == ["a", "a", "a", "a", "e"]
    sources._moves.cache_clear()


def test_code_hash_sees_code_but_not_prose(tmp_path):
    def hashed(text):
        (tmp_path / "a.py").write_text(text)
        return code_hash(["a.py"], root=tmp_path)

    original = hashed('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    assert hashed('"""Other."""\n\ndef f(x):  # comment\n    return x + 1\n') == original
    assert hashed("def f(x: int) -> int:\n    return x + 1\n") == original
    assert hashed("def f(x):\n    return x + 2\n") != original
    assert hashed('def f(x):\n    y = "not a docstring"\n    return x + 1\n') != original
    (tmp_path / "b.py").write_text("x = 1\n")
    assert code_hash(["."], root=tmp_path) != code_hash(["a.py"], root=tmp_path)


def test_code_hash_refuses_a_missing_source(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        code_hash(["nowhere"], root=tmp_path)


@pytest.mark.parametrize(
    "text", ["<<<<<<< HEAD\n- a: 1\n", "- 5", "- {}", "- hashes: {a: {b: []}}"]
)
def test_damaged_moves_are_one_line(tmp_path, monkeypatch, text):
    (tmp_path / "moves.yaml").write_text(text)
    monkeypatch.setattr(sources, "MOVES", tmp_path / "moves.yaml")
    sources._moves.cache_clear()
    with pytest.raises(UserError, match=r"moves\.yaml.*; restore it from the repository"):
        sources.canonical("0")
    sources._moves.cache_clear()
