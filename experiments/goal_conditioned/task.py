"""Figure 6's runs: SAC on goal-conditioned pushing, plain and with PCGrad (Appendix J)."""

from typing import Any

import numpy as np

from multitask.rl.fleet import Fleet
from multitask.rl.pushing import GOAL, START, TASK, make
from multitask.rl.sac import train as train_sac
from multitask.rl.training import sources
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records

METHODS = ("sac", "sac_pcgrad")


def fingerprint(settings: dict[str, Any]) -> dict[str, Any]:
    """Versions of Meta-World and MuJoCo, a hash of push-v3's source, and the goals' ranges."""
    # Making the environments rejects bad settings before anything is trained.
    goals = len(make(settings, seed=0))
    ranges = {"start": np.array(START).tolist(), "goal": np.array(GOAL).tolist()}
    return {**sources([TASK]), "tasks": [TASK], **ranges, "goals_per_seed": goals}


def train(method: str, seed: int, settings: dict[str, Any], session: Session) -> Records:
    """Train one method on the pairs of start and goal that its seed draws.

    See `multitask.rl.sac` and `multitask.rl.pushing`.
    """
    with Fleet(make(settings, seed), settings.get("workers", 0)) as fleet:
        return train_sac(settings, seed, session, fleet, method=method)
