"""The SAC loop as a run: same seed same numbers, resume, episodes, faults, a small task learned."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from sac_helpers import SETTINGS, Walk, fleet, new_session, walks

from multitask.rl.fleet import Fleet
from multitask.rl.replay import Batch, Replay
from multitask.rl.sac import METHODS, Learner, collect, draw_orders, train
from multitask.runs.checkpoint import Stopped
from multitask.runs.errors import UserError


class Still(Walk):
    """Every episode starts at the same point."""

    def reset(self):
        self.random = np.random.default_rng(0)
        return super().reset()


def run(path, method="sac_pcgrad", seed=0, environments=None, session=None, **changes):
    session = session or new_session(path / "c.pt")
    return train(
        {**SETTINGS, **changes}, seed, session, fleet(environments or walks()), method=method
    )


def values(records, metric, task="all"):
    return [value for _, t, m, value in records.rows if (t, m) == (task, metric)]


@pytest.mark.parametrize("method", METHODS)
def test_one_seed_gives_one_run(tmp_path, method):
    first, second, other = (run(tmp_path, method, seed) for seed in (0, 0, 1))
    assert first.rows == second.rows
    assert first.rows != other.rows


def test_methods_share_everything_before_the_first_update(tmp_path):
    plain, surgical = (
        run(tmp_path, method, collections=2, updates_per_collection=20)
        for method in ("sac", "sac_pcgrad")
    )
    for step, task, metric, value in plain.rows:
        if metric in ("return", "success") and step <= 1:
            assert (step, task, metric, value) in surgical.rows
    assert values(plain, "return") != values(
        surgical, "return"
    )  # after the first updates surgery tells


def test_surgery_off_is_length_ratio_one(tmp_path):
    assert values(run(tmp_path, "sac"), "length_ratio_q1") == pytest.approx([1.0] * 3, rel=1e-12)
    assert values(run(tmp_path, "sac", reduction="mean"), "length_ratio_actor") == pytest.approx(
        [0.5] * 3, rel=1e-12
    )


@pytest.mark.parametrize("method", METHODS)
def test_stopped_after_every_collection_and_resumed_equals_unbroken(tmp_path, method):
    unbroken = run(tmp_path / "a", method, collections=4)
    stops = 0
    while True:
        try:
            # A new process has new environments; the checkpoint alone carries their generators.
            resumed = run(
                tmp_path,
                method,
                collections=4,
                session=new_session(tmp_path / "b.pt", deadline=0.0),
            )
            break
        except Stopped:
            stops += 1
            if stops == 4:
                resumed = run(
                    tmp_path, method, collections=4, session=new_session(tmp_path / "b.pt")
                )
                break
    assert stops == 4
    assert resumed.rows == unbroken.rows


@pytest.mark.parametrize("workers", [0, 2])
def test_overlap_repeats_to_the_bit_and_resumes(tmp_path, workers):
    def overlapping(name, **session):
        with Fleet([partial(Walk, 1.0, seed=1), partial(Walk, -1.0, seed=2)], workers) as shared:
            settings = {**SETTINGS, "overlap": True}
            return train(
                settings, 0, new_session(tmp_path / name, **session), shared, method="sac_pcgrad"
            )

    first, second = (overlapping(name).rows for name in ("a.pt", "b.pt"))
    assert first == second == run(tmp_path / "c", overlap=True).rows
    with pytest.raises(Stopped):
        overlapping("d.pt", deadline=0.0)
    assert overlapping("d.pt").rows == first


def test_overlap_plays_by_the_actor_from_before_the_updates(tmp_path):
    """Its first collection is that of a run that never updates; in turn, the second one already is
    not.
    """
    idle = run(tmp_path / "a", updates_per_collection=1, learning_rate=0.0, collections=3)
    fast = {"updates_per_collection": 40, "collections": 3}
    overlapping, in_turn = (
        run(tmp_path / f"{overlap}", overlap=overlap, **fast) for overlap in (True, False)
    )
    assert (
        values(overlapping, "return")[:2]
        == values(in_turn, "return")[:2]
        == values(idle, "return")[:2]
    )
    assert values(overlapping, "return")[2] != values(idle, "return")[2]


def test_overlap_updates_draw_from_the_collections_before(tmp_path, monkeypatch):
    held = []
    original = Replay.draw_indices

    def draw_indices(self, *args):
        held.append(len(self))
        return original(self, *args)

    monkeypatch.setattr(Replay, "draw_indices", draw_indices)
    run(tmp_path / "a", overlap=True)
    run(tmp_path / "b")
    warm_up, samples = (
        SETTINGS["warm_up_paths"] * SETTINGS["horizon"],
        SETTINGS["samples_per_collection"],
    )
    assert held == [warm_up + k * samples for k in (0, 1, 2, 1, 2, 3)]


def test_a_fault_of_the_environments_ends_an_overlapping_run(tmp_path):
    class Broken(Walk):
        def step(self, action):
            if len(self.resets) > SETTINGS["warm_up_paths"]:
                raise UserError("the walk is broken; mend it")
            return super().step(action)

    with pytest.raises(UserError, match="the walk is broken"):
        run(tmp_path, environments=[Broken(1.0), Walk(-1.0)], overlap=True)


def test_rows_of_a_collection(tmp_path):
    records = run(tmp_path, collections=2)
    rows = {(step, task, metric) for step, task, metric, _ in records.rows}
    assert len(rows) == len(records.rows)  # nothing is recorded twice
    for component in ("actor", "q1", "q2"):
        assert (2, "all", f"curvature_remainder_{component}") in rows
        assert (2, "all", f"curvature_definition3_{component}") in rows
    assert values(records, "environment_steps") == [2 * (10 + 10), 2 * (10 + 20)]
    assert values(records, "updates") == [4, 8]
    assert values(records, "pairs_q1") == [4, 4]
    for one in records.rows:
        assert math.isfinite(one[3]), one


def test_truncation_stores_the_final_observation_and_does_not_terminate():
    environments = walks()
    replay = Replay(2, 100, 3, 2, torch.float64, torch.device("cpu"))
    found = collect(
        fleet(environments), lambda o: torch.full((2, 2), 0.5, dtype=torch.float64), 3, replay.add
    )
    held = Batch(*replay.storage[:, :15].split(replay.widths, dim=-1))
    assert held.terminated.eq(0).all()
    for t, environment in enumerate(environments):
        observations, following = (
            held.observation[t].view(3, 5, 3),
            held.next_observation[t].view(3, 5, 3),
        )
        starts = torch.from_numpy(np.stack(environment.resets))
        torch.testing.assert_close(observations[:, 0], starts)
        torch.testing.assert_close(observations[:, 1:], following[:, :-1])
        torch.testing.assert_close(
            following[..., 2], torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0]).double().expand(3, 5)
        )
        torch.testing.assert_close(following[:, -1, :2], starts[:, :2] + 5 * 0.1 * 0.5)
        returns = held.reward[t].view(3, 5).sum(1)
        torch.testing.assert_close(found["return"][t], returns)


def test_success_at_any_step_and_at_the_last_step_differ():
    class Passing(Walk):
        def step(self, action):
            return super().step(action)._replace(success=self.time == 2)  # in the middle only

    found = collect(
        fleet([Passing(1.0)]), lambda o: torch.zeros(1, 2, dtype=torch.float64), 2, None
    )
    assert found["success"].tolist() == [[1.0, 1.0]]
    assert found["success_last"].tolist() == [[0.0, 0.0]]


def test_reward_scale_reaches_the_critics_and_not_the_records(tmp_path):
    plain, scaled = (run(tmp_path, collections=1, reward_scale=scale) for scale in (1.0, 100.0))
    assert values(plain, "return") == values(scaled, "return")
    assert values(scaled, "loss_q1", "corner+1")[0] > 100 * values(plain, "loss_q1", "corner+1")[0]


def test_evaluation_changes_no_training_number(tmp_path):
    """In environments that draw no random numbers."""
    with_it, without = (
        run(
            tmp_path,
            environments=[Still(1.0), Still(-1.0)],
            evaluation_episodes=n,
            final_evaluation_episodes=n,
        )
        for n in (2, 0)
    )
    kept = [row for row in with_it.rows if not row[2].startswith("evaluation_")]
    assert kept == without.rows
    assert len(values(with_it, "evaluation_return")) == 3


class Broken(Walk):
    """From step `first_bad` on one part of what it returns is `value`."""

    part, value = "reward", float("nan")

    def step(self, action):
        step = super().step(action)
        if self.steps < self.first_bad:
            return step
        bad = np.full(3, self.value) if self.part == "observation" else self.value
        return step._replace(**{self.part: bad})


def broken(part, first_bad, value=float("nan")):
    one = Broken(-1.0, seed=2)
    one.part, one.first_bad, one.value = part, first_bad, value
    return one


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["reward", "observation", "success"])
def test_what_is_not_finite_is_refused_before_it_is_stored(tmp_path, part, value, overlap):
    """Warm-up 10 steps, then 10 a collection and 5 of its evaluation: step 28 is collection 2's
    third. The next start equals a run that nothing happened to.
    """
    unbroken = run(tmp_path / "a", overlap=overlap)
    session = new_session(tmp_path / "c.pt", every_seconds=0.0)
    environments = [Walk(1.0, seed=1), broken(part, 28, value)]
    with pytest.raises(
        UserError, match=rf"{part} of corner-1 at collection 2, episode 1, step 3"
    ) as caught:
        run(tmp_path, environments=environments, session=session, overlap=overlap)
    assert "corner+1" not in str(caught.value)
    kept = new_session(tmp_path / "c.pt").load()
    assert kept["next"] == 2
    assert kept["replay"]["storage"].isfinite().all()
    healthy = run(tmp_path, session=new_session(tmp_path / "c.pt"), overlap=overlap)
    assert healthy.rows == unbroken.rows


@pytest.mark.parametrize(
    ("first_bad", "when"),
    [(1, "warm-up, episode 1, step 1"), (22, "evaluation after collection 1, episode 1, step 2")],
)
def test_a_broken_simulator_is_noticed_outside_of_training_too(tmp_path, first_bad, when):
    with pytest.raises(UserError, match=f"success of corner-1 at {when}"):
        run(tmp_path, environments=[Walk(1.0, seed=1), broken("success", first_bad)])


def test_an_observation_that_a_reset_returns_is_refused(tmp_path):
    class Lost(Walk):
        def observe(self):
            return np.full(3, np.nan)

    with pytest.raises(UserError, match=r"observation of corner\+1 at warm-up, episode 1, step 0"):
        run(tmp_path, environments=[Lost(1.0), Walk(-1.0)])


def test_a_diverging_learner_names_the_task_and_leaves_the_last_checkpoint(tmp_path):
    """The simulator is sound here: rewards whose square overflows."""

    class Huge(Walk):
        def step(self, action):
            step = super().step(action)
            return step._replace(reward=1e30) if self.steps >= 25 else step

    session = new_session(tmp_path / "c.pt", every_seconds=0.0)
    environments = [Walk(1.0, seed=1), Huge(-1.0, seed=2)]
    with pytest.raises(UserError, match=r"corner-1 at collection 2") as caught:
        run(tmp_path, environments=environments, session=session, evaluation_episodes=0)
    assert "corner+1" not in str(caught.value)
    kept = new_session(tmp_path / "c.pt").load()
    assert kept["next"] == 2
    assert all(torch.isfinite(p).all() for p in kept["learner"]["actor"]["parameters"])


def test_the_policy_is_evaluated_every_so_often_and_at_the_end(tmp_path):
    """Fails where the interval or the last evaluation's own number of episodes is not read."""
    environments = walks()
    records = run(
        tmp_path,
        environments=environments,
        collections=5,
        evaluation_every=2,
        evaluation_episodes=3,
        final_evaluation_episodes=7,
    )
    steps = [step for step, t, m, _ in records.rows if (t, m) == ("all", "evaluation_success")]
    assert steps == [2, 4, 5]
    training = SETTINGS["warm_up_paths"] + 5 * SETTINGS["samples_per_collection"] // 5
    assert len(environments[0].resets) == training + 3 + 3 + 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples_per_collection": 12}, "multiple of horizon 5"),
        ({"warm_up_paths": 0}, "warm_up_paths"),
        ({"device": "cuda"}, "set device to cpu"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, change, message):
    if "device" in change and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=message):
        run(tmp_path, **change)


def test_episodes_of_unequal_length_are_refused():
    class Short(Walk):
        def step(self, action):
            step = super().step(action)
            return step._replace(truncated=self.time == 3)

    with pytest.raises(RuntimeError, match="one horizon"):
        collect(
            fleet([Walk(1.0), Short(-1.0)]),
            lambda o: torch.zeros(2, 2, dtype=torch.float64),
            1,
            None,
        )


@pytest.mark.parametrize("method", METHODS)
def test_learner_comes_back_from_its_state(method):
    def new():
        codes = torch.eye(2, dtype=torch.float64)
        return Learner(
            SETTINGS, codes, (3, 2), METHODS[method], 0, torch.device("cpu"), torch.float64
        )

    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        *(
            torch.rand(2, 6, *w, generator=generator, dtype=torch.float64)
            for w in ((3,), (2,), (), (3,), ())
        )
    )
    noise = torch.randn(2, 2, 6, 2, generator=generator, dtype=torch.float64)
    orders = draw_orders("random", 2, 1, generator)[0]
    first, second = new(), new()
    first.update(batch, noise, orders, False)
    second.load(copy.deepcopy(first.state()))
    for agent in (first, second):
        agent.update(batch, noise, orders, False)
    for one, two in zip(
        [*first.actor, *first.critics, *first.targets, first.log_alpha()],
        [*second.actor, *second.critics, *second.targets, second.log_alpha()],
        strict=True,
    ):
        assert torch.equal(one, two)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_opposed_tasks_are_learned(tmp_path, precision):
    """The corners need opposite pushes: signs of the losses, one-hots and target actions must all
    be right.
    """
    environments = [Still(1.0), Still(-1.0)]
    choices = {
        "collections": 20,
        "updates_per_collection": 25,
        "width": 32,
        "batch_per_task": 32,
        "reward_scale": 10.0,
        "precision": precision,
    }
    records = run(tmp_path, environments=environments, **choices)
    for environment in environments:
        standing = 5 * environment.corner * environment.reset()[:2].sum()
        best = standing + 2 * 0.1 * (1 + 2 + 3 + 4 + 5)  # the full push in both directions
        assert values(records, "evaluation_return", environment.name)[-1] > standing + 0.8 * (
            best - standing
        )
