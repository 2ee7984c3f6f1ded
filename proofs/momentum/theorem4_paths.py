"""Trajectories of Theorem 4's method from rest, to a stated stopping rule.

With S_k = ||(theta_k, theta_{k-1})|| measured from the common minimizer, a trajectory ends as
- `converged`: S_k <= ARRIVED S_0; `slower` counts those among them whose tail (the second half of
  their updates) contracts more slowly than stated: log S falls per update by less than SHARE of
  -log max_k sqrt(beta_k), once the factor 1 + k that a double eigenvalue costs is taken off;
- `growing`: S_k >= LOST S_0, far beyond what a double eigenvalue can do on its way down;
- `standing`: neither within the allowed updates, and S changed by less than a factor 10 over the
  second half;
- `unfinished`: the rest.
`growing` and `standing` contradict linear convergence. cos = -1 is no end here: with one minimizer
g_1 = -r g_2 is impossible, because x . g_i > 0 for both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs.momentum import heavy_ball
from proofs.momentum.heavy_ball import Pairs
from proofs.sampling import chunks, stream
from proofs.tally import BrokenError

ARRIVED, LOST, SHARE, STANDING = 1e-10, 1e6, 0.9, 10.0
ENDS = ("converged", "growing", "standing", "unfinished")
CLASSES = {  # dimensions, log10 of the condition numbers
    "dimension 2, condition 10 to 100": ((2, 2), (1.0, 2.0)),
    "dimension 2, condition 100 to 10,000": ((2, 2), (2.0, 4.0)),
    "dimension 3 to 5, condition 10 to 100": ((3, 5), (1.0, 2.0)),
    "dimension 3 to 5, condition 100 to 10,000": ((3, 5), (2.0, 4.0)),
    "dimension 6 to 20, condition 10 to 100": ((6, 20), (1.0, 2.0)),
    "dimension 6 to 20, condition 100 to 10,000": ((6, 20), (2.0, 4.0)),
}


def follow(
    pairs: Pairs, start: Tensor, updates: int, rule: str, longer: float = 1.0
) -> dict[str, Any]:
    """Run all pairs; `end` (labels), `updates`, `tail` (log per update), `stated` (log),
    `conflicts`, each [N].
    """
    theta, previous, left, alive = start, start, pairs, torch.arange(len(pairs))
    first = 2**0.5 * start.norm(dim=-1)
    size = torch.full((updates + 1, len(pairs)), torch.nan, dtype=start.dtype)
    size[0] = 0
    stated, conflicts = torch.zeros_like(first), torch.zeros_like(first)
    for k in range(1, updates + 1):
        seen = heavy_ball.look(left.gradients(theta), left.mu, left.top)
        stated[alive] = torch.maximum(stated[alive], heavy_ball.rates(seen, rule, longer)[1].sqrt())
        conflicts[alive] += seen.gramian[:, 0, 1] < 0
        theta, previous = heavy_ball.move(seen, theta, previous, rule, longer), theta
        now = (theta.square().sum(-1) + previous.square().sum(-1)).sqrt() / first[alive]
        size[k, alive] = now.log()
        running = (now > ARRIVED) & (now < LOST)
        if not running.all():
            theta, previous, left, alive = (
                theta[running],
                previous[running],
                left[running],
                alive[running],
            )
        if len(alive) == 0:
            break
    return {**_ends(size, stated.log()), "stated": stated.log(), "conflicts": conflicts}


def _ends(size: Tensor, stated: Tensor) -> dict[str, Any]:
    """Labels and tails from the log sizes [updates + 1, N]."""
    last = size.isfinite().sum(0) - 1
    half, final = last // 2, size.gather(0, last[None])[0]
    tail = (final - size.gather(0, half[None])[0]) / (last - half)
    second = size[(len(size) - 1) // 2 :]
    still = second.nan_to_num(torch.inf).amax(0) - second.nan_to_num(-torch.inf).amin(0) < np.log(
        STANDING
    )
    end = np.full(size.shape[1], "unfinished", dtype=object)
    end[still.numpy()] = "standing"
    end[(final >= np.log(LOST)).numpy()] = "growing"
    end[(final <= np.log(ARRIVED)).numpy()] = "converged"
    double = ((1.0 + last) / (1.0 + half)).log() / (last - half)
    slower = torch.from_numpy(end == "converged") & (tail - double > SHARE * stated)
    return {"end": end, "updates": last, "tail": tail, "slower": slower}


def sample(
    purpose: str,
    name: str,
    total: int,
    updates: int,
    seed: int,
    rule: str = "corrected",
    shape: str = "quadratic",
) -> dict[str, Any]:
    """Trajectories of one class from starts in conflict; with the printed rule, losses scaled by
    10^U(-1, 1).
    """
    dimensions, decades = CLASSES[name]
    counts = dict.fromkeys((*ENDS, "slower"), 0)
    tried, started, conflicts, steps = 0, 0, 0.0, []  # type: int, int, float, list[Tensor]
    fastest: dict[str, Any] = {"log_growth": -np.inf}
    for chunk, count in enumerate(chunks(total, dimensions[1])):
        rng = stream(seed, f"theorem4/{purpose}", name, chunk)
        pairs = heavy_ball.draw(shape, count, rng, dimensions, decades)
        if rule == "printed":
            pairs = heavy_ball.scaled(pairs, torch.from_numpy(10 ** rng.uniform(-1, 1, count)))
        start, found = heavy_ball.begin(pairs, rng)
        tried, started = tried + count, started + int(found.sum())
        went = follow(pairs[found], start[found], updates, rule)
        for label in ENDS:
            counts[label] += int((went["end"] == label).sum())
        counts["slower"] += int(went["slower"].sum())
        steps.append(went["updates"])
        conflicts += float(went["conflicts"].sum())
        index = int(went["tail"].argmax())
        if float(went["tail"][index]) > fastest["log_growth"]:
            place = {
                "chunk": chunk,
                "index": int(found.nonzero()[index]),
                "end": went["end"][index],
            }
            fastest = {
                "log_growth": float(went["tail"][index]),
                "log_stated": float(went["stated"][index]),
                **place,
            }
    if started == 0:
        raise BrokenError(f"theorem4: no {shape} trajectory of {name} starts in conflict")
    all_steps = torch.cat(steps)
    return {
        "trials": tried, "accepted": started, "skipped": tried - started, **counts,
        "violations": counts["growing"] + counts["standing"], "undecided": counts["unfinished"],
        "smallest_margin": -fastest["log_growth"], "slowest": fastest,
        "median_updates": float(all_steps.double().median()),
        "conflict_share": conflicts / max(1, int(all_steps.sum())),
    }  # fmt: skip


def sums(families: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Counts over classes, as `tally.total`, with the ends."""
    names = ("trials", "accepted", "skipped", "undecided", "violations", *ENDS, "slower")
    counts = {name: sum(row[name] for row in families.values()) for name in names}
    return {**counts, "smallest_margin": min(row["smallest_margin"] for row in families.values())}


def apart(total: int, updates: int, seed: int) -> dict[str, Any]:
    """Minimizers apart: where the corrected method ends, and how fast, in dimensions 2 to 5.

    `opposite`: 1 + cos <= 1e-8 at the last theta; `optimum`: ||g|| <= 1e-8 of its start; `growing`:
    a step 1e6 times as long as the first. `linear`: the last step is shorter than 1e-6 of the
    first, and the second half of the updates shortened it by at least a fifth of what the first
    half did (in logs), which a power of 1 / k does not do."""
    rng = stream(seed, "theorem4/apart", "quadratic", 0)
    pairs = heavy_ball.draw("quadratic", total, rng, (2, 5))
    inside = torch.arange(5) < pairs.dimension.unsqueeze(-1)
    pairs = replace(
        pairs, center=torch.from_numpy(rng.normal(size=(total, 2, 5))) * inside.unsqueeze(1)
    )
    theta = torch.from_numpy(rng.normal(size=(total, 5))) * inside
    previous, lengths, growing = theta, [], torch.zeros(total, dtype=torch.bool)
    first = pairs.gradients(theta).sum(1).norm(dim=-1)
    for k in range(updates):
        seen = heavy_ball.look(pairs.gradients(theta), pairs.mu, pairs.top)
        after = heavy_ball.move(seen, theta, previous, "corrected")
        theta, previous = torch.where(growing.unsqueeze(-1), theta, after), theta
        length = (theta - previous).norm(dim=-1)
        if k in (0, updates // 2, updates - 1):
            lengths.append(length.clamp(min=1e-300).log())
        growing |= length > 1e6 * lengths[0].exp()
    seen = heavy_ball.look(pairs.gradients(theta), pairs.mu, pairs.top)
    done = lengths[2] < lengths[0] + np.log(1e-6)
    linear = done & (lengths[1] - lengths[2] >= (lengths[0] - lengths[1]) / 5) | (
        lengths[1] < lengths[0] - 30
    )
    opposite, optimum = (
        1 + seen.cos <= 1e-8,
        pairs.gradients(theta).sum(1).norm(dim=-1) <= 1e-8 * first,
    )
    rest = ~(opposite | optimum | growing)
    return {
        "trajectories": total, "updates": updates,
        **{name: int(which.sum()) for name, which in
           {"opposite": opposite, "optimum": optimum, "growing": growing, "elsewhere": rest, "linear": linear}.items()},
        "settled_elsewhere": int((rest & done).sum()),
    }  # fmt: skip
