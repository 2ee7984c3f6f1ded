"""Meta-World as the loop uses it: seeds, goals, horizon, names; short and long reset agree."""

import mujoco
import numpy as np
import pytest
from metaworld import env_dict

from experiments.metaworld import experts
from multitask.rl.envs import (
    MT3,
    MT10,
    MT50,
    REDRAWN,
    REWARD_VERSIONS,
    SUCCESS_OF_V2,
    MetaWorld,
    check_names,
)
from multitask.runs.errors import UserError

TASKS = ["reach-v3", "button-press-topdown-v3"]


def make(task, seed=0, horizon=20, reward_function_version="v1", goals="fixed"):
    return MetaWorld(
        task,
        seed=seed,
        horizon=horizon,
        reward_function_version=reward_function_version,
        goals=goals,
    )


def play(environment, episodes=1, seed=0):
    """Observations and rewards under one fixed sequence of actions."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(episodes):
        observation, truncated = environment.reset(), False
        rows.append(observation)
        while not truncated:
            step = environment.step(random.uniform(-1, 1, 4))
            truncated = step.truncated
            rows.append(np.append(step.observation, step.reward))
    return rows


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("goals", ["fixed", "varied"])
def test_the_seed_decides(task, goals):
    first, second, other = (play(make(task, seed, goals=goals), 2) for seed in (0, 0, 1))
    assert same(first, second)
    assert same(first, other) == (goals == "fixed")


@pytest.mark.parametrize("task", TASKS)
def test_fixed_goals_stay_and_varied_goals_move(task):
    for goals in ("fixed", "varied"):
        environment = make(task, goals=goals)
        starts = [environment.reset() for _ in range(3)]
        assert same(starts[:1], starts[1:2]) == (goals == "fixed")


@pytest.mark.parametrize("task", TASKS)
def test_no_global_random_numbers(task):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    play(make(task, goals="varied"))
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("task", TASKS)
def test_short_reset_equals_metaworlds_own(task):
    ours, theirs = make(task), make(task)
    play(ours), play(theirs)  # both come from the end of an episode
    start, expected = ours.reset(), theirs.env.reset()[0]
    assert np.array_equal(start, expected)
    full = [
        np.zeros(mujoco.mj_stateSize(e.env.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        for e in (ours, theirs)
    ]
    for environment, state in zip((ours, theirs), full, strict=True):
        mujoco.mj_getState(
            environment.env.model, environment.env.data, state, mujoco.mjtState.mjSTATE_INTEGRATION
        )
    assert np.array_equal(*full)
    action = np.array([0.5, -0.5, 0.3, 1.0])
    for _ in range(20):
        one, two = ours.step(action), theirs.step(action)
        assert np.array_equal(one.observation, two.observation)
        assert one[1:] == two[1:]


@pytest.mark.parametrize("goals", ["fixed", "varied"])
@pytest.mark.parametrize("task", TASKS)
def test_between_episodes_the_generator_is_the_whole_state(task, goals):
    """What makes a resumed run equal an unbroken one: a new environment continues from `state()`
    alone.
    """
    old = make(task, seed=3, goals=goals)
    play(old, 2)
    new = make(task, seed=3, goals=goals)
    new.load(old.state())
    assert same(play(old, 2, seed=1), play(new, 2, seed=1))


@pytest.mark.parametrize("task", TASKS)
def test_horizon_truncates_and_never_terminates(task):
    environment = make(task, horizon=7)
    environment.reset()
    steps = [environment.step(np.zeros(4)) for _ in range(7)]
    assert [step.truncated for step in steps] == [False] * 6 + [True]
    assert not any(step.terminated for step in steps)


def test_observation_shows_the_goal():
    environment = make("reach-v3")
    observation = environment.reset()
    assert observation.shape == (environment.observation_size,) == (39,)
    assert np.array_equal(observation[-3:], environment.env._target_pos)
    assert environment.action_size == 4


@pytest.mark.parametrize("task", TASKS)
def test_a_step_says_how_far_the_object_is_from_its_goal(task):
    ours, theirs = make(task), make(task)
    ours.reset(), theirs.reset()
    for action in np.random.default_rng(1).uniform(-1, 1, (5, 4)):
        distance, expected = (
            ours.step(action).distance,
            theirs.env.step(action)[-1]["obj_to_target"],
        )
        assert distance == expected > 0


def test_a_task_without_a_distance_says_nan(monkeypatch):
    environment = make("reach-v3")
    observation = environment.reset()
    monkeypatch.setattr(
        environment.env, "step", lambda action: (observation, 1.0, False, False, {"success": 1.0})
    )
    assert np.isnan(environment.step(np.zeros(4)).distance)


def test_task_sets_are_metaworlds_own():
    assert set(MT10) == set(env_dict.MT10_V3)
    assert set(MT50) == set(env_dict.MT50_V3)
    assert [len(names) for names in (MT3, MT10, MT50)] == [3, 10, 50]
    assert set(MT3) <= set(MT10) <= set(MT50)
    check_names(list(MT50), "v1", "fixed")


def test_one_unknown_name_among_many_is_found():
    with pytest.raises(UserError, match="'push-v9'"):
        check_names([*MT10, "push-v9"], "v1", "fixed")


@pytest.mark.parametrize("task", TASKS)
def test_reward_versions_differ_in_scale(task):
    old, new = (
        np.array([row[-1] for row in play(make(task, reward_function_version=v))[1:]])
        for v in ("v1", "v2")
    )
    assert new.min() >= 0
    assert new.max() <= 10
    assert not np.allclose(old, new)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "reech-v3"}, ["reech-v3", "reach-v3"]),
        ({"task": "button-press-top"}, ["button-press"]),
        ({"task": "reach-v3", "reward_function_version": "v3"}, ["v3", "v1", "v2"]),
        ({"task": "reach-v3", "goals": "random"}, ["random", "fixed", "varied"]),
    ],
)
def test_unknown_names_are_refused_with_what_there_is(change, words):
    with pytest.raises(UserError) as caught:
        make(**change)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", [*REDRAWN, "reach-v3"])
def test_fixed_positions_are_the_first_that_the_scripted_policy_solves(task):
    """Fails where a redrawn task keeps a draw that cannot be solved, or skips one that can."""
    assert experts.first_solved(task) == REDRAWN.get(task, 0)


@pytest.mark.parametrize("version", REWARD_VERSIONS)
@pytest.mark.parametrize("task", sorted({*MT10, *REDRAWN, *SUCCESS_OF_V2}))
def test_scripted_policy_solves_the_task_within_the_horizon(task, version):
    """Fails where success cannot occur: bad positions, or version 1's constant success flags."""
    environment = experts.environment(task, version)
    first, _ = experts.play(environment, experts.scripted(task))
    assert 0 < first <= experts.HORIZON


@pytest.mark.parametrize("task", SUCCESS_OF_V2)
def test_success_of_version_2_changes_neither_reward_nor_observation_of_version_1(task):
    ours, theirs = make(task), make(task)
    ours.reset(), theirs.reset()
    for action in np.random.default_rng(1).uniform(-1, 1, (20, 4)):
        step, (observation, reward, *_) = ours.step(action), theirs.env.step(action)
        assert np.array_equal(step.observation, observation)
        assert step.reward == reward
    assert ours.env.reward_function_version == "v1"


def test_another_draw_has_other_positions():
    first, second = (experts.environment("reach-v3", "v1", draw).reset()[-3:] for draw in (0, 1))
    assert not np.array_equal(first, second)
