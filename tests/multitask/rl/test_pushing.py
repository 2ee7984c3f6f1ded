"""Goal-conditioned pushing: pairs by seed, distances, scripted success, resuming.

The puck and the goal are where the code says.
"""

import pickle

import numpy as np
import pytest
from metaworld.policies import SawyerPushV3Policy

from multitask.rl.fleet import Fleet
from multitask.rl.pushing import GOAL, START, Pushing, draw_pairs, make
from multitask.runs.errors import UserError

CORNERS = [(-0.2, 0.6, 0.2, 0.95), (0.2, 0.7, -0.2, 0.85)]  # both outside push-v3's own ranges
MIDDLE = (-0.15, 0.65, -0.03, 0.86)
pytestmark = pytest.mark.filterwarnings("ignore:Constant")  # what `scripted` says
SETTINGS = {"goals_per_seed": 9, "horizon": 150, "reward_function_version": "v1"}


def pushing(pair=MIDDLE, horizon=150, version="v1"):
    return Pushing("goal1", pair, horizon=horizon, reward_function_version=version)


def puck(environment):
    return environment.env.data.body("obj").xpos.copy()


def episode(environment, act):
    """First observation and all steps of an episode under `act(observation)`."""
    observation = start = environment.reset()
    steps = []
    while not steps or not steps[-1].truncated:
        steps.append(environment.step(act(observation)))
        observation = steps[-1].observation
    return start, steps


def scripted():
    """Meta-World's own solution; it asks for more than the largest action, which the environment
    clips.
    """
    policy = SawyerPushV3Policy()
    return lambda observation: np.clip(policy.get_action(observation), -1, 1)


def noise(seed=0):
    random = np.random.default_rng(seed)
    return lambda _: random.uniform(-1, 1, 4)


# --- the pairs


def test_pairs_fill_the_papers_ranges():
    pairs = draw_pairs(0, 2000)
    assert pairs.shape == (2000, 4)
    low, high = np.array([-0.2, 0.6, -0.2, 0.85]), np.array([0.2, 0.7, 0.2, 0.95])
    assert (pairs >= low).all()
    assert (pairs <= high).all()
    np.testing.assert_allclose(pairs.min(0), low, atol=0.002)
    np.testing.assert_allclose(pairs.max(0), high, atol=0.002)
    np.testing.assert_allclose(pairs.mean(0), (low + high) / 2, atol=0.01)
    assert np.abs(np.corrcoef(pairs.T) - np.eye(4)).max() < 0.1
    np.testing.assert_array_equal(
        np.array([START, GOAL]), [[low[:2], high[:2]], [low[2:], high[2:]]]
    )


def test_the_seed_decides_the_pairs():
    np.random.seed(0)
    first = draw_pairs(3, 9)
    np.random.seed(1)
    assert np.array_equal(first, draw_pairs(3, 9))
    assert np.array_equal(first[:4], draw_pairs(3, 4))
    assert not np.isin(first, draw_pairs(4, 9)).any()
    assert len(np.unique(first)) == 36


def test_makers_are_the_pairs_of_the_seed_and_can_be_sent_to_workers():
    makers = make(SETTINGS, seed=5)
    made = [maker() for maker in pickle.loads(pickle.dumps(makers))]
    assert [environment.name for environment in made] == [f"goal{k}" for k in range(1, 10)]
    assert np.array_equal([environment.code for environment in made], draw_pairs(5, 9))
    assert {environment.horizon for environment in made} == {150}


def test_a_fleet_shows_the_codes():
    with Fleet(make({**SETTINGS, "goals_per_seed": 2, "horizon": 3}, seed=1)) as fleet:
        assert np.array_equal(fleet.codes, draw_pairs(1, 2))
        np.testing.assert_allclose(fleet.reset()[:, [4, 5, 36, 37]], fleet.codes)
        steps = fleet.step(np.zeros((2, 4)))
        np.testing.assert_allclose(
            steps.distance, np.hypot(*(fleet.codes[:, 2:] - fleet.codes[:, :2]).T), atol=1e-4
        )


# --- one task


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("pair", [*CORNERS, MIDDLE])
def test_puck_and_goal_are_where_the_code_says(pair, version):
    environment = pushing(pair, horizon=20, version=version)
    for act in (noise(), lambda _: np.zeros(4)):
        start, steps = episode(
            environment, act
        )  # the second comes after an episode that moved the arm
        assert np.array_equal(environment.code, pair)
        np.testing.assert_allclose(start[4:6], pair[:2], atol=1e-12)
        for seen in (
            start,
            *(step.observation for step in steps),
        ):  # `step` clips, `reset` does not
            np.testing.assert_array_equal(seen[36:38], pair[2:])
    assert np.array_equal(environment.env._target_pos[:2], pair[2:])
    np.testing.assert_allclose(environment.env.data.site("goal").xpos[:2], pair[2:], atol=1e-12)
    # The puck rests on the table, at the goal's height: it neither falls nor moves while nothing
    # touches it.
    np.testing.assert_allclose(puck(environment)[:2], pair[:2], atol=1e-3)
    np.testing.assert_allclose([puck(environment)[2], start[38]], 0.02, atol=1e-3)
    assert start.shape == (environment.observation_size,) == (39,)
    assert environment.action_size == 4


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_scripted_policy_brings_the_puck_to_the_goal(version):
    environment = pushing(version=version)
    _, steps = episode(environment, scripted())
    distances, rewards = (
        np.array([step.distance for step in steps]),
        np.array([step.reward for step in steps]),
    )
    assert distances[0] == pytest.approx(np.hypot(0.12, 0.21), abs=1e-4)
    assert distances[-1] < 0.05
    assert steps[-1].success
    assert not any(step.success for step in steps[:40])
    # The reward is for this goal: it is high where the puck is near it and low before anything was
    # touched.
    assert rewards[distances < 0.03].min() > 5 * max(rewards[:30].max(), 0.5)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_distance_is_that_of_the_observation_in_the_plane(version):
    environment = pushing(version=version)
    _, steps = episode(environment, scripted())
    seen = np.array([step.observation for step in steps])
    distances = [step.distance for step in steps]
    np.testing.assert_allclose(
        distances, np.hypot(*(seen[:, 4:6] - seen[:, 36:38]).T), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        distances[-1], np.hypot(*(puck(environment)[:2] - environment.code[2:])), atol=1e-9
    )
    own = distances if version == "v1" else np.linalg.norm(seen[:, 4:7] - seen[:, 36:39], axis=1)
    assert [step.success for step in steps] == [distance <= 0.05 for distance in own]
    assert np.ptp(seen[:, 6]) > 0.005  # it was lifted: a spatial distance would be another number


def test_another_goal_is_rewarded_elsewhere():
    here, there = pushing(), pushing((*MIDDLE[:2], 0.2, 0.9))
    act = scripted()
    _, steps = episode(here, act)
    there.reset()
    there.env.set_state(here.env.data.qpos.copy(), here.env.data.qvel.copy())
    step = there.step(np.array([0, 0, 0, 0.6]))
    assert steps[-1].reward > 1000
    assert step.reward < 600
    assert step.distance > 0.15


def rows(environment, episodes, seed):
    act = noise(seed)
    played = [episode(environment, act) for _ in range(episodes)]
    return np.concatenate(
        [[*start, *(x for s in steps for x in (*s.observation, *s[1:]))] for start, steps in played]
    )


def test_a_new_environment_continues_from_the_state_alone():
    old = pushing(horizon=60)
    episode(old, scripted())  # ends with the puck held on its way
    new = pushing(horizon=60)
    new.load(old.state())
    assert np.array_equal(rows(old, 2, seed=1), rows(new, 2, seed=1))


def test_every_episode_begins_in_the_same_state():
    environment = pushing(horizon=60)
    first = environment.reset()
    episode(environment, scripted())
    assert np.linalg.norm(puck(environment)[:2] - MIDDLE[:2]) > 0.02
    assert np.array_equal(first, environment.reset())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"goals_per_seed": 0}, ["goals_per_seed", "0"]),
        ({"goals_per_seed": -3}, ["goals_per_seed", "-3"]),
        ({"reward_function_version": "v3"}, ["v3", "v1", "v2"]),
    ],
)
def test_bad_settings_are_refused(change, words):
    with pytest.raises(UserError) as caught:
        make({**SETTINGS, **change}, seed=0)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("goal", [(0.0, 0.79), (np.nan, 0.9)])
def test_pairs_with_which_an_episode_could_not_begin_are_refused(goal):
    with pytest.raises(UserError, match=r"goal1: start .* and goal .* 0.15 m apart"):
        pushing((0.0, 0.65, *goal))
