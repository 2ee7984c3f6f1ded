"""Choosing a grid's point: the best validation value wins, and the test set is not read."""

import csv
import json

import pytest

from reporting.tuning import METRIC, choose, on_edge, write
from system.results import describe

DEFAULT = {
    "experiment": "multimnist",
    "method": "sum",
    "scale": "laptop",
    "data": {"name": "mnist"},
    "code_hash": "0123456789abcdef",
}


@pytest.fixture
def point(tmp_path):
    """point(rate, decay, {seed: (left, right)}) writes a point's run folder below tmp_path/grid."""

    def make(rate, decay, accuracies, *, settings=None, more=(), **info):
        folder = tmp_path / "grid" / f"learning_rate_{rate}_weight_decay_{decay}"
        folder.mkdir(parents=True)
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["seed", "step", "task", "metric", "value"])
            for seed, tasks in accuracies.items():
                rows = [
                    (step, task, value - 50 * (step == 0))
                    for step in (0, 2)
                    for task, value in tasks
                ]
                writer.writerows((seed, step, task, METRIC, value) for step, task, value in rows)
            writer.writerows(more)
        values = {"learning_rate": rate, "weight_decay": decay}
        budget = {
            "epochs": 2,
            "validation_share": 0.1,
            "batch_size": 32,
            **values,
            **(settings or {}),
        }
        content = {**DEFAULT, "seeds": [0], "point": values, "settings": budget, **info}
        content["metrics"] = describe((folder / "metrics.csv").read_bytes())
        (folder / "run.json").write_text(json.dumps(content))
        return folder.parent

    return make


def both(left, right):
    return [("left", left), ("right", right)]


def test_the_best_mean_over_tasks_and_seeds_wins(point):
    seeds = {"seeds": [0, 1]}
    point(0.01, 0.0, {0: both(90.0, 80.0), 1: both(91.0, 81.0)}, **seeds)
    point(
        0.05, 0.0, {0: both(99.0, 60.0), 1: both(99.0, 60.0)}, **seeds
    )  # one task alone does not win
    grid = point(0.1, 0.0, {0: both(92.0, 78.0), 1: both(84.0, 92.0)}, **seeds)
    found = choose(grid)
    assert found["chosen"] == {"learning_rate": 0.1, "weight_decay": 0.0}
    assert found["value"] == pytest.approx(86.5)
    assert [line["value"] for line in found["grid"]] == pytest.approx([85.5, 79.5, 86.5])
    assert found["edges"] == ["learning_rate"]
    assert found["budget"] == {
        "learning_rate": [0.01, 0.05, 0.1],
        "weight_decay": [0.0],
        "metric": METRIC,
        "seeds": [0, 1],
        "epochs": 2,
        "validation_share": 0.1,
    }
    assert (found["experiment"], found["method"], found["scale"]) == ("multimnist", "sum", "laptop")


def test_the_last_epoch_counts_and_not_the_test(point):
    early = [(0, 1, task, METRIC, 99.9) for task in ("left", "right")]
    tested = [(0, 2, task, "test_accuracy", 100.0) for task in ("left", "right")]
    point(0.01, 0.0, {0: both(50.0, 50.0)}, more=[*early, *tested])
    assert choose(point(0.05, 0.0, {0: both(60.0, 60.0)}))["chosen"]["learning_rate"] == 0.05


def test_an_average_task_is_not_counted_twice(point):
    grid = point(0.01, 0.0, {0: [*both(50.0, 60.0), ("all", 100.0)]})
    assert choose(grid)["value"] == pytest.approx(55.0)


def test_of_equals_the_smallest_values_win(point):
    for rate, decay in ((0.1, 0.0), (0.05, 1e-4), (0.05, 5e-4)):
        grid = point(rate, decay, {0: both(90.0, 90.0)})
    assert choose(grid)["chosen"] == {"learning_rate": 0.05, "weight_decay": 1e-4}


def test_a_diverged_point_is_listed_and_never_chosen(point):
    point(0.1, 0.0, {})
    point(0.05, 0.0, {0: both(float("nan"), 99.0)})
    found = choose(point(0.01, 0.0, {0: both(10.0, 10.0)}))
    assert found["chosen"]["learning_rate"] == 0.01
    assert [line["value"] for line in found["grid"]] == [10.0, None, None]


def test_a_seed_that_diverged_disqualifies_its_point(point):
    point(0.1, 0.0, {0: both(99.0, 99.0)}, seeds=[0, 1])
    found = choose(point(0.01, 0.0, {0: both(10.0, 10.0), 1: both(10.0, 10.0)}, seeds=[0, 1]))
    assert found["chosen"]["learning_rate"] == 0.01


@pytest.mark.parametrize(
    ("value", "axis", "expected"),
    [
        (0.01, [0.01, 0.05, 0.1], True),
        (0.05, [0.01, 0.05, 0.1], False),
        (0.1, [0.01, 0.05, 0.1], True),
        (0.0, [0.0, 1e-4], False),  # a penalty cannot be smaller
        (1e-4, [0.0, 1e-4], True),
        (0.05, [0.05], False),  # not tuned
    ],
)
def test_edges(value, axis, expected):
    assert on_edge(value, axis) is expected


@pytest.mark.parametrize(
    "change",
    [
        {"code_hash": "f" * 16},
        {"data": {"name": "digits"}},
        {"settings": {"epochs": 3}},
        {"settings": {"batch_size": 64}},
        {"seeds": [0, 1]},
        {"method": "pcgrad"},
    ],
)
def test_unequal_points_are_refused(point, change):
    point(0.01, 0.0, {0: both(1.0, 1.0)})
    grid = point(0.05, 0.0, {0: both(2.0, 2.0)}, **change)
    with pytest.raises(ValueError, match="mixes points of different runs") as caught:
        choose(grid)
    assert "\n" not in str(caught.value)


def test_nothing_to_choose_from_is_one_line(point, tmp_path):
    with pytest.raises(ValueError, match="holds no trained point"):
        choose(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"diverged; add a smaller learning_rate"):
        choose(point(0.1, 0.0, {}))


@pytest.mark.parametrize("missing", ["point", "settings", "code_hash"])
def test_a_point_without_a_part_of_its_description_is_named(point, missing):
    path = next(point(0.1, 0.0, {0: both(1.0, 1.0)}).glob("*/run.json"))
    info = json.loads(path.read_text())
    del info[missing]
    path.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=rf"run\.json has no '{missing}'; run rule tune again"):
        choose(path.parent.parent)


def test_a_grid_that_held_out_nothing_has_not_diverged(point):
    with pytest.raises(ValueError, match="validation_share holds out no example"):
        choose(point(0.1, 0.0, {}, more=[(0, 2, "left", "loss", 1.0)]))


def test_the_file_says_what_was_chosen(point, tmp_path):
    grid = point(0.01, 0.0, {0: both(10.0, 20.0)})
    write(grid, tmp_path / "new" / "chosen.json")
    assert json.loads((tmp_path / "new" / "chosen.json").read_text()) == choose(grid)
