"""CityScapes end to end on generated streets: differences from NYUv2, and learnability."""

from pathlib import Path

import pytest
import torch

from experiments import config as configs
from experiments.cityscapes import task
from multitask import supervised
from multitask.dense import problem as dense
from multitask.models.dense_networks import ARCHITECTURES
from multitask.runs.checkpoint import Session
from multitask.runs.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
QUICK = configs.read(str(ROOT / "config/quick.yaml"))
SMALL = {
    "train_examples": 4,
    "test_examples": 3,
    "widths": [2, 2, 4, 4, 4],
    "epochs": 1,
    "batch_size": 2,
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Those of the quick scale, generated data in a folder of the tests."""
    return {
        **configs.settings_of(QUICK, "cityscapes"),
        "data_root": str(tmp_path_factory.mktemp("data")),
    }


@pytest.fixture
def small(settings):
    return {**settings, **SMALL}


def session(tmp_path):
    return Session(tmp_path / "c.pt", {}, every_seconds=1e9)


def test_two_tasks_and_every_network(small):
    problem = task.problem("mtan_equal", 0, small)
    assert problem.tasks == ("segmentation", "depth")
    assert len(problem.train) == 3
    methods = QUICK["experiments"]["cityscapes"]["methods"]
    assert set(methods) <= set(task.METHODS)
    assert {dense.ROWS[row][0] for row in methods} == set(ARCHITECTURES)


@pytest.mark.parametrize("row", ["stan", "cross_stitch_uncertainty", "mtan_equal_pcgrad"])
def test_a_run_records_every_metric_and_the_size(small, tmp_path, row):
    records = task.train(row, 0, small, session(tmp_path))
    found = {
        (of, metric)
        for _, of, metric, _ in records.rows
        if metric.startswith("test_") or of != "all"
    }
    named = {
        "segmentation": ("mIoU_per_image", "PixAcc_per_image", "mIoU", "PixAcc"),
        "depth": ("AbsErr", "RelErr"),
    }
    for name, metrics in named.items():
        assert {metric for of, metric in found if of == name} == {
            "train_loss",
            "test_loss",
            *(f"test_{m}" for m in metrics),
        }
    expected = {"stan": 3.04, "cross_stitch_uncertainty": 2, "mtan_equal_pcgrad": 1.65}[row]
    assert records.last("all", "relative_parameters") == pytest.approx(expected, rel=0.25)


def test_fingerprint_and_missing_real_data(small, tmp_path, monkeypatch):
    assert {**task.fingerprint(small), "sha256": ""} == {
        "name": "generated",
        "real": False,
        "train": 4,
        "test": 3,
        "sha256": "",
    }
    monkeypatch.setenv("PCGRAD_DATA", str(tmp_path))
    with pytest.raises(
        UserError,
        match=rf"no folder {tmp_path}/cityscapes/train/image; .* non-commercial .*registration",
    ):
        task.fingerprint({**small, "data": "cityscapes"})


def test_the_real_layout_is_read_as_real(small, tmp_path, monkeypatch):
    """Any folder at the place of the real set is read by the same loader and called real."""
    made = task.streets(tmp_path, {"train": 4, "val": 3}, small["height"], small["width"], 0)
    made.rename(tmp_path / "cityscapes")
    monkeypatch.setenv("PCGRAD_DATA", str(tmp_path))
    real = {**small, "data": "cityscapes"}
    assert task.fingerprint(real)["real"] is True
    assert task.fingerprint(real)["sha256"] == task.fingerprint({**small, "data_seed": 0})["sha256"]
    with pytest.raises(UserError, match="holds 4 examples, not 2975"):
        task.source({**real, "train_examples": 2975})


def learns(row, settings, tmp_path):
    """Whether a run at the quick scale doubles the majority's accuracy and cuts the best constant's
    error to 0.7.
    """
    problem = task.problem(row, 0, settings)
    try:
        once = {**settings, "evaluate_every": settings["epochs"]}
        records = supervised.fit(problem, dense.ROWS[row][1], 0, once, session(tmp_path))
    except UserError:
        return False
    _, labels, depth = problem.evaluations["test"]
    majority = 100 * labels[labels >= 0].long().bincount().max() / (labels >= 0).sum()
    assert majority < 35
    known, seen = depth[depth > 0], problem.train[2]
    constant = (known - seen[seen > 0].median()).abs().mean()
    accuracy, error = (
        records.last("segmentation", "test_PixAcc"),
        records.last("depth", "test_AbsErr"),
    )
    return accuracy >= 2 * majority and error <= 0.7 * constant


@pytest.mark.parametrize("row", ["one_task", "split_wide_equal", "mtan_equal"])
def test_learns_at_the_quick_scale(row, settings, tmp_path):
    assert learns(row, settings, tmp_path)


def test_an_update_of_the_wrong_sign_does_not_pass_for_learning(settings, tmp_path, monkeypatch):
    def wrong(parameters, options):
        return torch.optim.Adam(parameters, lr=options["learning_rate"], maximize=True)

    monkeypatch.setattr(supervised, "make_optimizer", wrong)
    assert not learns("split_wide_equal", settings, tmp_path)
