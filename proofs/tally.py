"""Counts the trials of a check: how many, how many skipped, how many violate the statement, and the
smallest margin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from proofs.sampling import chunks, stream

BINS = np.linspace(-6, 3, 37)  # log10 of the margin over its unit


class BrokenError(RuntimeError):
    """The machinery of a check is at fault (not the statement): its numbers must not be published."""


class Trial(NamedTuple):
    """A batch of instances put to one statement, each [N]."""

    accepted: Tensor  # bool: the hypotheses hold
    slack: Tensor  # by how much they hold, negative by how much they do not; a search follows it
    margin: Tensor  # bound - measured
    unit: Tensor  # of the margin, positive
    noise: Tensor  # rounding error of the margin
    details: dict[str, Tensor] = {}  # describe the instance with the smallest margin  # noqa: RUF012

    @property
    def violated(self) -> Tensor:
        """Beyond rounding, bool [N]."""
        return self.accepted & (self.margin < -self.noise)


class Tally:
    """The trials of one statement on one family.

    An instance *violates* the statement where its margin (bound - measured) lies below minus the
    rounding error of the two losses; it is *undecided* where the margin is within the rounding
    error of 0. Margins are reported in units of the quantity that the statement speaks about (for
    Theorem 1 the guaranteed decrease), so that 0 means "attained"."""

    def __init__(self, purpose: str, family: str, seed: int) -> None:
        self.purpose, self.family, self.seed = purpose, family, seed
        self.trials = self.accepted = self.violations = self.undecided = self.chunk = 0
        self.smallest, self.instance = float("inf"), {}  # type: float, dict[str, Any]
        self.histogram = np.zeros(len(BINS) + 1, dtype=int)
        self.negative = 0

    def add(self, trial: Trial) -> None:
        """One chunk."""
        accepted, decided = trial.accepted, trial.accepted & (trial.margin.abs() > trial.noise)
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
        self.negative += int((decided & (relative <= 0)).sum())
        self.chunk += 1

    @property
    def skipped(self) -> int:
        return self.trials - self.accepted

    def report(self) -> dict[str, Any]:
        """The counts as JSON."""
        if self.accepted == 0:
            raise BrokenError(f"{self.purpose}: no {self.family} instance satisfies the hypotheses")
        return {
            "trials": self.trials,
            "accepted": self.accepted,
            "skipped": self.skipped,
            "undecided": self.undecided,
            "violations": self.violations,
            "smallest_margin": self.smallest if np.isfinite(self.smallest) else None,
            "instance": {
                "seed": self.seed,
                "stream": f"{self.purpose}/{self.family}",
                **self.instance,
            },
            "margins": {
                "log10_bins": BINS.tolist(),
                "counts": self.histogram.tolist(),
                "negative": self.negative,
            },
        }


def sample(
    purpose: str,
    family: str,
    total: int,
    seed: int,
    put: Callable[[int, np.random.Generator], Trial],
    dimension: int = 20,
) -> Tally:
    """Put `total` fresh instances to a statement, chunk by chunk; `put(count, rng)` draws a chunk
    and tries it.
    """
    tally = Tally(purpose, family, seed)
    for chunk, count in enumerate(chunks(total, dimension)):
        tally.add(put(count, stream(seed, purpose, family, chunk)))
    return tally


def total(families: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Sums and the smallest margin over the families."""
    counts = {key: sum(row[key] for row in families.values())
              for key in ("trials", "accepted", "skipped", "undecided", "violations")}  # fmt: skip
    margins = [
        row["smallest_margin"] for row in families.values() if row["smallest_margin"] is not None
    ]
    return {**counts, "smallest_margin": min(margins, default=None)}


def overview_row(
    verdicts: dict[str, str],
    name: str,
    statement: str,
    rests_on: str,
    margin: float | None = None,
    counterexample: str = "",
) -> dict[str, Any]:
    """A row of the overview table; `name` is that of its verdict."""
    return {
        **{"name": name, "statement": statement, "verdict": verdicts[name], "rests_on": rests_on},
        **{"smallest_margin": margin, "counterexample": counterexample},
    }


def verdict(violations: int, *, repaired: bool = False) -> str:
    """What the trials say: one violation refutes; none leaves the statement standing."""
    if violations:
        return "false as stated"
    return "holds after repair" if repaired else "holds"
