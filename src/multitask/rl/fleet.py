"""Runs the environments of all tasks, in this process or in worker processes.

Workers are spawned, each with a contiguous share of the tasks, and share the arrays of actions and
results with this process. For each step a worker waits for one byte on a pipe, reads its actions
from shared memory, writes its results there, and answers with one byte. Workers import neither
torch nor the main module, so makers and what they make must come from modules that can be imported.
"""

import atexit
import contextlib
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, Protocol, Self

import numpy as np

from multitask.runs.errors import UserError


class Environment(Protocol):
    """One task as the fleet uses it, such as `multitask.rl.envs.MetaWorld`.

    `code` tells the task apart instead of a one-hot; None takes the one-hot.
    """

    name: str
    horizon: int
    observation_size: int
    action_size: int
    code: np.ndarray | None

    def reset(self) -> np.ndarray: ...
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float, float]: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


class Steps(NamedTuple):
    """The result of one step of all tasks, in the order of `multitask.rl.envs.Step`.

    Attributes:
        observation: `[T, O]`.
        reward: `[T]`.
        terminated: `[T]` bool.
        truncated: `[T]` bool.
        success: `[T]` bool.
        distance: `[T]`, m; nan where a task has none.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray
    distance: np.ndarray


class Failure(NamedTuple):
    """A worker's report of an exception; `mendable` marks a UserError."""

    mendable: bool
    words: str


Maker = Callable[[], Environment]
Description = tuple[str, int, int, int, np.ndarray | None]
# Columns that follow the observation in a row of shared memory: the other fields of Steps.
COLUMNS = 5
# Far above the time of a step or of making all environments.
ANSWER_SECONDS = 300.0
RESET, STEP, STATE, LOAD, CLOSE = b"r", b"s", b"g", b"l", b"c"
DONE, FAILED = b"d", b"f"


class Memory:
    """Actions `[T, A]` and rows `[T, O + COLUMNS]` in one block of shared memory.

    It pickles as the block's name. When all processes have opened it, its maker calls
    `forget_name`: then the system frees the block even if processes are killed.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], name: str | None = None) -> None:
        self.shapes, self.named = shapes, name is None
        # All arrays are float64, 8 bytes a number for every dtype of the networks.
        numbers = sum(rows * columns for rows, columns in shapes)
        self.block = SharedMemory(name, create=self.named, size=8 * numbers)

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.shapes, self.block.name)

    def arrays(self) -> list[np.ndarray]:
        """Returns the arrays, one after the other in the block."""
        found, offset = [], 0
        for shape in self.shapes:
            found.append(np.ndarray(shape, dtype=np.float64, buffer=self.block.buf, offset=offset))
            offset += 8 * shape[0] * shape[1]
        return found

    def forget_name(self) -> None:
        """Removes the block's name, so that no other process can open it.

        The last process to end frees the block.
        """
        if self.named:
            self.block.unlink()
        self.named = False

    def close(self) -> None:
        """Releases the block; the arrays must not be used any more."""
        self.forget_name()
        # If an array is still in use, the end of the process frees the block.
        with contextlib.suppress(BufferError):
            self.block.close()


@contextlib.contextmanager
def in_task(name: str) -> Iterator[None]:
    """Adds the task's name to an exception that leaves the block.

    A UserError is complete and stays as it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        error.add_note(f"task {name}")
        raise


@contextlib.contextmanager
def bare_start() -> Iterator[None]:
    """Starts processes in the block without a main module and with signals blocked.

    SIGINT and SIGTERM never reach them, not even while they import.
    """
    # Start it first: its start inside the block would unblock the signals.
    resource_tracker.ensure_running()
    main = sys.modules["__main__"]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    # Spawned processes import the main module again; an empty one has nothing to run.
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def describe(environment: Environment) -> Description:
    """Returns name, horizon, sizes and code of one environment."""
    e = environment
    return e.name, e.horizon, e.observation_size, e.action_size, e.code


def reset_into(environments: Sequence[Environment], rows: np.ndarray) -> None:
    """Resets every environment and writes its observation into its row."""
    for environment, row in zip(environments, rows, strict=True):
        with in_task(environment.name):
            # An assignment would broadcast an observation of another size.
            np.concatenate((environment.reset(),), out=row[:-COLUMNS])


def step_into(environments: Sequence[Environment], actions: np.ndarray, rows: np.ndarray) -> None:
    """Steps every environment and writes its result into its row."""
    for environment, action, row in zip(environments, actions, rows, strict=True):
        try:
            observation, *rest = environment.step(action)
            np.concatenate((observation, rest), out=row)
        except Exception as error:
            # Entered only after a failure: a context around every step would cost time.
            with in_task(environment.name):
                raise error


def make_all(makers: Sequence[Maker], first: int = 0) -> list[Environment]:
    """Makes the environments of tasks `first`, `first + 1`, ..."""
    environments = []
    for k, make in enumerate(makers, first):
        # The name of a task is not known before it is made.
        with in_task(str(k)):
            environments.append(make())
    return environments


def load_all(environments: Sequence[Environment], states: Sequence[dict[str, Any]]) -> None:
    """Restores every environment's state."""
    for environment, state in zip(environments, states, strict=True):
        with in_task(environment.name):
            environment.load(state)


def failure(error: Exception) -> Failure:
    """Reports an exception: a UserError's message, or task, exception and traceback in one line."""
    if isinstance(error, UserError):
        return Failure(True, str(error))
    where = ", ".join(getattr(error, "__notes__", [])) or "a worker"
    trace = " | ".join(traceback.format_exc().strip().splitlines())
    return Failure(False, f"{where} failed: {type(error).__name__}: {error} | {trace}")


def work(pipe: Connection, makers: Sequence[Maker], first: int) -> None:
    """Runs a worker: makes its environments and obeys orders until the pipe closes.

    The pipe closes when the training process ends, in whatever way.
    """
    running = False
    try:
        environments = make_all(makers, first)
        pipe.send([describe(environment) for environment in environments])
        memory: Memory = pipe.recv()
        actions, rows = (part[first : first + len(makers)] for part in memory.arrays())
        pipe.send_bytes(DONE)
        running = True
        # From here on the trainer expects a byte before any object.
        while (order := pipe.recv_bytes()) != CLOSE:
            if order == RESET:
                reset_into(environments, rows)
            elif order == STEP:
                step_into(environments, actions, rows)
            elif order == LOAD:
                load_all(environments, pipe.recv())
            pipe.send_bytes(DONE)
            if order == STATE:
                pipe.send([environment.state() for environment in environments])
    except (EOFError, OSError):
        return
    except Exception as error:
        with contextlib.suppress(OSError):
            if running:
                pipe.send_bytes(FAILED)
            pipe.send(failure(error))


class Fleet:
    """Environments of T tasks that step together; a context manager that ends its workers."""

    def __init__(self, makers: Sequence[Maker], workers: int = 0) -> None:
        """Makes the environments.

        Args:
            makers: One per task; with workers they must be picklable, such as
                `functools.partial(MetaWorld, "reach-v3", ...)`.
            workers: Number of worker processes; 0 runs the environments in this process.
        """
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._environments: list[Environment] = []
        self._memory: Memory | None = None
        # The tasks' numbers, until the environments have told their names.
        self.names = [f"task {k}" for k in range(len(makers))]
        # Contiguous shares, so that a worker's rows of the shared arrays are one slice.
        self._shares = np.array_split(np.arange(len(makers)), min(workers, len(makers)) or 1)
        if workers:
            # It runs before multiprocessing's own handler, which waits for workers that wait for
            # orders.
            atexit.register(self.close)
        try:
            # The sizes of the arrays are known only when all environments are made.
            described = self._start(makers) if workers else self._make(makers)
            self._check(described)
            shapes = [
                (len(makers), self.action_size),
                (len(makers), self.observation_size + COLUMNS),
            ]
            if workers:
                self._memory = Memory(shapes)
                self._actions, self._rows = self._memory.arrays()
                for worker, pipe in enumerate(self._pipes):
                    with self._alive(worker):
                        pipe.send(self._memory)
                self._hear()
                self._memory.forget_name()
            else:
                self._actions, self._rows = (np.zeros(shape) for shape in shapes)
        except BaseException:
            self.close()
            raise

    def _make(self, makers: Sequence[Maker]) -> list[Description]:
        self._environments = make_all(makers)
        return [describe(environment) for environment in self._environments]

    def _start(self, makers: Sequence[Maker]) -> list[Description]:
        # A forked worker would inherit the trainer's threads and its GPU state.
        context = get_context("spawn")
        for share in self._shares:
            ours, theirs = context.Pipe()
            share_of_makers = [makers[k] for k in share]
            process = context.Process(
                target=work, args=(theirs, share_of_makers, int(share[0])), daemon=True
            )
            # An interrupt waits until `close` knows the worker.
            with bare_start():
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
                raise UserError(
                    f"the tasks differ in their {word}, {sorted(set(values))}; "
                    "one loop needs one for all"
                )
        self.horizon = horizons[0]
        self.observation_size = observations[0]
        self.action_size = actions[0]
        if len({code is None for code in codes}) > 1:
            raise UserError(
                "some tasks have a code and some have none; give all of them one, or none"
            )
        # Without codes a one-hot of its place tells a task apart.
        self.codes = np.eye(len(names)) if codes[0] is None else np.stack(codes).astype(np.float64)

    # --- what the loop calls

    def reset(self) -> np.ndarray:
        """Starts an episode in every task and returns observations `[T, O]`."""
        if self._environments:
            reset_into(self._environments, self._rows)
        else:
            self._tell(RESET)
            self._hear()
        # A copy, because the next step overwrites the rows.
        return self._rows[:, :-COLUMNS].copy()

    def step(self, actions: np.ndarray) -> Steps:
        """Steps every task with actions `[T, A]`."""
        self._actions[:] = actions
        if self._environments:
            step_into(self._environments, self._actions, self._rows)
        else:
            self._tell(STEP)
            self._hear()
        rows = self._rows.copy()
        reward, terminated, truncated, success, distance = rows[:, -COLUMNS:].T
        return Steps(
            rows[:, :-COLUMNS], reward, terminated > 0, truncated > 0, success > 0, distance
        )

    def not_finite(self) -> list[str]:
        """Names what the last reset or step returned that is not finite.

        Names have the form "reward of push-v3".
        """
        bad = ~np.isfinite(self._rows)
        # A task may have no distance.
        bad[:, -1] = False
        if not bad.any():
            return []
        size = self.observation_size
        parts = {"observation": slice(0, size)}
        parts |= {name: slice(size + k, size + k + 1) for k, name in enumerate(Steps._fields[1:])}
        return [
            f"{part} of {name}"
            for name, row in zip(self.names, bad, strict=True)
            for part, place in parts.items()
            if row[place].any()
        ]

    def state(self) -> list[dict[str, Any]]:
        """Returns the states between two episodes, task by task."""
        if self._environments:
            return [environment.state() for environment in self._environments]
        self._tell(STATE)
        self._hear()
        return [one for worker in range(len(self._pipes)) for one in self._receive(worker)]

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Restores what `state` returned; the number of workers may have changed."""
        if len(states) != len(self.names):
            raise UserError(
                f"{len(states)} saved states for {len(self.names)} tasks; "
                "resume with the tasks of the run"
            )
        if self._environments:
            return load_all(self._environments, states)
        self._tell(LOAD)
        for worker, (pipe, share) in enumerate(zip(self._pipes, self._shares, strict=True)):
            with self._alive(worker):
                pipe.send([states[k] for k in share])
        self._hear()

    def close(self) -> None:
        """Ends the workers and frees the shared memory; a second call does nothing."""
        atexit.unregister(self.close)
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send_bytes(CLOSE)
            pipe.close()
        for process in self._processes:
            # A worker that hangs in the simulator does not obey: kill it after five seconds.
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()
        if self._memory is not None:
            # Drop the views first: the block cannot be closed while arrays refer to it.
            self._actions = self._rows = np.zeros((0, 0))
            self._memory.close()
        self._pipes, self._processes, self._memory = [], [], None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- talking with the workers

    @contextlib.contextmanager
    def _alive(self, worker: int) -> Iterator[None]:
        try:
            yield
        # The death of a worker closes its end of the pipe, so it is noticed at once.
        except (EOFError, OSError):
            self._died(worker)

    def _tell(self, order: bytes) -> None:
        for worker, pipe in enumerate(self._pipes):
            with self._alive(worker):
                pipe.send_bytes(order)

    def _hear(self) -> None:
        for worker, pipe in enumerate(self._pipes):
            with self._alive(worker):
                self._await(worker)
                answer = pipe.recv_bytes()
            if answer == FAILED:
                self._failed(pipe.recv())

    def _receive(self, worker: int) -> Any:
        with self._alive(worker):
            self._await(worker)
            answer = self._pipes[worker].recv()
        if isinstance(answer, Failure):
            self._failed(answer)
        return answer

    def _await(self, worker: int) -> None:
        """Waits for a worker's answer.

        Raises:
            UserError: The worker hangs (stopped, or in an endless simulation).
        """
        # The system's own `poll`: `Connection.poll` builds a selector for every call.
        poller = select.poll()
        poller.register(self._pipes[worker].fileno(), select.POLLIN)
        if poller.poll(1000 * ANSWER_SECONDS):
            return
        tasks = ", ".join(self.names[k] for k in self._shares[worker])
        self._processes[worker].kill()
        raise UserError(
            f"the worker process of {tasks} gave no answer for {ANSWER_SECONDS:g} s and was ended; "
            "the last checkpoint is intact, the same command resumes from it"
        )

    def _failed(self, failure: Failure) -> NoReturn:
        # A UserError stays one, so that its message reaches the user without a traceback.
        raise (UserError if failure.mendable else RuntimeError)(failure.words)

    def _died(self, worker: int) -> NoReturn:
        self._processes[worker].join(timeout=5)
        code = self._processes[worker].exitcode
        tasks = ", ".join(self.names[k] for k in self._shares[worker])
        raise UserError(
            f"the worker process of {tasks} died (exit code {code}; -9 is often lack of memory); "
            "the last checkpoint is intact, the same command resumes from it"
        )
