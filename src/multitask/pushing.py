"""Goal-conditioned pushing (Section 5.2; Appendix J): Meta-World's push-v3 with a puck start and a goal per task.

The paper draws the puck's start uniformly from (−.2, .6)-(.2, .7) and its goal from (−.2, .85)-(.2, .95), m, tells the
networks z = (start, goal) in the place of a one-hot, and puts 9 goals into each minibatch. What it leaves open, and what
is done here:
 1. The number of goals in all is not given. A run has one set of `goals_per_seed` pairs, drawn from its seed, each a task
    with its own buffer; every minibatch holds all of them, and evaluation is on the same pairs.
 2. z has four numbers, x and y of start and goal, in m. Heights are left out: puck and goal lie on the table, so they are
    the same in every task.
 3. The distance is that in the plane of the table, x and y, under both reward functions; Meta-World's own has the height
    too under v2. Success stays Meta-World's.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from multitask.envs import MetaWorld, Step, check_names
from multitask.errors import UserError
from multitask.seeding import numpy_generator

TASK = "push-v3"
START = ((-0.2, 0.6), (0.2, 0.7))  # lowest and highest (x, y), m
GOAL = ((-0.2, 0.85), (0.2, 0.95))
CLOSEST = 0.15  # push-v3 draws again while start and goal are closer, which with a set pair would never end
ON_TABLE = 0.02  # the puck's center, m; push-v3 takes both heights from the simulator instead


def draw_pairs(seed: int, count: int) -> np.ndarray:
    """Starts and goals `[count, 4]`, uniform in the paper's ranges; a smaller count gives the first of a larger one."""
    if count < 1:
        raise UserError(f"goals_per_seed is {count}; set it to 1 or more")
    low, high = np.array([START, GOAL]).transpose(1, 0, 2).reshape(2, 4)
    return numpy_generator(seed, "goals").uniform(low, high, size=(count, 4))


class Pushing(MetaWorld):
    """push-v3 from one start to one goal, both set by hand: nothing in it is random, an episode's start is always the same.

    Its interface is that of `MetaWorld`; `code` is the pair, (x, y) of the start, then of the goal.
    """

    def __init__(self, name: str, pair: Sequence[float], *, horizon: int, reward_function_version: str) -> None:
        super().__init__(TASK, seed=0, horizon=horizon, reward_function_version=reward_function_version, goals="varied")
        self.name, self.code = name, np.array(pair, dtype=np.float64)
        start, goal = self.code.reshape(2, 2)
        if not np.linalg.norm(goal - start) >= CLOSEST:
            raise UserError(f"{name}: start {start} and goal {goal} are closer than {CLOSEST} m; draw another pair")
        self.env._last_rand_vec = np.concatenate([start, [ON_TABLE], goal, [ON_TABLE]])
        self.env._freeze_rand_vec = True
        # `step` clips what is observed to push-v3's own, narrower range of goals: another goal than the reward's.
        self.env.goal_space = Box(-np.inf, np.inf, (3,), np.float64)
        del self.env.sawyer_observation_space  # cached with that range

    def step(self, action: np.ndarray) -> Step:
        """Advance by one action in [-1, 1]^4; the distance is in the plane of the table."""
        step = super().step(action)
        return step._replace(distance=float(np.linalg.norm(step.observation[4:6] - self.code[2:])))


def make(settings: dict[str, Any], seed: int) -> list[partial[Pushing]]:
    """One picklable maker per pair of the seed, named goal1, goal2, ...; UserError for bad settings."""
    version = settings["reward_function_version"]
    check_names([TASK], version, "fixed")
    pairs = draw_pairs(seed, settings["goals_per_seed"])
    choices = {"horizon": settings["horizon"], "reward_function_version": version}
    return [partial(Pushing, f"goal{k}", tuple(map(float, pair)), **choices) for k, pair in enumerate(pairs, start=1)]
