"""Limits of Theorem 1 and Proposition 1: trajectories of PCGrad at t = 1/L, by families.

A trajectory ends as

- `opposite`: 1 + cos φ₁₂ ≤ OPPOSITE *at a location*: the steps shrink so fast that the remaining
  way is a small part of the way so far (`paths.remaining`);
- `optimum` (Theorem 1): L(θ) − L* ≤ GAP (L(0) − L*), with L* from Newton's method;
- `stationary` (Proposition 1): ‖g‖ ≤ NEAR ‖g₀‖, or `product`: m ≤ NEAR² m₀, where
  m = (1 − cos²φ)‖g‖² in conflict and ‖g‖² otherwise, which the descent step sends to 0;
- `walking`: 1 + cos φ₁₂ ≤ OPPOSITE after the last update, without a location;
- `diverged`: L(θ) − L* exceeds a million times its first value;
- `unfinished`: none of these within the given number of updates.

A trajectory *contradicts* the descent step if it misses that bound beyond rounding, or if it is
`stalled`: no update changes θ by more than rounding, and yet it is at no end. A walk contradicts
the printed limit only, which promises a location.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from proofs.descent import escape
from proofs.descent.paths import OPPOSITE, Progress, Run, run, starts
from proofs.judgement import Check
from proofs.sampling import chunks, stream
from proofs.tally import BrokenError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
ENDS = ("optimum", "stationary", "opposite", "product",
        "walking", "diverged", "stalled", "unfinished")  # fmt: skip


@dataclass(frozen=True)
class Paths:
    """How the trajectories of one family, or of several, ended."""

    trajectories: int
    skipped: int = 0  # drawn, but not in conflict at the start
    updates: int = 0
    conflicts: int = 0  # updates at which the tasks are in conflict
    steps_below_bound: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    gap_at_opposite: dict[str, float] = field(default_factory=dict)
    families: dict[str, Paths] = field(default_factory=dict)

    @property
    def violations(self) -> int:
        """The number of updates or trajectories that contradict the descent step."""
        return self.steps_below_bound + self.ends.get("stalled", 0)


def trajectories(
    family: str,
    total: int,
    updates: int,
    seed: int,
    *,
    stationary: bool = False,
    statement: str = "theorem1",
) -> Paths:
    """Run trajectories of one family from random starts in conflict and count their ends.

    `total` includes the trajectories that do not start in conflict. If `stationary`, they end at
    stationary points (Proposition 1) instead of the optimum.

    Raises:
        BrokenError: No trajectory starts in conflict.
    """
    runs: list[Run] = []
    for chunk, count in enumerate(chunks(total)):
        problems = starts(family, count, stream(seed, f"{statement}/trajectories", family, chunk))
        runs.append(run(problems, updates, stationary=stationary))
    end = np.concatenate([one.end for one in runs])
    if len(end) == 0:
        raise BrokenError(f"{statement}: no {family} trajectory starts in conflict")
    return Paths(
        trajectories=len(end),
        skipped=total - len(end),
        updates=sum(int(one.updates.sum()) for one in runs),
        conflicts=sum(int(one.conflicts.sum()) for one in runs),
        steps_below_bound=sum(int(one.violations.sum()) for one in runs),
        ends={name: n for name in ENDS if (n := int((end == name).sum()))},
        gap_at_opposite=remaining_gap(runs),
    )


def summed(families: dict[str, Paths]) -> Paths:
    """Add up the families."""
    names = ("trajectories", "skipped", "updates", "conflicts", "steps_below_bound")
    sums = {name: sum(getattr(row, name) for row in families.values()) for name in names}
    ends = {name: sum(row.ends.get(name, 0) for row in families.values()) for name in ENDS}
    return Paths(**sums, ends={name: n for name, n in ends.items() if n}, families=families)


def followed(paths: Paths) -> Check:
    """Report trajectories as a check of the descent step along them."""
    ends = ", ".join(f"{count:,} {name}" for name, count in paths.ends.items())
    says = f"{paths.trajectories:,} trajectories: {ends}; {paths.violations} contradict the step"
    return Check("samples", "trajectories", paths.violations == 0, says)


def remaining_gap(runs: list[Run]) -> dict[str, float]:
    """Quantiles of (L − L*)/(L₀ − L*) at `opposite` ends: their distance from the optimum.

    Trajectories that start at such an end do not move and are left out. In one dimension every
    conflict is such an end. The result is empty where the runs do not know L*.
    """
    gaps = []
    for one in runs:
        if one.gap is None:
            return {}
        gaps.append(one.gap[torch.from_numpy(one.end == "opposite") & (one.updates > 0)])
    found = torch.cat(gaps)
    if len(found) == 0:
        return {}
    values = torch.quantile(found, torch.tensor(QUANTILES, dtype=found.dtype))
    return {f"{q:.0%}": float(x) for q, x in zip(QUANTILES, values, strict=True)}


def walk(updates: int) -> Paths:
    """Apply the trajectories' stopping rule to the walk to infinity, started far along.

    Its first iterate has 1 + cos φ ≤ OPPOSITE: a rule that tests the cosine alone would classify it
    as `opposite`, in favour of the printed limit.
    """
    theta, progress, end, cos = escape.FAR, Progress(1), "unfinished", 0.0
    rows = torch.zeros(1, dtype=torch.int64)
    for _ in range(updates):
        after, cos = escape.far_step(theta)
        change = torch.tensor([theta, after], dtype=torch.float64).diff(dim=0)
        if 1 + cos <= OPPOSITE and bool(progress.located(rows, change)[0]):
            end = "opposite"
            break
        theta = after
    if end == "unfinished" and 1 + cos <= OPPOSITE:
        end = "walking"
    return Paths(trajectories=1, updates=updates, conflicts=updates, ends={end: 1})
