"""The runs on Meta-World's task sets: configs, the whole command, faults in one line, workers."""

import csv
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from experiments import config as configs
from experiments import run
from multitask.rl.sac import METHODS
from multitask.rl.sac.precision import precision_of
from multitask.rl.training import fingerprint, train
from multitask.runs.checkpoint import Session

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "tiny.yaml"
SETS = {"metaworld_mt3": 3, "metaworld_mt10": 10, "metaworld_mt50": 50}


def tiny(experiment: str = "metaworld_mt10", **changes) -> dict:
    config = configs.read(str(TINY))
    config["experiments"][experiment].update(changes)
    return config


def command(
    folder: Path, method: str, config: dict, *more: str, experiment: str = "metaworld_mt10"
) -> list[str]:
    out = folder / "runs" / experiment / method / "seeds0-0"
    return [
        experiment,
        method,
        "--seeds",
        "0",
        "--config",
        json.dumps(config),
        "--out",
        str(out),
        *more,
    ]


def rows(folder: Path, method: str, experiment: str = "metaworld_mt10") -> list[dict[str, str]]:
    with (folder / "runs" / experiment / method / "seeds0-0" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("experiment", SETS)
@pytest.mark.parametrize("scale", ["quick", "laptop", "paper"])
def test_every_config_has_what_the_runs_read(scale, experiment):
    config = configs.read(str(ROOT / "config" / f"{scale}.yaml"))
    settings = configs.settings_of(config, experiment)
    assert fingerprint(settings)["tasks"] == f"MT{SETS[experiment]}"
    assert set(config["experiments"][experiment]["methods"]) <= set(METHODS)
    assert settings["samples_per_collection"] % settings["horizon"] == 0
    if scale == "paper":
        million = (
            settings["collections"] * settings["samples_per_collection"] * SETS[experiment] / 1e6
        )
        assert million == pytest.approx({3: 1.5, 10: 5, 50: 20}[SETS[experiment]], rel=1e-3)
        assert (settings["batch_per_task"], settings["layers"]) == (128, 6)
        assert settings["width"] == (300 if experiment == "metaworld_mt50" else 160)


def test_surgery_acts_at_quick_scale(tmp_path):
    """Fails where quick's updates are too few or too small for the critics to conflict: then every
    method is plain SAC there, and a broken surgery would publish the same numbers.
    """
    config = configs.read(str(ROOT / "config" / "quick.yaml"))
    settings = configs.settings_of(config, "metaworld_mt3")
    records = train("sac_pcgrad", 0, settings, Session(tmp_path / "c.pt", {}))
    for component in ("actor", "q1", "q2"):
        shares = [v for _, _, metric, v in records.rows if metric == f"conflicts_{component}"]
        ratios = [v for _, _, metric, v in records.rows if metric == f"length_ratio_{component}"]
        assert sum(shares) > 0
        assert any(abs(ratio - 1) > 1e-6 for ratio in ratios)


@pytest.mark.parametrize(
    ("row", "own"),
    [("sac_float32", {"precision": "float32"}), ("sac_v2", {"reward_function_version": "v2"})],
)
def test_a_row_with_an_ending_is_its_method_under_those_settings(tmp_path, row, own):
    settings = configs.settings_of(tiny(precision="bfloat16"), "metaworld_mt10", "sac")
    named, plain = (
        train(method, 0, given, Session(tmp_path / f"{method}.pt", {})).rows
        for method, given in ((row, settings), ("sac", settings | own))
    )
    assert named == plain


def test_run_json_names_the_precision_of_the_row():
    settings = configs.settings_of(tiny(precision="bfloat16"), "metaworld_mt10", "sac")
    assert precision_of(settings, "sac_float32") == "float32"


@pytest.mark.parametrize("method", ["multihead_sac_pcgrad", "independent", "cosreg", "gradnorm"])
def test_command_writes_a_run(tmp_path, method):
    assert run.main(command(tmp_path, method, tiny())) == 0
    found = rows(tmp_path, method)
    tasks = tiny()["experiments"]["metaworld_mt10"]["tasks"]
    for name in (*tasks, "all"):
        for metric in ("return", "success", "success_last", "distance"):
            assert [
                int(r["step"]) for r in found if (r["task"], r["metric"]) == (name, metric)
            ] == [0, 1, 2]
    assert any(r["metric"].startswith("conflicts_") for r in found) == (method != "independent")
    assert not list(tmp_path.rglob("checkpoints/**/*.*"))  # nothing but the outputs is left


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_number(tmp_path, workers):
    assert run.main(command(tmp_path / "a", "sac", tiny(goals="varied"))) == 0
    assert run.main(command(tmp_path / "b", "sac", tiny(goals="varied", workers=workers))) == 0
    assert rows(tmp_path / "a", "sac") == rows(tmp_path / "b", "sac")


def test_a_run_resumes_with_another_number_of_workers(tmp_path):
    arguments = command(tmp_path / "a", "sac_pcgrad", tiny(goals="varied", workers=2))
    assert run.main([*arguments, "--max-minutes", "0"]) == 3
    assert run.main(command(tmp_path / "a", "sac_pcgrad", tiny(goals="varied"))) == 0
    assert run.main(command(tmp_path / "b", "sac_pcgrad", tiny(goals="varied"))) == 0
    assert rows(tmp_path / "a", "sac_pcgrad") == rows(tmp_path / "b", "sac_pcgrad")


def test_a_worker_that_dies_ends_in_one_line_and_the_run_resumes(tmp_path, capsys, monkeypatch):
    config, collections = tiny(workers=1, collections=3), []
    arguments = command(tmp_path, "sac", config, "--checkpoint-seconds", "0")

    def show(self, rows):
        collections.append(rows[-1][0])
        if collections == [1, 2]:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "show", show)
        assert run.main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: the worker process of reach-v3, push-v3 died")
    assert "\n" not in message
    assert run.main(arguments) == 0
    assert run.main(command(tmp_path / "unbroken", "sac", config)) == 0
    assert rows(tmp_path, "sac") == rows(tmp_path / "unbroken", "sac")


def test_progress_can_be_read_while_the_run_goes_on(tmp_path, capsys):
    arguments = command(tmp_path, "sac", tiny(collections=3))
    assert run.main([*arguments, "--max-minutes", "0"]) == 3
    assert "the same command resumes" in capsys.readouterr().err
    (progress,) = tmp_path.rglob("seed0.csv")
    with progress.open() as file:
        seen = list(csv.DictReader(file))
    assert {r["step"] for r in seen} == {"0", "1"}
    assert run.main(arguments) == 0
    assert [{k: r[k] for k in r if k != "seed"} for r in rows(tmp_path, "sac")][: len(seen)] == seen
    assert not progress.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tasks": ["reach-v3", "pusch-v3"]}, "push-v3"),
        ({"tasks": "MT11"}, "metaworld_mt10.tasks: 'MT11'"),
        ({"reward_function_version": "v7"}, "v7"),
        ({"samples_per_collection": 30}, "multiple of horizon"),
    ],
)
def test_bad_settings_end_in_one_line(tmp_path, capsys, change, words):
    assert run.main(command(tmp_path, "sac", tiny(**change))) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert words in message
    assert "\n" not in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_sac_learns_reach_alone(tmp_path):
    """Five runs of about 20,000 steps, some 20 minutes: at least four end with 18 of 20 successes
    or more.

    The same runs are published: results/published/laptop/tables/table_reach.md.
    """
    config = configs.read(str(ROOT / "config" / "laptop.yaml"))
    out = tmp_path / "runs" / "metaworld_reach" / "fixed_goal" / "seeds0-4"
    arguments = [
        "metaworld_reach",
        "fixed_goal",
        "--seeds",
        "0-4",
        "--config",
        json.dumps(config),
        "--out",
        str(out),
    ]
    assert run.main(arguments) == 0
    with (out / "metrics.csv").open() as file:
        last = {
            r["seed"]: float(r["value"])
            for r in csv.DictReader(file)
            if r["metric"] == "evaluation_success"
        }
    assert len(last) == 5
    assert sum(value >= 0.9 for value in last.values()) >= 4, last
