"""Figure 6's runs: what the configs say, and the fingerprint of the data."""

import json
from pathlib import Path

import pytest
import yaml

from experiments import config as configs
from experiments.goal_conditioned import task
from multitask.runs.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PATHS = {scale: ROOT / "config" / f"{scale}.yaml" for scale in ("quick", "laptop", "paper")}
PATHS["tiny"] = ROOT / "tests" / "tiny.yaml"


def settings_of(scale: str, **changes) -> dict:
    return {
        **configs.settings_of(configs.read(str(PATHS[scale])), "goal_conditioned"),
        **changes,
    }


@pytest.mark.parametrize("scale", PATHS)
def test_every_config_has_what_the_runs_read(scale):
    settings = settings_of(scale)
    found = task.fingerprint(settings)
    assert found["goals_per_seed"] == 9
    assert found["metaworld"] == "3.1.1"
    assert found["mujoco"]
    assert found["tasks"] == ["push-v3"]
    assert (found["start"], found["goal"]) == (
        [[-0.2, 0.6], [0.2, 0.7]],
        [[-0.2, 0.85], [0.2, 0.95]],
    )
    assert len(found["sha256"]) == 64
    assert json.loads(json.dumps(found)) == found  # else a run would not know its own data again
    assert settings["samples_per_collection"] % settings["horizon"] == 0
    assert settings["temperature"] == "network"
    methods = yaml.safe_load(PATHS[scale].read_text())["experiments"]["goal_conditioned"]["methods"]
    assert set(methods) <= set(task.METHODS)


def test_paper_scale_has_the_papers_numbers():
    settings = settings_of("paper")
    names = ("goals_per_seed", "samples_per_collection", "batch_per_task", "layers", "width")
    assert [settings[name] for name in names] == [9, 600, 128, 6, 200]


def test_fingerprint_tells_data_apart():
    known = task.fingerprint(settings_of("quick"))
    assert task.fingerprint(settings_of("quick", seeds=[7])) == known
    assert task.fingerprint(settings_of("quick", goals_per_seed=4)) != known


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"goals_per_seed": 0}, ["goals_per_seed"]),
        ({"reward_function_version": "v7"}, ["v7", "v1", "v2"]),
    ],
)
def test_bad_settings_are_refused_before_training(change, words):
    with pytest.raises(UserError) as caught:
        task.fingerprint(settings_of("quick", **change))
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
