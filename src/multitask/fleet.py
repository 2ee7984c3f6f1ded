"""The environments of all tasks as one, in this process or in worker processes that share their arrays with it.

Workers are spawned, each with a contiguous share of the tasks. Per step they wait for one byte on a pipe, read their
actions from shared memory, write what they see there, and answer with one byte. They import no torch.
"""

import contextlib
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple, NoReturn, Protocol, Self

import numpy as np

from multitask.errors import UserError


class Environment(Protocol):
    """One task as the fleet uses it; `multitask.envs.MetaWorld` is one."""

    name: str
    horizon: int
    observation_size: int
    action_size: int
    code: np.ndarray | None  # tells the task apart in the place of a one-hot

    def reset(self) -> np.ndarray: ...
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, bool, float]: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


class Steps(NamedTuple):
    """What one step of all tasks returns; the order of `multitask.envs.Step`."""

    observation: np.ndarray  # [T, O]
    reward: np.ndarray  # [T]
    terminated: np.ndarray  # [T] bool
    truncated: np.ndarray  # [T] bool
    success: np.ndarray  # [T] bool
    distance: np.ndarray  # [T], m; nan where a task has none


class Failure(NamedTuple):
    """What a worker says of an exception."""

    mendable: bool  # a UserError
    words: str


Maker = Callable[[], Environment]
Description = tuple[str, int, int, int, np.ndarray | None]
COLUMNS = 5  # of a row of shared memory after the observation: Steps without it
RESET, STEP, STATE, LOAD, CLOSE = b"r", b"s", b"g", b"l", b"c"
DONE, FAILED = b"d", b"f"


class Memory:
    """Actions `[T, A]` and rows `[T, O + COLUMNS]` in one block of shared memory; pickles as its name."""

    def __init__(self, shapes: Sequence[tuple[int, int]], name: str | None = None) -> None:
        self.shapes, self.created = shapes, name is None
        numbers = sum(rows * columns for rows, columns in shapes)
        self.block = SharedMemory(name, create=self.created, size=8 * numbers)

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.shapes, self.block.name)

    def arrays(self) -> list[np.ndarray]:
        """The arrays, one after the other in the block."""
        found, offset = [], 0
        for shape in self.shapes:
            found.append(np.ndarray(shape, dtype=np.float64, buffer=self.block.buf, offset=offset))
            offset += 8 * shape[0] * shape[1]
        return found

    def close(self) -> None:
        """Give the block back; the arrays must not be used any more."""
        with contextlib.suppress(BufferError):  # somebody still holds an array: the process's end frees it
            self.block.close()
        if self.created:
            self.block.unlink()


def describe(environment: Environment) -> Description:
    """Name, horizon, sizes and code of one environment."""
    e = environment
    return e.name, e.horizon, e.observation_size, e.action_size, e.code


def reset_into(environments: Sequence[Environment], rows: np.ndarray) -> None:
    """Reset every environment and write its observation into its row."""
    for environment, row in zip(environments, rows, strict=True):
        row[:-COLUMNS] = environment.reset()


def step_into(environments: Sequence[Environment], actions: np.ndarray, rows: np.ndarray) -> None:
    """Step every environment and write what it returns into its row."""
    for environment, action, row in zip(environments, actions, rows, strict=True):
        observation, *rest = environment.step(action)
        row[:-COLUMNS], row[-COLUMNS:] = observation, rest


def work(pipe: Connection, makers: Sequence[Maker]) -> None:
    """A worker's life: make the environments, obey, end when the pipe closes (the trainer ended, however it did)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the trainer decides; it closes the pipe
    running = False
    try:
        environments = [make() for make in makers]
        pipe.send([describe(environment) for environment in environments])
        memory, first, last = pipe.recv()
        actions, rows = (part[first:last] for part in memory.arrays())
        running = True
        while (order := pipe.recv_bytes()) != CLOSE:
            if order == RESET:
                reset_into(environments, rows)
            elif order == STEP:
                step_into(environments, actions, rows)
            elif order == LOAD:
                for environment, state in zip(environments, pipe.recv(), strict=True):
                    environment.load(state)
            pipe.send_bytes(DONE)
            if order == STATE:
                pipe.send([environment.state() for environment in environments])
    except (EOFError, OSError):
        return
    except Exception as error:
        with contextlib.suppress(OSError):
            if running:
                pipe.send_bytes(FAILED)
            words = str(error) if isinstance(error, UserError) else traceback.format_exc().strip().replace("\n", " | ")
            pipe.send(Failure(isinstance(error, UserError), words))


class Fleet:
    """Environments of T tasks that step together; a context manager that ends its workers."""

    def __init__(self, makers: Sequence[Maker], workers: int = 0) -> None:
        """`makers`: picklable where there are workers (e.g. `functools.partial(MetaWorld, "reach-v3", ...)`)."""
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._environments: list[Environment] = []
        self._memory: Memory | None = None
        self.names = [f"task {k}" for k in range(len(makers))]  # until they say
        self._shares = np.array_split(np.arange(len(makers)), min(workers, len(makers)) or 1)
        try:
            described = self._start(makers) if workers else self._make(makers)
            self._check(described)
            shapes = [(len(makers), self.action_size), (len(makers), self.observation_size + COLUMNS)]
            if workers:
                self._memory = Memory(shapes)
                self._actions, self._rows = self._memory.arrays()
                for worker, share in enumerate(self._shares):
                    self._pipes[worker].send((self._memory, int(share[0]), int(share[-1]) + 1))
            else:
                self._actions, self._rows = (np.zeros(shape) for shape in shapes)
        except BaseException:
            self.close()
            raise

    def _make(self, makers: Sequence[Maker]) -> list[Description]:
        self._environments = [make() for make in makers]
        return [describe(environment) for environment in self._environments]

    def _start(self, makers: Sequence[Maker]) -> list[Description]:
        context = get_context("spawn")
        for share in self._shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, [makers[k] for k in share]), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        return [one for worker in range(len(self._pipes)) for one in self._receive(worker)]

    def _check(self, described: Sequence[Description]) -> None:
        names, horizons, observations, actions, codes = zip(*described, strict=True)
        self.names = list(names)
        for values, word in (
            (horizons, "horizons"),
            (observations, "observation sizes"),
            (actions, "action sizes"),
        ):
            if len(set(values)) > 1:
                raise UserError(f"the tasks differ in their {word}, {sorted(set(values))}; one loop needs one for all")
        self.horizon, self.observation_size, self.action_size = horizons[0], observations[0], actions[0]
        if len({code is None for code in codes}) > 1:
            raise UserError("some tasks have a code and some have none; give all of them one, or none")
        self.codes = np.eye(len(names)) if codes[0] is None else np.stack(codes).astype(np.float64)

    # --- what the loop calls

    def reset(self) -> np.ndarray:
        """Start an episode in every task: observations `[T, O]`."""
        if self._environments:
            reset_into(self._environments, self._rows)
        else:
            self._tell(RESET)
            self._hear()
        return self._rows[:, :-COLUMNS].copy()

    def step(self, actions: np.ndarray) -> Steps:
        """One step of every task under actions `[T, A]`."""
        self.begin(actions)
        return self.finish()

    def begin(self, actions: np.ndarray) -> None:
        """Send the workers off, so that the caller can work until it calls `finish`."""
        self._actions[:] = actions
        self._tell(STEP)

    def finish(self) -> Steps:
        """Wait for the step that `begin` began."""
        if self._environments:
            step_into(self._environments, self._actions, self._rows)
        else:
            self._hear()
        rows = self._rows.copy()
        reward, terminated, truncated, success, distance = rows[:, -COLUMNS:].T
        return Steps(rows[:, :-COLUMNS], reward, terminated > 0, truncated > 0, success > 0, distance)

    def state(self) -> list[dict[str, Any]]:
        """The states between two episodes, task by task."""
        if self._environments:
            return [environment.state() for environment in self._environments]
        self._tell(STATE)
        self._hear()
        return [one for worker in range(len(self._pipes)) for one in self._receive(worker)]

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore `state()`, whatever the number of workers was."""
        for environment, state in zip(self._environments, states, strict=False):
            environment.load(state)
        self._tell(LOAD)
        for pipe, share in zip(self._pipes, self._shares, strict=False):
            pipe.send([states[k] for k in share])
        self._hear() if self._pipes else None

    def close(self) -> None:
        """End the workers and free what they shared; a second call does nothing."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send_bytes(CLOSE)
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()
        if self._memory is not None:
            self._actions = self._rows = np.zeros((0, 0))
            self._memory.close()
        self._pipes, self._processes, self._memory = [], [], None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- talking with the workers

    def _tell(self, order: bytes) -> None:
        for worker, pipe in enumerate(self._pipes):
            try:
                pipe.send_bytes(order)
            except OSError:
                self._died(worker)

    def _hear(self) -> None:
        for worker, pipe in enumerate(self._pipes):
            try:
                answer = pipe.recv_bytes()
            except (EOFError, OSError):  # a dead worker's end of the pipe is closed: noticed at once
                self._died(worker)
            if answer == FAILED:
                self._failed(worker)

    def _receive(self, worker: int) -> Any:
        try:
            answer = self._pipes[worker].recv()
        except (EOFError, OSError):
            self._died(worker)
        if isinstance(answer, Failure):
            self._failed(worker, answer)
        return answer

    def _tasks(self, worker: int) -> str:
        return ", ".join(self.names[k] for k in self._shares[worker])

    def _failed(self, worker: int, failure: "Failure | None" = None) -> NoReturn:
        failure = failure or self._pipes[worker].recv()
        if failure.mendable:
            raise UserError(failure.words)
        raise RuntimeError(f"a worker of {self._tasks(worker)} failed: {failure.words}")

    def _died(self, worker: int) -> NoReturn:
        self._processes[worker].join(timeout=5)
        code = self._processes[worker].exitcode
        raise UserError(
            f"the worker process of {self._tasks(worker)} died (exit code {code}; -9 is often lack of memory); "
            "the last checkpoint is intact, the same command resumes from it"
        )
