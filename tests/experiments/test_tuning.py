"""Tuning end to end: the grid's runs, the rows with tuned values, the command that finds data."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import config as configs
from experiments import data, run
from experiments.config import check
from multitask.runs.errors import UserError
from reporting import tuning

ROOT = Path(__file__).resolve().parents[2]
TINY = configs.read(str(ROOT / "tests/tiny.yaml"))
GRID = {
    "learning_rate": [0.01, 0.05],
    "weight_decay": [0.0, 0.001],
    "epochs": 2,
    "validation_share": 0.2,
    "seeds": [0],
}


@pytest.fixture(autouse=True)
def restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def config(**changes):
    """The tiny config as text, its multimnist block changed; without held-out images, as at real
    scales.
    """
    block = {
        **TINY["experiments"]["multimnist"],
        "validation_share": 0,
        "tuning": {"methods": [], **GRID},
        **changes,
    }
    return json.dumps({**TINY, "experiments": {"multimnist": block}})


def train(root, method, *more, text=None):
    """Run the command into the folder that its rule would name; (exit status, that folder)."""
    place = (
        f"tuning/multimnist/{method}/grid"
        if "--grid" in more
        else f"runs/multimnist/{method}/seeds0-0"
    )
    out = root / "results/tiny" / place
    arguments = more if "--grid" in more else ("--seeds", "0", *more)
    return run.main(
        ["multimnist", method, *arguments, "--config", text or config(), "--out", str(out)]
    ), out


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if "seconds" not in row["metric"]]


def info(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder in which pcgrad was tuned, chosen and trained with its values."""
    root = tmp_path_factory.mktemp("tuned")
    status, grid = train(root, "pcgrad", "--grid")
    assert status == 0
    chosen = grid.with_name("chosen.json")
    tuning.write(grid, chosen)
    assert train(root, "pcgrad_tuned", "--chosen", str(chosen))[0] == 0
    return root


def test_every_point_of_the_grid_is_trained_by_its_own_values(tuned):
    folders = sorted((tuned / "results/tiny/tuning/multimnist/pcgrad/grid").iterdir())
    found = [info(folder) for folder in folders]
    wanted = [
        {"learning_rate": a, "weight_decay": b}
        for a in GRID["learning_rate"]
        for b in GRID["weight_decay"]
    ]
    assert [one["point"] for one in found] == wanted
    for one in found:
        assert {key: one["settings"][key] for key in one["point"]} == one["point"]
        assert (one["settings"]["epochs"], one["settings"]["validation_share"]) == (2, 0.2)
        assert one["method"] == "pcgrad"
    assert len({json.dumps(rows(folder)) for folder in folders}) == 4, (
        "each point has numbers of its own"
    )


def test_a_grid_holds_no_number_of_the_test(tuned):
    for folder in (tuned / "results/tiny/tuning/multimnist/pcgrad/grid").iterdir():
        metrics = {row["metric"] for row in rows(folder)}
        assert "validation_accuracy" in metrics
        assert not [metric for metric in metrics if metric.startswith("test")]


def test_the_choice_is_the_best_point(tuned):
    grid = tuned / "results/tiny/tuning/multimnist/pcgrad/grid"
    best = {}
    for folder in grid.iterdir():
        last = [
            row
            for row in rows(folder)
            if row["metric"] == "validation_accuracy" and row["step"] == "2"
        ]
        assert len(last) == 2
        best[folder.name] = sum(float(row["value"]) for row in last) / 2
    choice = json.loads(grid.with_name("chosen.json").read_text())
    assert choice["value"] == pytest.approx(max(best.values()))
    name = "_".join(f"{key}_{value}" for key, value in choice["chosen"].items())
    assert best[name] == pytest.approx(choice["value"])


def test_a_tuned_row_is_the_method_with_the_chosen_values_on_all_of_train(tuned, tmp_path):
    folder = tuned / "results/tiny/runs/multimnist/pcgrad_tuned/seeds0-0"
    choice = json.loads((tuned / "results/tiny/tuning/multimnist/pcgrad/chosen.json").read_text())
    found = info(folder)
    assert found["method"] == "pcgrad_tuned"
    assert found["chosen"] == choice["chosen"]
    assert found["tuning"]["budget"] == choice["budget"]
    block = configs.settings_of(json.loads(config()), "multimnist")
    assert found["settings"] == {key: value for key, value in block.items() if key != "data_root"}
    status, plain = train(tmp_path, "pcgrad", text=config(**choice["chosen"]))
    assert status == 0
    assert rows(plain) == rows(folder), "the same numbers as with the values in the config"
    assert not [row for row in rows(folder) if row["metric"].startswith("validation")]
    assert not list(tuned.rglob("*.pt"))


def test_a_grid_broken_off_goes_on_to_the_same_bytes(tuned, tmp_path):
    for _ in range(10):  # a step each: the first point's 8, then two of the second's
        status, grid = train(tmp_path, "pcgrad", "--grid", "--max-minutes", "0")
        assert status == run.EXIT_STOPPED
    assert len(list(grid.glob("*/run.json"))) == 1
    shutil.rmtree(grid)  # as Snakemake does before it starts the job again
    assert train(tmp_path, "pcgrad", "--grid")[0] == 0
    whole = tuned / "results/tiny/tuning/multimnist/pcgrad/grid"
    for folder in grid.iterdir():
        assert rows(folder) == rows(whole / folder.name)
    assert len(list(grid.iterdir())) == 4


def test_a_point_that_diverges_does_not_stop_the_grid(tmp_path, capsys):
    text = config(
        tuning={"methods": [], **GRID, "learning_rate": [0.05, 1e9], "weight_decay": [0.0]}
    )
    status, grid = train(tmp_path, "pcgrad", "--grid", text=text)
    assert status == 0
    assert (
        "learning_rate_1000000000.0_weight_decay_0.0, seed 0: non-finite" in capsys.readouterr().err
    )
    found = tuning.choose(grid)
    assert found["chosen"]["learning_rate"] == 0.05
    assert found["grid"][1]["value"] is None


def test_a_resumed_tuned_run_keeps_its_values(tuned, tmp_path, capsys):
    choice = json.loads((tuned / "results/tiny/tuning/multimnist/pcgrad/chosen.json").read_text())
    path = tmp_path / "chosen.json"
    path.write_text(json.dumps(choice))
    assert (
        train(tmp_path, "pcgrad_tuned", "--chosen", str(path), "--max-minutes", "0")[0]
        == run.EXIT_STOPPED
    )
    other = {
        key: next(v for v in GRID[key] if v != choice["chosen"][key]) for key in choice["chosen"]
    }
    path.write_text(json.dumps(choice | {"chosen": other}))
    assert train(tmp_path, "pcgrad_tuned", "--chosen", str(path))[0] == run.EXIT_FAULT
    assert "another chosen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        ("sum_tuned", [], "needs --chosen"),
        ("pcgrad", ["--chosen", "{pcgrad}"], "others take none"),
        (
            "sum_tuned",
            ["--chosen", "{pcgrad}"],
            "is the choice of multimnist/pcgrad, not of multimnist/sum",
        ),
        ("sum_tuned", ["--chosen", "nowhere.json"], "nowhere.json is missing"),
        ("sum_tuned", ["--chosen", str(ROOT / "CITATION.cff")], "no JSON"),
        ("pcgrad_tuned", ["--grid"], "--grid tunes pcgrad itself"),
        ("nothing_tuned", ["--grid"], "unknown method 'nothing_tuned'"),
    ],
)
def test_faults_are_one_line(tuned, tmp_path, capsys, method, more, said):
    chosen = str(tuned / "results/tiny/tuning/multimnist/pcgrad/chosen.json")
    status, out = train(tmp_path, method, *(text.replace("{pcgrad}", chosen) for text in more))
    error = capsys.readouterr().err
    assert status == run.EXIT_FAULT
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_grid_needs_its_block(tmp_path, capsys):
    block = {
        key: value for key, value in TINY["experiments"]["multimnist"].items() if key != "tuning"
    }
    text = json.dumps({**TINY, "experiments": {"multimnist": block}})
    assert train(tmp_path, "sum", "--grid", text=text)[0] == run.EXIT_FAULT
    assert "no block experiments.multimnist.tuning" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["config/quick.yaml", "config/paper.yaml"])
def test_plain_sum_and_pcgrad_are_tuned_alike_at_every_scale_that_tunes(scale):
    content = configs.read(str(ROOT / scale))
    block = content["experiments"]["multimnist"]
    assert set(block["tuning"]["methods"]) in (set(), {"sum", "uncertainty", "mgda", "pcgrad"})
    assert block["learning_rate"] in block["tuning"]["learning_rate"], (
        "what is not tuned lies on the grid"
    )
    assert block["weight_decay"] in block["tuning"]["weight_decay"]
    block["tuning"]["methods"] = ["pcgard"]
    with pytest.raises(UserError, match=r"multimnist.tuning.methods.*'pcgard' is not one of"):
        check(content)


def test_data_are_fingerprinted_as_in_a_run(tuned, tmp_path):
    path = tmp_path / "data" / "multimnist.json"
    data.main(["multimnist", config(), str(path)])
    assert (
        json.loads(path.read_text())
        == info(tuned / "results/tiny/runs/multimnist/pcgrad_tuned/seeds0-0")["data"]
    )


def test_missing_data_are_one_line_and_no_file(tmp_path):
    """As a process, as the rule starts it."""
    path = tmp_path / "multimnist.json"
    found = subprocess.run(
        [sys.executable, "-m", "experiments.data", "multimnist", config(data="mnist"), str(path)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "PCGRAD_DATA": str(tmp_path / "none"),
        },
        capture_output=True,
        text=True,
    )
    assert found.returncode == run.EXIT_FAULT
    assert found.stderr.startswith("error: PCGRAD_DATA=")
    assert found.stderr.count("\n") == 1
    assert not path.exists()


@pytest.mark.parametrize(
    "change",
    [
        *({"chosen": one} for one in ({}, [], None, {"learning_rate": 0.3}, {"epochs": 2})),
        *({"chosen": {"learning_rate": one}} for one in (True, "0.01", [0.01], None)),
        *({"budget": one} for one in ({}, [], {"learning_rate": 0.01})),
        *({"value": None}, {"value": "x"}, {"edges": [1]}, {"edges": "learning_rate"}),
        *({"method": ["pcgrad"]}, {"experiment": None}),
    ],
    ids=str,
)
def test_a_choice_that_no_result_could_name_is_refused_before_training(
    tuned, tmp_path, capsys, change
):
    """Bug: `run.json` was written with it, and no table took the run."""
    choice = json.loads((tuned / "results/tiny/tuning/multimnist/pcgrad/chosen.json").read_text())
    path = tmp_path / "chosen.json"
    path.write_text(json.dumps(choice | change))
    status, out = train(tmp_path, "pcgrad_tuned", "--chosen", str(path))
    assert status == run.EXIT_FAULT
    assert "chosen.json holds no choice among the values" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("missing", ["learning_rate", "weight_decay", "epochs", "seeds"])
def test_a_grid_without_an_axis_is_refused(tmp_path, capsys, missing):
    grid = {key: value for key, value in GRID.items() if key != missing}
    block = {**TINY["experiments"]["multimnist"], "tuning": grid}
    text = json.dumps({**TINY, "experiments": {"multimnist": block}})
    assert train(tmp_path, "pcgrad", "--grid", text=text)[0] == run.EXIT_FAULT
    assert f"tuning has no {missing}" in capsys.readouterr().err
