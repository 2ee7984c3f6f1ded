"""Says in the log of a training, about once a minute, where it is and how long it will take.

A line is written with a checkpoint, from the state that the checkpoint holds. Nothing here is part
of the training: `experiments.watch` reads the lines of all running jobs.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from experiments.run import PROGRESS
from multitask.runs.checkpoint import Session, State
from system.times import duration

EVERY_SECONDS = 55.0  # a little less than the time between two checkpoints


class ToldSession(Session):
    """A session that prints a line with its checkpoints.

    The line calls the run `name`. The settings `epochs` or `collections` give its length; `later`
    runs of this length follow in the same job.
    """

    def __init__(
        self, *arguments: Any, name: str, settings: Mapping[str, Any], later: int = 0, **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self.name, self.later = name, later
        self.unit = "epoch" if "epochs" in settings else "collection"
        self.last = int(settings.get("epochs") or settings.get("collections") or 0)
        self._ticks = 0
        self._start: tuple[int, int] = (0, 0)
        self._begun = self._said = time.monotonic()

    def load(self, like: State | None = None) -> State | None:
        """Load the state saved last, and measure from there."""
        saved = super().load(like)
        with self.restoring():
            self._start, self._ticks = position(saved or {}), 0
        self._begun = self._said = time.monotonic()
        return saved

    def tick(self, state: Callable[[], State]) -> None:
        """Count a step, then save when a checkpoint is due."""
        self._ticks += 1
        super().tick(state)

    def save(self, state: State) -> None:
        """Save a checkpoint, and print a line if the last one is about a minute old."""
        super().save(state)
        now = time.monotonic()
        if "finished" not in state and now - self._said >= EVERY_SECONDS:
            # On a terminal the training shows a bar of its own.
            if not sys.stderr.isatty():
                line = self.line(state, now - self._begun)
                print(f"{PROGRESS}{line}", file=sys.stderr, flush=True)
            self._said = now

    def line(self, state: State, seconds: float) -> str:
        """The line for a state that was reached `seconds` after the start of this process."""
        whole, step = position(state)
        first_whole, first_step = self._start
        where = f"{self.name}: {self.unit} {min(whole + 1, self.last)} of {self.last}"
        done, before = float(whole), float(first_whole)
        if self.unit == "epoch":
            # Only after a whole epoch are its steps known.
            if whole == first_whole:
                return f"{where}, step {step}; {duration(seconds)} so far"
            length = (self._ticks + first_step - step) / (whole - first_whole)
            where += f", step {step} of {length:.0f}"
            done, before = whole + step / length, first_whole + first_step / length
        else:
            where = f"{self.name}: {self.unit} {whole} of {self.last}"
        if done <= before:
            return f"{where}; {duration(seconds)} so far"
        each = seconds / (done - before)
        left = each * (self.last - done + self.later * self.last)
        return f"{where}; {duration(seconds)} so far, about {duration(left)} left"


def position(state: Mapping[str, Any]) -> tuple[int, int]:
    """The finished epochs or collections of a state, and the steps of the one that runs."""
    if "next" in state:
        return int(state["next"]) - 1, 0
    return int(state.get("epoch", 1)) - 1, int(state.get("step", 0))
