"""SAC is right: one task alone is learned (minutes; `pytest -m slow`)."""

from pathlib import Path

import pytest
import torch
import yaml

from multitask.checkpoint import Session
from multitask.envs import MetaWorld
from multitask.sac import train

LAPTOP = Path(__file__).resolve().parents[2] / "config" / "laptop.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_reach_at_a_fixed_goal_is_learned_within_20_000_steps(tmp_path, seed):
    """One update per environment step, as the base code; the mode of the policy, from a fixed start, is one episode."""
    settings = yaml.safe_load(LAPTOP.read_text())["experiments"]["triad"]
    settings |= {"device": "cpu", "collections": 30, "updates_per_collection": 600, "reward_function_version": "v2"}
    choices = {key: settings[key] for key in ("horizon", "reward_function_version", "goals")}
    environments = [MetaWorld("reach-v3", seed=seed, **choices)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        records = train(settings, seed, Session(tmp_path / "c.pt", {}), environments, pcgrad=False)
    finally:
        torch.set_num_threads(threads)
    success = [v for _, task, metric, v in records.rows if (task, metric) == ("reach-v3", "evaluation_success")]
    sampled = [v for _, task, metric, v in records.rows if (task, metric) == ("reach-v3", "success")]
    assert sum(success[-5:]) >= 4, success
    assert sum(sampled[-5:]) / 5 >= 0.9, sampled  # 20 episodes with exploration
