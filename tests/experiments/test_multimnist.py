"""MultiMNIST end to end: data, equal conditions, learnability, resuming, golden trace."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import traces
from torch.nn import functional

from experiments import config as configs
from experiments import run
from experiments.multimnist import task
from multitask import supervised
from multitask.data.mnist import Digits
from multitask.methods import Method, pcgrad
from multitask.models.lenet import Dropout, LeNet
from multitask.runs.checkpoint import Session
from multitask.runs.errors import UserError
from multitask.runs.seeding import generator

ROOT = Path(__file__).resolve().parents[2]
QUICK = configs.read(str(ROOT / "config/quick.yaml"))
SETTINGS = configs.settings_of(QUICK, "multimnist")
# 50 steps; dropout on, validation on: every path of the loop counts.
TRACE = {
    **SETTINGS,
    "train_examples": 320,
    "test_examples": 100,
    "validation_share": 0.2,
    "epochs": 5,
    "batch_size": 26,
}
TRACE |= {"dropout": 0.5, "decay_every": 2, "learning_rate": 0.05, "log_every": 7}


def session(tmp_path):
    return Session(tmp_path / "c.pt", {}, every_seconds=1e9)


def test_methods_start_from_the_same_values():
    states = {method: task.problem(method, 0, TRACE).model for method in task.METHODS}
    first = states["sum"].state_dict()
    for method, model in states.items():
        for name, value in model.state_dict().items():
            assert torch.equal(value, first[name.replace("trunks.1.", "trunks.0.")]), (method, name)
    other = task.problem("sum", 1, TRACE).model.state_dict()
    assert not torch.equal(other["trunks.0.conv1.weight"], first["trunks.0.conv1.weight"])


def test_data_are_the_same_for_every_seed_and_method():
    one, two = task.problem("sum", 0, TRACE), task.problem("single_task", 5, TRACE)
    assert all(torch.equal(a, b) for a, b in zip(one.train, two.train, strict=True))
    assert {name: len(parts[0]) for name, parts in one.evaluations.items()} == {
        "validation": 64,
        "test": 100,
    }
    assert len(one.train[0]) == 256
    assert "validation" not in task.problem("sum", 0, {**TRACE, "validation_share": 0}).evaluations


def test_validation_digits_are_never_seen_in_training():
    values = torch.arange(1, 201, dtype=torch.uint8)
    images = (
        values[:, None, None].expand(-1, 28, 28).contiguous()
    )  # each digit is a square of its own gray
    digits = Digits((images, torch.zeros(200).long()), (images[:5], torch.zeros(5).long()), "")
    parts = task.splits(digits, {**TRACE, "train_examples": 1000})
    grays = {
        name: (parts[name][0] * 0.3081 + 0.1307).mul(255).round().unique()
        for name in ("train", "validation")
    }
    seen, held = (set(grays[name].tolist()) - {0.0} for name in ("train", "validation"))
    assert len(seen) == 160
    assert len(held) == 40
    assert not seen & held


def test_shared_parameters_are_the_trunk():
    problem = task.problem("pcgrad", 0, TRACE)
    assert sum(p.numel() for p in problem.shared) == 260 + 5020 + 16050
    assert sum(p.numel() for p in problem.model.parameters()) == 21330 + 2 * (
        50 * 50 + 50 + 50 * 10 + 10
    )
    single = task.problem("single_task", 0, TRACE)
    assert list(single.shared) == []
    left, _ = single.losses(tuple(part[:8] for part in single.train), generator(0, "dropout"))
    left.backward()
    assert all(p.grad is None for p in single.model.trunks[1].parameters()), (
        "the other network has no part in it"
    )
    assert all(p.grad is None for p in single.model.heads[1].parameters())


@pytest.mark.parametrize("form", ["base_code", "standard"])
def test_dropout(form):
    dropout = Dropout(0.25, form)
    trunk, heads = dropout.masks(4000, 2, generator(0, "dropout"), torch.zeros(()))
    assert trunk.shape == ((1, 20, 1, 1) if form == "base_code" else (4000, 20, 1, 1))
    kept = 1.0 if form == "base_code" else 1 / 0.75
    for mask in heads:
        assert mask.shape == (4000, 50)
        assert sorted(mask.unique().tolist()) == pytest.approx([0, kept])
        assert (mask > 0).float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert not torch.equal(heads[0], heads[1])


def test_no_dropout_in_evaluation_and_in_training_only_with_a_generator():
    torch.manual_seed(0)
    model, images = LeNet(2, Dropout(0.5, "base_code")), torch.randn(3, 1, 28, 28)
    plain = model(images)
    assert all(torch.equal(a, b) for a, b in zip(plain, model(images), strict=True))
    assert not torch.equal(plain[0], model(images, generator(0, "dropout"))[0])
    none = LeNet(2, Dropout(0.0, "standard"))
    none.load_state_dict(model.state_dict())
    assert torch.equal(plain[0], none(images, generator(0, "dropout"))[0])


def test_evaluation_is_plain_cross_entropy_and_accuracy():
    problem = task.problem("sum", 0, TRACE)
    images, *labels = problem.evaluations["test"]
    found = problem.evaluate(problem.evaluations["test"])
    for k, name in enumerate(task.TASKS):
        logits = problem.model(images)[k]
        assert found[name, "loss"] == pytest.approx(
            functional.cross_entropy(logits, labels[k]).item(), rel=1e-5
        )
        assert found[name, "accuracy"] == pytest.approx(
            100 * (logits.argmax(1) == labels[k]).float().mean().item()
        )


def majority(labels):
    """Percent right of the best constant answer."""
    return 100 * labels.bincount().max().item() / len(labels)


def learns(method, tmp_path):
    """Whether 2 quick epochs double the majority predictor's accuracy on both digits."""
    problem = task.problem(method, 0, SETTINGS)
    try:
        records = supervised.fit(
            problem, task.ROWS[method], 0, {**SETTINGS, "epochs": 2}, session(tmp_path)
        )
    except UserError:
        return False
    truth = dict(zip(task.TASKS, problem.evaluations["test"][1:], strict=True))
    return all(
        records.last(name, "test_accuracy") >= 2 * majority(labels)
        for name, labels in truth.items()
    )


@pytest.mark.parametrize("method", ["single_task", "sum", "pcgrad"])
def test_learns_at_the_quick_scale(method, tmp_path):
    assert learns(method, tmp_path)


def test_an_update_of_the_wrong_sign_does_not_pass_for_learning(tmp_path, monkeypatch):
    wrong = Method(gradients=lambda *given: -pcgrad(*given))
    monkeypatch.setitem(task.ROWS, "pcgrad", wrong)
    assert not learns("pcgrad", tmp_path)


def test_fingerprint_tells_real_data_from_embedded():
    assert task.fingerprint(SETTINGS) == {
        "name": "digits",
        "real": False,
        "train": 1437,
        "test": 360,
        "sha256": task.source(SETTINGS).sha256,
    }


def command(out, method="pcgrad", **changes):
    """Arguments of the training command for a run of about 60 steps, and its checkpoint."""
    config = {**QUICK, "experiments": {**QUICK["experiments"]}}
    block = {"train_examples": 640, "test_examples": 100, "epochs": 3, "dropout": 0.5, **changes}
    config["experiments"]["multimnist"] = {**QUICK["experiments"]["multimnist"], **block}
    arguments = [
        "multimnist",
        method,
        "--seeds",
        "0",
        "--config",
        json.dumps(config),
        "--out",
        str(out / "run"),
    ]
    return [
        *arguments,
        "--checkpoints",
        str(out / "checkpoints"),
    ], out / "checkpoints" / "multimnist" / method / "seed0.pt"


def test_kill_9_and_the_same_command_give_the_same_numbers(tmp_path):
    arguments, _ = command(tmp_path / "whole")
    assert run.main(arguments) == 0
    arguments, checkpoint = command(tmp_path / "killed")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments, "--checkpoint-seconds", "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    deadline = time.monotonic() + 180
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    state = torch.load(checkpoint, weights_only=True)["state"]
    assert "finished" not in state
    assert not any((tmp_path / "killed/run").rglob("*"))
    assert run.main(arguments) == 0
    assert not checkpoint.exists()
    whole, killed = (
        (tmp_path / name / "run/metrics.csv").read_bytes() for name in ("whole", "killed")
    )
    assert killed == whole


@pytest.mark.parametrize(
    ("changes", "method", "message"),
    [
        ({"learning_rate": 1e6}, "pcgrad", "lower the learning rate"),
        ({}, "pc_grad", "unknown method 'pc_grad' of multimnist; there are single_task, sum"),
    ],
)
def test_faults_are_one_line_and_leave_no_output(tmp_path, capsys, changes, method, message):
    arguments, _ = command(tmp_path, method, **changes)
    assert run.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("error: ")
    assert "\n" not in error
    assert not any((tmp_path / "run").rglob("*"))


def test_missing_data_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PCGRAD_DATA", str(tmp_path / "nowhere"))
    arguments, _ = command(tmp_path, data="mnist")
    assert run.main(arguments) == 2
    assert "is no folder; correct it" in capsys.readouterr().err


def trace(method, tmp_path):
    """All records of 50 steps in float64."""
    problem = task.problem(method, 0, TRACE)
    problem.model.double()
    wide = {name: (parts[0].double(), *parts[1:]) for name, parts in problem.evaluations.items()}
    object.__setattr__(problem, "evaluations", wide)
    object.__setattr__(problem, "train", (problem.train[0].double(), *problem.train[1:]))
    records = supervised.fit(problem, task.ROWS[method], 0, TRACE, session(tmp_path))
    return [list(row) for row in records.rows]


@pytest.mark.parametrize("method", task.METHODS)
def test_golden_trace(method, tmp_path):
    traces.check("multimnist", method, trace(method, tmp_path))


def regenerate():
    """Write the golden file."""
    torch.set_num_threads(1)
    content = {method: trace(method, Path("/nonexistent")) for method in task.METHODS}
    traces.write("multimnist", content)


if __name__ == "__main__":
    regenerate()
