"""Small substitutes for tests of the SAC loop: settings, an environment, a session in memory."""

import json

import numpy as np
import torch

from multitask.rl.envs import Step
from multitask.rl.fleet import Fleet
from multitask.runs.checkpoint import Session

SETTINGS = {
    "device": "cpu",
    "horizon": 5,
    "collections": 3,
    "samples_per_collection": 10,
    "updates_per_collection": 4,
    "batch_per_task": 8,
    "layers": 2,
    "width": 8,
    "learning_rate": 3e-3,
    "discount": 0.9,
    "target_rate": 0.05,
    "reward_scale": 1.0,
    "warm_up_paths": 2,
    "buffer_capacity": 1000,
    "evaluation_every": 1,
    "evaluation_episodes": 1,
    "final_evaluation_episodes": 1,
    "curvature_every": 2,
    "critic_surgery": "separate",
    "reduction": "sum",
    "order": "random",
    "gradnorm_alpha": 1.5,
    "gradnorm_rate": 0.025,
    "cosreg_weight": 0.1,
    "weight_decay": 1e-3,
}


class Walk:
    """A point in the plane pushed by two actions; the reward is how far it is towards its own
    corner.
    """

    horizon, observation_size, action_size, code = 5, 3, 2, None

    def __init__(self, corner: float, seed: int = 0, break_at: int | None = None) -> None:
        self.name, self.corner = f"corner{corner:+.0f}", corner
        self.random, self.steps, self.break_at = np.random.default_rng(seed), 0, break_at
        self.resets: list[np.ndarray] = []

    def observe(self) -> np.ndarray:
        return np.append(self.position, self.time / self.horizon)

    def reset(self) -> np.ndarray:
        self.position, self.time = self.random.uniform(-1, 1, 2), 0
        self.resets.append(self.observe())
        return self.observe()

    def step(self, action: np.ndarray) -> Step:
        self.position, self.time = self.position + 0.1 * action, self.time + 1
        self.steps += 1
        reward = self.corner * float(self.position.sum())
        if self.break_at is not None and self.steps >= self.break_at:
            reward = float("nan")
        distance = float(np.abs(self.position - np.sign(self.corner)).max())
        return Step(
            self.observe(), reward, False, self.time == self.horizon, reward > 0.3, distance
        )

    def state(self) -> dict[str, str]:
        return {"generator": json.dumps(self.random.bit_generator.state)}

    def load(self, state: dict[str, str]) -> None:
        self.random.bit_generator.state = json.loads(state["generator"])


def walks() -> list[Walk]:
    return [Walk(1.0, seed=1), Walk(-1.0, seed=2)]


def fleet(environments: list[Walk]) -> Fleet:
    return Fleet([lambda one=one: one for one in environments])


def new_session(path, **options) -> Session:
    return Session(path, {"seed": 0}, **options)


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
