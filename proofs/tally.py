"""Counts the trials of a check.

A tally records how many trials were made, how many were skipped, how many violate the statement,
and the smallest margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from proofs.sampling import chunks, stream

BINS = np.linspace(-6, 3, 37)  # log10 of the margin over its unit


class BrokenError(RuntimeError):
    """The machinery of a check is at fault, not the statement.

    No numbers of the check may be published.
    """


class Trial(NamedTuple):
    """A batch of instances on which one statement is tested, each field [N]."""

    accepted: Tensor  # bool: the hypotheses hold
    slack: Tensor  # distance to the hypotheses' edge, negative outside; guides a search
    margin: Tensor  # bound − measured
    unit: Tensor  # unit of the margin, positive
    noise: Tensor  # rounding error of the margin
    details: dict[str, Tensor] = {}  # describe the instance with the smallest margin  # noqa: RUF012

    @property
    def violated(self) -> Tensor:
        """Whether the statement fails beyond rounding, bool [N]."""
        return self.accepted & (self.margin < -self.noise)


@dataclass(frozen=True)
class Counts:
    """The counts of one statement on one family, or on several families together."""

    trials: int
    accepted: int
    skipped: int
    undecided: int  # margin within the rounding error of 0
    violations: int
    smallest_margin: float | None
    stream: str = ""  # seed, purpose and family, from which the instances can be drawn again
    instance: dict[str, float] = field(default_factory=dict)  # the one with the smallest margin
    histogram: list[int] = field(default_factory=list)  # counts of log10 margins, bins as in BINS
    families: dict[str, Counts] = field(default_factory=dict)


class Tally:
    """The trials of one statement on one family.

    An instance *violates* the statement if its margin (bound − measured) is below minus the
    rounding error of the two losses. It is *undecided* if the margin is within the rounding error
    of 0. Margins are reported in units of the quantity that the statement bounds (for Theorem 1 the
    guaranteed decrease), so that 0 means "attained".
    """

    def __init__(self, purpose: str, family: str, seed: int) -> None:
        self.purpose, self.family, self.seed = purpose, family, seed
        self.trials = self.accepted = self.violations = self.undecided = self.chunk = 0
        self.smallest = float("inf")
        self.instance: dict[str, float] = {}
        self.histogram = np.zeros(len(BINS) + 1, dtype=int)

    def add(self, trial: Trial) -> None:
        """Add one chunk of trials."""
        accepted, decided = trial.accepted, trial.accepted & (trial.margin.abs() > trial.noise)
        # An undecided margin is rounding noise and must not become the smallest one.
        relative = torch.where(decided, trial.margin / trial.unit, torch.inf)
        self.trials += len(accepted)
        self.accepted += int(accepted.sum())
        self.violations += int(trial.violated.sum())
        self.undecided += int((accepted & ~decided).sum())
        if decided.any() and float(relative.min()) < self.smallest:
            index = int(relative.argmin())
            self.smallest = float(relative[index])
            self.instance = {"chunk": self.chunk, "index": index}
            self.instance |= {name: float(value[index]) for name, value in trial.details.items()}
        positive = relative[decided & (relative > 0)].log10().numpy()
        self.histogram += np.bincount(np.searchsorted(BINS, positive), minlength=len(BINS) + 1)
        self.chunk += 1

    def report(self) -> Counts:
        """Return the counts.

        Raises:
            BrokenError: No instance satisfies the hypotheses, so that nothing was tested.
        """
        if self.accepted == 0:
            raise BrokenError(f"{self.purpose}: no {self.family} instance satisfies the hypotheses")
        return Counts(
            trials=self.trials,
            accepted=self.accepted,
            skipped=self.trials - self.accepted,
            undecided=self.undecided,
            violations=self.violations,
            smallest_margin=self.smallest if np.isfinite(self.smallest) else None,
            stream=f"{self.seed}/{self.purpose}/{self.family}",
            instance=self.instance,
            histogram=self.histogram.tolist(),
        )


def sample(
    purpose: str,
    family: str,
    total: int,
    seed: int,
    put: Callable[[int, np.random.Generator], Trial],
    dimension: int = 20,
) -> Counts:
    """Test a statement on `total` fresh instances of a family, chunk by chunk.

    `put(count, rng)` draws a chunk of `count` instances and tests it. `purpose` names the test in
    the random stream's key, and `dimension`, the largest one, limits the chunks' size.

    Raises:
        BrokenError: No instance satisfies the hypotheses.
    """
    tally = Tally(purpose, family, seed)
    for chunk, count in enumerate(chunks(total, dimension)):
        tally.add(put(count, stream(seed, purpose, family, chunk)))
    return tally.report()


def total(families: dict[str, Counts]) -> Counts:
    """Sum the counts over the families, and keep the smallest margin."""
    names = ("trials", "accepted", "skipped", "undecided", "violations")
    sums = {name: sum(getattr(row, name) for row in families.values()) for name in names}
    return Counts(**sums, smallest_margin=smallest(*families.values()), families=families)


def smallest(*counts: Counts) -> float | None:
    """Return the smallest margin of several counts, or None if none has a margin."""
    return min((m for row in counts if (m := row.smallest_margin) is not None), default=None)
