"""Figure 4's runs: the command end to end on real Meta-World, kill and resume, the golden trace."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from experiments import config as configs
from experiments import run
from experiments.triad import task
from multitask.rl.envs import MetaWorld
from multitask.rl.fleet import Fleet
from multitask.rl.sac import passes, train
from multitask.runs.checkpoint import Session
from multitask.runs.devices import has_bfloat16_units
from multitask.runs.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "triad.csv"
TINY = ROOT / "tests" / "tiny.yaml"


def tiny(**changes) -> dict:
    config = configs.read(str(TINY))
    config["experiments"]["triad"].update(changes)
    return config


def command(folder: Path, method: str, config: dict, *more: str) -> list[str]:
    out = folder / "runs" / "triad" / method / "seeds0-0"
    return [
        "triad",
        method,
        "--seeds",
        "0-0",
        "--config",
        json.dumps(config),
        "--out",
        str(out),
        *more,
    ]


def metrics(folder: Path, method: str) -> str:
    return (folder / "runs" / "triad" / method / "seeds0-0" / "metrics.csv").read_text()


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("scale", ["quick", "laptop", "paper", "tiny"])
def test_every_config_has_what_the_runs_read(scale):
    path = TINY if scale == "tiny" else ROOT / "config" / f"{scale}.yaml"
    settings = configs.settings_of(configs.read(str(path)), "triad")
    found = task.fingerprint(settings)
    assert found["tasks"] == ["reach-v3", "button-press-topdown-v3"]
    assert found["metaworld"] == "3.1.1"
    assert settings["samples_per_collection"] % settings["horizon"] == 0
    assert settings["collections"] == 100 or scale == "tiny"


@pytest.mark.parametrize("method", task.METHODS)
def test_command_writes_a_run(tmp_path, method, one_thread):
    assert run.main(command(tmp_path, method, tiny())) == 0
    rows = list(csv.DictReader(metrics(tmp_path, method).splitlines()))
    for name in ("reach-v3", "button-press-topdown-v3", "all"):
        for metric in ("return", "success", "success_last", "evaluation_return"):
            steps = [
                int(row["step"]) for row in rows if (row["task"], row["metric"]) == (name, metric)
            ]
            assert steps == ([1, 2] if metric.startswith("evaluation") else [0, 1, 2])
    assert not list(tmp_path.rglob("*.pt"))  # nothing but the outputs is left


@pytest.mark.parametrize("has_units", [True, False])
def test_run_json_names_the_precision_that_ran(
    tmp_path, monkeypatch, capsys, has_units, one_thread
):
    """Fails where run.json repeats the config, or where the networks take another precision."""
    if has_units and not has_bfloat16_units(torch.device("cpu")):
        pytest.skip("this processor has no units for bfloat16")
    for module in ("rl.sac.precision", "runs.precision"):
        monkeypatch.setattr(f"multitask.{module}.has_bfloat16_units", lambda device: has_units)
    computed = set()
    original = passes.Network.__init__

    def build(network, *arguments, **options):
        original(network, *arguments, **options)
        computed.add(network.compute)

    monkeypatch.setattr(passes.Network, "__init__", build)
    assert run.main(command(tmp_path, "sac", tiny(precision="bfloat16"))) == 0
    info = json.loads((tmp_path / "runs/triad/sac/seeds0-0/run.json").read_text())
    ran = "bfloat16" if has_units else "float32"
    assert info["precision"] == ran
    assert computed == {getattr(torch, ran)}
    assert info["settings"]["precision"] == "bfloat16"
    assert ("float32 runs" in capsys.readouterr().err) == (not has_units)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tasks": ["reach-v3", "button-press-top"]}, "button-press-topdown"),
        ({"reward_function_version": "v7"}, "v7"),
        ({"samples_per_collection": 100}, "multiple of horizon"),
    ],
)
def test_bad_settings_end_in_one_line(tmp_path, capsys, change, words, one_thread):
    assert run.main(command(tmp_path, "sac", tiny(**change))) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert words in message
    assert "\n" not in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_fingerprint_changes_with_the_tasks():
    settings = configs.settings_of(tiny(), "triad")
    other = {**settings, "tasks": ["reach-v3", "drawer-close-v3"]}
    assert task.fingerprint(settings)["sha256"] != task.fingerprint(other)["sha256"]
    assert (
        len(
            {
                task.fingerprint({**settings, "tasks": [name]})["sha256"]
                for name in ALL_V3_ENVIRONMENTS
            }
        )
        == 50
    )
    with pytest.raises(UserError, match="near matches"):
        task.fingerprint({**settings, "tasks": ["reach-v3", "drawer-shut-v3"]})


def test_killed_with_9_and_started_again_equals_unbroken(tmp_path, one_thread):
    """On real Meta-World with varied goals, so that every generator counts."""
    config = tiny(collections=4, goals="varied", updates_per_collection=20)
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    arguments = command(broken, "sac_pcgrad", config, "--checkpoint-seconds", "0")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    job = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments], cwd=ROOT, env=environment
    )
    deadline = time.monotonic() + 120
    while not list(broken.rglob("*.pt")) and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    assert not list(broken.rglob("metrics.csv"))
    assert list(broken.rglob("*.pt"))
    assert run.main(arguments) == 0
    assert run.main(command(unbroken, "sac_pcgrad", config)) == 0
    assert metrics(broken, "sac_pcgrad") == metrics(unbroken, "sac_pcgrad")


def trace(folder: Path) -> list[tuple[int, str, str, float]]:
    """50 updates in float64 on both tasks: what must not change unless the CHANGELOG says so."""
    settings = configs.settings_of(
        tiny(
            updates_per_collection=25,
            width=32,
            batch_per_task=32,
            horizon=15,
            samples_per_collection=30,
        ),
        "triad",
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        choices = {key: settings[key] for key in ("horizon", "reward_function_version", "goals")}
        fleet = Fleet([partial(MetaWorld, name, seed=0, **choices) for name in settings["tasks"]])
        session = Session(folder / "trace.pt", {})
        return train(settings, 0, session, fleet, method="sac_pcgrad", dtype=torch.float64).rows
    finally:
        torch.set_num_threads(threads)


def test_golden_trace(tmp_path):
    """Written by `python -m tests.experiments.test_triad` (after a change that the CHANGELOG
    names).
    """
    with GOLDEN.open() as file:
        golden = [(int(row[0]), row[1], row[2], float(row[3])) for row in csv.reader(file)]
    ours = trace(tmp_path)
    assert [row[:3] for row in ours] == [row[:3] for row in golden]
    for one, two in zip(ours, golden, strict=True):
        assert one[3] == pytest.approx(two[3], rel=1e-9, abs=1e-12), one[:3]


if __name__ == "__main__":
    with GOLDEN.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            (*row[:3], repr(row[3])) for row in trace(ROOT / "results")
        )
