"""NYUv2 end to end on generated rooms: rows, equal conditions, metrics, learnability, faults."""

from pathlib import Path

import pytest
import torch

from experiments import config as configs
from experiments.nyuv2 import task
from multitask import supervised
from multitask.dense import problem as dense
from multitask.methods import DynamicAverage, Method, Uncertainty, pcgrad
from multitask.models.dense_networks import ARCHITECTURES
from multitask.runs.checkpoint import Session
from multitask.runs.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
QUICK = configs.read(str(ROOT / "config/quick.yaml"))
SMALL = {
    "train_examples": 4,
    "test_examples": 3,
    "height": 32,
    "width": 32,
    "widths": [2, 2, 4, 4, 4],
}
SMALL |= {"epochs": 1, "batch_size": 2}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Those of the quick scale, generated data in a folder of the tests."""
    return {
        **configs.settings_of(QUICK, "nyuv2"),
        "train_examples": 80,  # quick's own number is too small to learn from every initial value
        "log_every": 20,
        "data_root": str(tmp_path_factory.mktemp("data")),
    }


@pytest.fixture
def small(settings):
    return {**settings, **SMALL}


def session(tmp_path):
    return Session(tmp_path / "c.pt", {}, every_seconds=1e9)


def test_rows_are_networks_weightings_and_pcgrad():
    assert len(task.METHODS) == 2 + 5 * 3 * 2
    assert {architecture for architecture, _ in dense.ROWS.values()} == set(ARCHITECTURES)
    assert dense.ROWS["one_task"] == ("one_task", Method())
    assert dense.ROWS["cross_stitch_dwa"] == ("cross_stitch", Method(DynamicAverage))
    assert dense.ROWS["mtan_uncertainty_pcgrad"] == ("mtan", Method(Uncertainty, pcgrad))
    assert set(QUICK["experiments"]["nyuv2"]["methods"]) <= set(task.METHODS)
    assert {dense.ROWS[row][0] for row in QUICK["experiments"]["nyuv2"]["methods"]} == set(
        ARCHITECTURES
    )


def test_rows_of_one_network_start_from_the_same_values_and_see_the_same_data(small):
    one, two = (
        task.problem("mtan_equal", 0, small),
        task.problem("mtan_uncertainty_pcgrad", 0, small),
    )
    first = one.model.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in two.model.state_dict().items())
    other = task.problem("mtan_equal", 1, small)
    assert not all(
        torch.equal(value, first[name]) for name, value in other.model.state_dict().items()
    )
    assert all(torch.equal(a, b) for a, b in zip(one.train, other.train, strict=True))


def test_tasks_and_shared_parameters(small):
    problem = task.problem("split_wide_equal", 0, small)
    assert problem.tasks == ("segmentation", "depth", "normal")
    assert [len(problem.train[0]), len(problem.evaluations["test"][0])] == [4, 3]
    assert len(list(problem.shared)) > 10
    assert len(list(task.problem("one_task", 0, small).shared)) == 0
    losses = problem.losses(tuple(part[:2] for part in problem.train), torch.Generator())
    assert [loss.shape for loss in losses] == [()] * 3
    assert all(0 < loss.item() < 100 for loss in losses)


METRICS = {
    "segmentation": {"loss", "mIoU_per_image", "PixAcc_per_image", "mIoU", "PixAcc"},
    "depth": {"loss", "AbsErr", "RelErr"},
    "normal": {"loss", "mean_angle", "median_angle", "within_11.25", "within_22.5", "within_30"},
}


@pytest.mark.parametrize("row", ["one_task", "dense_dwa", "mtan_uncertainty_pcgrad"])
def test_a_run_records_every_metric_and_the_size(small, tmp_path, row):
    records = task.train(row, 0, small, session(tmp_path))
    for name, metrics in METRICS.items():
        found = {metric for _, of, metric, _ in records.rows if of == name}
        assert found == {"train_loss"} | {f"test_{metric}" for metric in metrics}
    assert {step for step, _, metric, _ in records.rows if metric == "test_mIoU"} == {0, 1}
    sizes = [
        (step, value)
        for step, of, metric, value in records.rows
        if (of, metric) == ("all", "relative_parameters")
    ]
    expected = {"one_task": 3, "dense_dwa": 4.95, "mtan_uncertainty_pcgrad": 1.77}[row]
    assert sizes == [(0, pytest.approx(expected, rel=0.25))]
    assert ("all", "conflict_share") in {
        (of, metric) for _, of, metric, _ in records.rows
    } or "pcgrad" not in row


def test_evaluation_does_not_depend_on_training_state_or_order_of_calls(small):
    problem = task.problem("mtan_equal", 0, small)
    problem.model.eval()
    with torch.no_grad():
        first, second = (problem.evaluate(problem.evaluations["test"]) for _ in range(2))
    assert first == second


def test_fingerprint_says_that_the_rooms_are_generated(small):
    found = task.fingerprint(small)
    assert found["sha256"] == task.source(small).sha256
    assert {**found, "sha256": ""} == {
        "name": "generated",
        "real": False,
        "train": 4,
        "test": 3,
        "sha256": "",
    }
    assert task.fingerprint({**small, "data_seed": 1})["sha256"] != found["sha256"]


@pytest.mark.parametrize("change", [{"train_examples": 0}, {"test_examples": 0}, {"classes": 40}])
def test_settings_that_rooms_cannot_have_are_named(small, change):
    with pytest.raises(
        UserError, match=r"train_examples and test_examples above 0 and classes: 13"
    ):
        task.source({**small, **change})


def test_missing_real_data_are_named_with_their_place_and_terms(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PCGRAD_DATA", str(tmp_path))
    with pytest.raises(
        UserError, match=rf"no folder {tmp_path}/nyuv2/train/image; put NYUv2 .*research"
    ) as caught:
        task.fingerprint({**small, "data": "nyuv2"})
    assert "\n" not in str(caught.value)


def learns(row, settings, tmp_path):
    """Whether a run at the quick scale has 1.5 times the majority's accuracy and 0.8 of the best
    constant's error.
    """
    problem = task.problem(row, 0, settings)
    try:
        once = {**settings, "evaluate_every": settings["epochs"]}
        records = supervised.fit(problem, dense.ROWS[row][1], 0, once, session(tmp_path))
    except UserError:
        return False
    _, labels, depth, _ = problem.evaluations["test"]
    majority = 100 * labels[labels >= 0].long().bincount().max() / (labels >= 0).sum()
    assert majority < 35
    constant = (depth - problem.train[2].median()).abs().mean()
    accuracy, error = (
        records.last("segmentation", "test_PixAcc"),
        records.last("depth", "test_AbsErr"),
    )
    return accuracy >= 1.5 * majority and error <= 0.8 * constant


@pytest.mark.parametrize("row", [pytest.param("one_task", marks=pytest.mark.slow), "mtan_equal"])
def test_learns_at_the_quick_scale(row, settings, tmp_path):
    assert learns(row, settings, tmp_path)


def test_an_update_of_the_wrong_sign_does_not_pass_for_learning(settings, tmp_path, monkeypatch):
    def wrong(parameters, options):
        return torch.optim.Adam(parameters, lr=options["learning_rate"], maximize=True)

    monkeypatch.setattr(supervised, "make_optimizer", wrong)
    assert not learns("one_task", settings, tmp_path)
