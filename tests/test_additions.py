"""CONTRIBUTING's two additions, made in a copy: a new experiment and a new method."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]

TASK = '''"""Two linear regressions of shared inputs."""

import torch

from multitask.methods import METHODS as ROWS
from multitask.runs.seeding import generator, initialization
from multitask.supervised import Problem, fit

METHODS = tuple(ROWS)


def data(settings):
    draw = generator(settings["data_seed"], "lines")
    inputs = torch.randn(settings["examples"], 3, generator=draw)
    return inputs, inputs.sum(1), inputs[:, 0] - inputs[:, 1]


def fingerprint(settings):
    return {"name": "lines", "real": False, "examples": len(data(settings)[0])}


def problem(seed, settings):
    with initialization(seed):
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    def losses(batch, draw):
        found = model(batch[0])
        return [(found[:, task] - batch[1 + task]).square().mean() for task in range(2)]

    def evaluate(examples):
        return {(str(task), "loss"): loss.item() \
for task, loss in enumerate(losses(examples, None))}

    rows, shared = data(settings), list(model[0].parameters())
    return Problem(("0", "1"), model, shared, rows, {"test": rows}, losses, evaluate)


def train(method, seed, settings, session):
    return fit(problem(seed, settings), ROWS[method], seed, settings, session)
'''
SETTINGS = '''"""Two linear regressions."""

from dataclasses import dataclass

from multitask.settings import Supervised
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Supervised):
    """Ours."""

    examples: int = given(64, "ours", "Examples to train and test on.", least=1)
    data_seed: int = given(0, "ours", "Seed of the examples.", least=0)
    epochs: int = given(2, "ours")
    batch_size: int = given(32, "ours")
    optimizer: str = given("adam", "ours")
    learning_rate: float = given(0.01, "ours")
    decay: float = given(1.0, "ours")
    decay_every: int = given(1, "ours")
'''
TABLE = '''"""The losses of both regressions."""

from reporting.comparison import Comparison
from reporting.tables import Quantity

TABLE = Comparison(
    source="lines",
    title="Two lines",
    experiment="lines",
    methods=("sum", "pcgrad", "halved"),
    pairs=(("pcgrad", "sum"),),
    quantities=(Quantity("0", "test_loss", "first", 4, compare=True),),
    paper_rows={},
)
'''
CONFIG = """scale: mine
experiments:
  lines:
    methods: [sum, pcgrad]
    seeds: [0]
"""
THEORY = """theory: {seed: 0, instances: 1, trajectories: 1, updates: 1,
         high_dimensions: [100], search_rounds: 1}
"""
HALVED = '''def halved(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """Half of the plain sum."""
    return torch.full_like(gramian.diagonal(), 0.5)


'''
OUTPUT = "results/mine/tables/table_lines.csv"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("additions")
    for name in ("src", "experiments", "proofs", "notebooks", "profiles", "report"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, root / name)
    files = {"task.py": TASK, "settings.py": SETTINGS, "table_lines.py": TABLE}
    (root / "experiments/lines").mkdir()
    for name, text in files.items():
        (root / "experiments/lines" / name).write_text(text, encoding="utf-8")
    (root / "config").mkdir()
    (root / "config/mine.yaml").write_text(CONFIG + THEORY, encoding="utf-8")
    return root


def snakemake(root, *words):
    command = [sys.executable, "-m", "snakemake", "--configfile", "config/mine.yaml", *words]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_an_experiment_is_four_files_and_a_method_two(copy):
    """Bug: something else must be edited, or a new method trains old rows again."""
    lines = sum(text.count("\n") for text in (TASK, SETTINGS, TABLE, CONFIG))
    assert lines <= 120
    snakemake(copy, "--cores", "2", OUTPUT)
    assert set(pd.read_csv(copy / OUTPUT)["method"]) >= {"sum", "pcgrad", "pcgrad - sum"}

    methods = copy / "src/multitask/methods.py"
    text = methods.read_text(encoding="utf-8")
    text = text.replace("@cache\ndef _peer", HALVED + "@cache\ndef _peer")
    row = 'METHODS = {\n    "halved": Method(gradients=halved),\n'
    methods.write_text(text.replace("METHODS = {\n", row), encoding="utf-8")
    config = copy / "config/mine.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace("[sum, pcgrad]", "[sum, pcgrad, halved]"),
        encoding="utf-8",
    )
    output = snakemake(copy, "--cores", "2", OUTPUT)
    assert "train_lines/halved" in output
    assert "train_lines/sum" not in output
    assert "train_lines/pcgrad" not in output
    table = pd.read_csv(copy / OUTPUT).set_index("method")
    assert table.loc["halved", "seeds"] == 1
