"""Goal-conditioned pushing (Appendix J; Figure 6): push-v3 with one start and goal per task.

The paper draws the puck's start uniformly from (-0.2, 0.6)-(0.2, 0.7) m and its goal from
(-0.2, 0.85)-(0.2, 0.95) m. The networks see z = (start, goal) instead of a one-hot, and each
minibatch has 9 goals. Choices and limits:

 1. The number of goals in all is not given. Here a run draws `goals_per_seed` pairs from its seed.
    Each is a task with its own buffer, every minibatch holds all of them, and evaluation is on the
    same pairs.
 2. z has four numbers, x and y of start and goal in m. Both heights are the table's, the same in
    every task.
 3. The distance is taken in the plane of the table under both reward functions, as z is.
    Meta-World's own distance is planar under v1 and spatial under v2. Success is Meta-World's: its
    own distance is at most 0.05 m.
 4. Above the table Meta-World's arm reaches y = 0.89 to 0.90 and no farther, so that a puck it
    holds ends up to 0.05 m short of the farthest goals. The ranges stay the paper's: a distance
    near 0 is not possible for every goal.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from multitask.rl.envs import MetaWorld, Step, check_names
from multitask.runs.errors import UserError
from multitask.runs.seeding import numpy_generator

TASK = "push-v3"
# Lowest and highest (x, y), m.
START = ((-0.2, 0.6), (0.2, 0.7))
GOAL = ((-0.2, 0.85), (0.2, 0.95))
# In meters. push-v3 draws again while start and goal are closer, forever if the pair is fixed.
CLOSEST = 0.15


def draw_pairs(seed: int, count: int) -> np.ndarray:
    """Draws starts and goals `[count, 4]`, uniform in the paper's ranges.

    A smaller count gives the first rows of a larger one.
    """
    if count < 1:
        raise UserError(f"goals_per_seed is {count}; set it to 1 or more")
    # One draw of all four numbers per pair, so that fewer pairs are the first of more.
    low, high = ([*start, *goal] for start, goal in zip(START, GOAL, strict=True))
    return numpy_generator(seed, "goals").uniform(low, high, size=(count, 4))


class Pushing(MetaWorld):
    """Meta-World's push-v3 with one given start and goal; an episode has nothing random.

    The interface is that of `MetaWorld`; `code` is z.
    """

    def __init__(
        self, name: str, pair: Sequence[float], *, horizon: int, reward_function_version: str
    ) -> None:
        """Makes the environment.

        Args:
            name: Name of the task.
            pair: x and y of the start, then of the goal, m.
            horizon: Steps of an episode.
            reward_function_version: "v1" or "v2".

        Raises:
            UserError: Start and goal are too close for push-v3.
        """
        super().__init__(
            TASK,
            seed=0,
            horizon=horizon,
            reward_function_version=reward_function_version,
            goals="varied",
        )
        self.name, self.code = name, np.array(pair, dtype=np.float64)
        start, self._goal = self.code[:2], self.code[2:]
        # Negated, so that it also refuses nan.
        if not np.linalg.norm(self._goal - start) >= CLOSEST:
            raise UserError(
                f"{name}: start {start} and goal {self._goal} must be {CLOSEST} m apart; "
                "change the pair"
            )
        # In place of the generator's draw. push-v3 overwrites both heights by that of a puck at
        # rest on the table.
        self.env._last_rand_vec = np.array([*start, 0.0, *self._goal, 0.0])
        self.env._freeze_rand_vec = True
        # `step` would clip the observed goal to push-v3's narrower range, and it would differ from
        # the goal that is rewarded.
        self.env.goal_space = Box(-np.inf, np.inf, (3,), np.float64)
        # The space is cached with the old range.
        del self.env.sawyer_observation_space

    def step(self, action: np.ndarray) -> Step:
        """Advances by one action in [-1, 1]^4."""
        step = super().step(action)
        return step._replace(distance=float(np.linalg.norm(step.observation[4:6] - self._goal)))


def make(settings: dict[str, Any], seed: int) -> list[partial[Pushing]]:
    """Returns one picklable maker per pair of a seed, named goal1, goal2, ...

    Raises:
        UserError: The settings are wrong.
    """
    choices = {key: settings[key] for key in ("horizon", "reward_function_version")}
    check_names([TASK], choices["reward_function_version"], "fixed")
    pairs = draw_pairs(seed, settings["goals_per_seed"]).tolist()
    return [
        partial(Pushing, f"goal{number}", pair, **choices)
        for number, pair in enumerate(pairs, start=1)
    ]
