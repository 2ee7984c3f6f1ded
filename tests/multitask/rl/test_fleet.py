"""The fleet: workers change no number, states travel, faults are named, nothing is left over."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from multitask.rl import fleet as fleets
from multitask.rl.fleet import Fleet
from multitask.runs.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
REAL = {"seed": 0, "horizon": 20, "reward_function_version": "v1", "goals": "varied"}


class Drift:
    """A point that drifts with the action and its own noise, and fails at a given step."""

    observation_size, action_size = 2, 2

    def __init__(self, name, seed=0, horizon=4, code=None, fault=""):
        self.name, self.horizon, self.code, self.fault = name, horizon, code, fault
        self.random = np.random.default_rng(seed)
        if fault == "make":
            raise UserError(f"{name} cannot be made; take another")

    def reset(self):
        self.time, self.x = 0, self.random.normal(size=2)
        return self.x.copy()

    def step(self, action):
        self.time += 1
        self.x = self.x + action + 0.1 * self.random.normal(size=2)
        if self.time == 3 and self.fault == "raise":
            raise ValueError("out of the room")
        if self.time == 3 and self.fault == "mendable":
            raise UserError("the room is too small; make it larger")
        if self.time == 3 and self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        ended = self.time == self.horizon
        return (
            self.x.copy(),
            float(self.x.sum()),
            self.x[0] > 9,
            ended,
            self.x[1] > 0,
            float(self.x[0]),
        )

    def state(self):
        return {"generator": json.dumps(self.random.bit_generator.state)}

    def load(self, state):
        self.random.bit_generator.state = json.loads(state["generator"])


def interrupted_while_it_starts():
    """What unpickling `Interrupted` calls: in a worker, before anything else of ours."""
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    return partial(Drift, "a")


class Interrupted:
    """A maker; the worker that receives it is interrupted while it still starts."""

    def __reduce__(self):
        return interrupted_while_it_starts, ()


def makers(count=5, **changes):
    return [partial(Drift, f"drift{k}", seed=k, **changes) for k in range(count)]


def play(fleet, episodes=2):
    """Everything that the fleet returns under one fixed sequence of actions."""
    random = np.random.default_rng(7)
    rows = []
    for _ in range(episodes):
        rows.append(fleet.reset())
        for _ in range(fleet.horizon):
            rows += fleet.step(random.uniform(-1, 1, (len(fleet.names), fleet.action_size)))
    return rows


def same(first, second):
    return len(first) == len(second) and all(
        a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_no_number(workers):
    with Fleet(makers()) as alone, Fleet(makers(), workers) as shared:
        assert len(shared._processes) == workers
        assert (shared.names, shared.horizon, shared.observation_size) == (alone.names, 4, 2)
        np.testing.assert_array_equal(shared.codes, np.eye(5))
        assert same(play(alone), play(shared))


class Odd(Drift):
    """Its observations, or the fields after them, pass through a function."""

    def __init__(self, name, observed=lambda x: x, rest=lambda fields: fields):
        super().__init__(name)
        self.observed, self.rest = observed, rest

    def reset(self):
        return self.observed(super().reset())

    def step(self, action):
        x, *fields = super().step(action)
        return self.observed(x), *self.rest(fields)


@pytest.mark.parametrize(
    "change",
    [
        {"observed": lambda x: x[:1]},
        {"observed": lambda x: x.sum()},
        {"observed": lambda x: np.append(x, 0)},
        {"observed": lambda x: x[None]},
        {"observed": lambda x: x + 1j},
        {"rest": lambda fields: fields[:1]},
        {"rest": lambda fields: [fields[0] * 1j, *fields[1:]]},
    ],
    ids=["one number", "scalar", "longer", "two axes", "complex", "one field", "complex reward"],
)
def test_results_of_other_sizes_are_not_spread_over_the_row(change):
    with Fleet([partial(Drift, "a"), partial(Odd, "b", **change)]) as fleet:
        with pytest.raises((TypeError, ValueError)) as caught:
            play(fleet)
        assert caught.value.__notes__ == ["task b"]


def test_no_more_workers_than_tasks():
    with Fleet(makers(2)) as alone, Fleet(makers(2), 9) as shared:
        assert len(shared._processes) == 2
        assert same(play(alone), play(shared))


def test_workers_change_no_number_on_metaworld():
    from multitask.rl.envs import (
        MetaWorld,  # here: a worker of the other tests would import it for nothing
    )

    tasks = [
        partial(MetaWorld, name, **REAL) for name in ("reach-v3", "drawer-close-v3", "push-v3")
    ]
    with Fleet(tasks) as alone, Fleet(tasks, 2) as shared:
        found = play(alone)
        assert same(found, play(shared))
    assert np.isfinite(found[-1]).all()  # distances
    assert found[0].shape == (3, 39)


def test_what_a_step_returns_is_each_tasks_own():
    actions, seen = np.array([[1.0, 0.0], [0.0, -1.0]]), set()
    with Fleet(makers(2), 2) as fleet:
        observation, alone = fleet.reset(), [Drift("", seed=k) for k in range(2)]
        np.testing.assert_array_equal(observation, [one.reset() for one in alone])
        for _ in range(fleet.horizon):
            step = fleet.step(actions)
            for k, one in enumerate(alone):
                for ours, value in zip(step, one.step(actions[k]), strict=True):
                    np.testing.assert_array_equal(ours[k], value)
            seen |= {(bool(t), bool(s)) for t, s in zip(step.truncated, step.success, strict=True)}
        assert seen >= {(False, True), (True, False)}  # else nobody would see the two swapped
        held = step.observation.copy()
        fleet.step(actions)
        np.testing.assert_array_equal(
            step.observation, held
        )  # a later step does not change what was returned


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (2, 3)])
def test_states_travel_between_fleets(before, after):
    with Fleet(makers(), before) as first:
        play(first)
        states = first.state()
        expected = play(first)
    with Fleet(makers(), after) as second:
        play(second, 1)
        second.load(states)
        assert same(play(second), expected)


def test_codes_replace_one_hots():
    with Fleet(
        [
            partial(Drift, "a", code=np.array([1.0, 2.0])),
            partial(Drift, "b", code=np.array([3.0, 4.0])),
        ]
    ) as fleet:
        np.testing.assert_array_equal(fleet.codes, [[1, 2], [3, 4]])
    with pytest.raises(UserError, match="all of them"):
        Fleet([partial(Drift, "a", code=np.zeros(2)), partial(Drift, "b")])


@pytest.mark.parametrize("workers", [0, 2])
def test_tasks_of_unequal_horizon_are_refused(workers):
    with pytest.raises(UserError, match=r"horizons, \[3, 4\]"):
        Fleet([partial(Drift, "a", horizon=3), partial(Drift, "b", horizon=4)], workers)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("raise", RuntimeError, r"^task drift1 failed: ValueError: out of the room \|.*in step"),
        ("mendable", UserError, "^the room is too small; make it larger$"),
        (
            "die",
            UserError,
            r"of drift0, drift1 died \(exit code -9.*checkpoint is intact, "
            r"the same command resumes",
        ),
    ],
)
def test_a_fault_in_a_worker_is_named(fault, kind, words):
    tasks = [partial(Drift, f"drift{k}", fault=fault if k == 1 else "") for k in range(3)]
    with pytest.raises(kind, match=words) as caught, Fleet(tasks, 2) as fleet:
        play(fleet)
    assert "\n" not in str(caught.value)
    assert not fleet._processes


def test_a_worker_killed_between_steps_is_noticed_at_once():
    with Fleet(makers(2), 2) as fleet:
        fleet.reset()
        processes = list(fleet._processes)
        os.kill(processes[1].pid, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(UserError, match=r"^the worker process of drift1 died \(exit code -9"):
            fleet.step(np.zeros((2, 2)))
        assert time.monotonic() - began < 1
    assert all(
        process.exitcode is not None for process in processes
    )  # none is left, not as a zombie either


def test_a_worker_that_hangs_is_named_after_the_stated_time(monkeypatch):
    """Bug: a stopped worker was waited for without end."""
    with Fleet(makers(2), 2) as fleet:
        fleet.reset()
        monkeypatch.setattr(fleets, "ANSWER_SECONDS", 0.5)
        os.kill(fleet._processes[1].pid, signal.SIGSTOP)
        with pytest.raises(
            UserError, match=r"^the worker process of drift1 gave no answer for 0.5 s"
        ):
            fleet.step(np.zeros((2, 2)))


def test_a_worker_is_deaf_to_signals_from_its_first_moment():
    with Fleet([Interrupted(), partial(Drift, "b")], 1) as fleet:
        pid = fleet._processes[0].pid
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert fleet.reset().shape == (2, 2)
        assert fleet._processes[0].pid == pid
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not before & {signal.SIGINT, signal.SIGTERM}  # and the trainer hears them


def test_shared_memory_has_no_name_that_could_be_left_over():
    with Fleet(makers(2), 1) as fleet:
        with pytest.raises(FileNotFoundError):
            SharedMemory(fleet._memory.block.name)
        play(fleet, 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_states_of_another_number_of_tasks_are_refused(workers):
    with (
        Fleet(makers(3), workers) as fleet,
        pytest.raises(UserError, match="2 saved states for 3 tasks"),
    ):
        fleet.load(fleet.state()[:2])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_task_that_cannot_be_made_is_the_same_fault_anywhere(workers):
    with pytest.raises(UserError, match=r"^drift0 cannot be made; take another$"):
        Fleet([partial(Drift, "drift0", fault="make")], workers)


@pytest.fixture
def trainer(tmp_path):
    """A process whose main module imports `wave` and makes a fleet of two workers; its first line
    and their pids.
    """
    started = []

    def start(then):
        script = tmp_path / "trainer.py"
        script.write_text(
            "import sys, time, wave\n"
            f"sys.path[:0] = [{str(ROOT / 'src')!r}, {str(Path(__file__).parent)!r}]\n"
            "from test_fleet import Fleet, Witness, partial\n"
            "if __name__ == '__main__':\n"
            "    fleet = Fleet([partial(Witness, 'a'), partial(Witness, 'b')], 2)\n"
            "    print([p.pid for p in fleet._processes], fleet.state(), flush=True)\n"
            f"    {then}\n"
        )
        process = subprocess.Popen(
            [sys.executable, script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        started.append(process)
        line = process.stdout.readline()
        return process, line, json.loads(line[: line.index("]") + 1])

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_workers_end_with_a_killed_trainer_and_import_neither_torch_nor_its_main_module(trainer):
    process, line, workers = trainer("time.sleep(60)")
    assert line.count("{'torch': False, 'wave': False}") == 2
    process.kill()
    assert ended(workers, 10), "a worker outlives its trainer"


def test_a_trainer_that_forgets_to_close_its_fleet_ends_and_so_do_its_workers(trainer):
    process, _, workers = trainer("raise ValueError('lost')")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.count("Traceback") == errors.count("ValueError: lost") == 1  # the trainer's alone
    assert ended(workers, 1)


def ended(pids: list[int], seconds: float) -> bool:
    """Whether all these processes are gone, or zombies of a process that is not ours, within the
    time.
    """
    deadline = time.monotonic() + seconds
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Witness(Drift):
    """Its state says what is loaded."""

    def state(self):
        return {name: name in sys.modules for name in ("torch", "wave")}
