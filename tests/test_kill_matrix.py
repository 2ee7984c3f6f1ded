"""The kill matrix: every named mutant of the core against every check of three layers (`pytest -rA`
shows the table).

A cell is found by running a check with the mutant in the place of the core, and watching what it
hands to the core:
- `killed`: the check fails;
- `blind`: it passes, and the mutant's g_i^PC are the core's, up to rounding, on everything that it
  looked at;
- `survives`: it passes though the mutant computed something else.
Every cell that is not killed has a reason, and the reason is put to the proof on what the check
looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import pcgrad
from experiments.landscape import run as landscape
from proofs import identities, theorem1, theorem2
from proofs.problems import CONVEX
from proofs.tally import BrokenError, Counts
from tests.core.test_golden import check_trace
from tests.core.test_mutants import check as check_oracle
from tests.core.test_mutants import update_of
from tests.experiments import test_landscape as landscape_trace
from tests.mutants import NAMED, Core, install
from tests.structure import structure

CORE = pcgrad.surgery_coefficients
SAME = 1e-12  # of the gradients' norms: rounding, as in the oracle's check
INSTANCES = 300


def none_violates(one_step: Callable[[str], Counts]) -> None:
    """No instance of any convex family violates the statement."""
    for family in CONVEX:
        assert one_step(family).violations == 0, f"{family} violates the guarantee"


LAYERS: dict[str, dict[str, Callable[[], object]]] = {
    "oracle": {"catalogue": lambda: check_oracle(update_of(pcgrad.surgery))},
    "theorem": {
        "identities": lambda: identities.numeric(INSTANCES, 0),
        "theorem 1": lambda: none_violates(lambda f: theorem1.one_step(f, INSTANCES, 0)),
        "th. 1, no conflict": lambda: none_violates(
            lambda f: theorem1.one_step(f, INSTANCES, 0, conflict=False)
        ),
        "theorem 2 repaired": lambda: none_violates(
            lambda f: theorem2.one_step(f, INSTANCES, 0, "remainder")
        ),
        "corollary 1": lambda: structure(INSTANCES, 0),
    },
    "golden": {"many tasks": check_trace, "landscape": landscape_trace.test_golden_trace},
}
CHECKS = {check: run for checks in LAYERS.values() for check, run in checks.items()}


class Seen(NamedTuple):
    """One call of the core: G [..., T, T], the mutant's C and the core's [..., T, T]."""

    gramian: Tensor
    found: Tensor
    expected: Tensor

    def difference(self) -> float:
        """Bound of the largest error of a g_i^PC, over the sum of the gradients' norms."""
        norms = self.gramian.double().diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt().unsqueeze(-2)
        rows, total = ((self.found - self.expected).abs() * norms).sum(-1), norms.sum(-1)
        return float(torch.where(total > 0, rows / total, rows).max())

    def updates(self) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of g, of the mutant's update d and of g^PC, each [..., T].

        They refer to the original gradients.
        """
        return torch.ones_like(self.found[..., 0]), self.found.sum(-2), self.expected.sum(-2)

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        """Dot product of two updates, given by weights, [...]."""
        return ((u.unsqueeze(-2) @ self.gramian).squeeze(-2) * v).sum(-1)

    def rounding(self) -> Tensor:
        """What float64 can make of such a product, [...]."""
        norms = self.gramian.diagonal(dim1=-2, dim2=-1).sqrt()
        return SAME * sum((u.abs() * norms).sum(-1) ** 2 for u in self.updates())


class Cell(NamedTuple):
    """What one check made of one core."""

    killed: bool
    says: str  # the first line of the failure
    seen: list[Seen]

    @property
    def verdict(self) -> str:
        if self.killed:
            return "killed"
        return "blind" if max(seen.difference() for seen in self.seen) <= SAME else "survives"


@cache
def put(mutant: str, check: str) -> Cell:
    """Run a check with a mutant as the core.

    Any error but a check's own is passed on.
    """
    core: Core = NAMED.get(mutant, CORE)
    seen: list[Seen] = []

    def watched(gramian: Tensor, orders: Tensor) -> Tensor:
        seen.append(Seen(gramian, core(gramian, orders), CORE(gramian, orders)))
        return seen[-1].found

    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch, watched, landscape)
        try:
            CHECKS[check]()
        except (AssertionError, BrokenError) as error:
            return Cell(True, str(error).partition("\n")[0], seen)
    assert seen, f"{check} never asks the core"
    return Cell(False, "", seen)


class Reason(NamedTuple):
    """Why a check need not kill a mutant, the resulting verdict, and what must then hold.

    The condition is tested on everything that the check looked at.
    """

    says: str
    verdict: str
    holds: Callable[[Seen], Tensor]


def in_conflict(seen: Seen) -> Tensor:
    return seen.gramian[..., 0, 1] < 0


def shorter(seen: Seen) -> Tensor:
    """g . d >= 0 and ||d|| <= ||g^PC||. Theorem 2 needs no more, as L ||g^PC||^2 <= (l - 2 / t)
    ||g||^2 by (c): L(theta - t d) - L(theta) <= L t^2 ||g^PC||^2 / 2 <= (l t^2 / 2 - t) ||g||^2 <=
    L(theta^MT) - L(theta)."""
    g, d, g_pc = seen.updates()
    excess = seen.product(d, d) - seen.product(g_pc, g_pc)
    return (seen.product(g, d) >= -seen.rounding()) & (excess <= seen.rounding())


def descends(seen: Seen) -> Tensor:
    """2 g . d - ||d||^2 >= (1 - cos^2) ||g||^2. Theorem 1's step needs no more, as L t <= 1:
    L(theta - t d) - L(theta) <= -t g . d + t ||d||^2 / 2."""
    g, d, _ = seen.updates()
    cos = pcgrad.cosine(seen.gramian)[..., 0, 1]
    kept = (1 - cos) * (1 + cos) * seen.product(g, g)
    return 2 * seen.product(g, d) - seen.product(d, d) - kept >= -seen.rounding()


TWO = Reason(
    "two tasks: there is one order, and g_i^PC . g_i = (1 - cos^2) ||g_i||^2 is no conflict",
    "blind", lambda seen: torch.tensor(seen.gramian.shape[-1] == 2),
)  # fmt: skip
CONFLICT = Reason(
    "every pair conflicts: there is nothing for the conflict test to refuse", "blind", in_conflict
)
NO_CONFLICT = Reason(
    "no pair conflicts: nothing is projected, however it would be",
    "blind",
    lambda seen: ~in_conflict(seen),
)
DESCENDS = Reason(
    "2 g . d - ||d||^2 >= (1 - cos^2) ||g||^2: the step is one that the bound allows",
    "survives",
    descends,
)
SHORTER = Reason(
    "g . d >= 0 and ||d|| <= ||g^PC||: the guarantee holds for every such d", "survives", shorter
)

EXCUSED: dict[tuple[str, str], Reason] = {
    **{(mutant, check): TWO for mutant in ("self-inclusion", "one shared order")
       for check in ("identities", "theorem 1", "th. 1, no conflict", "theorem 2 repaired",
                     "landscape")},
    **{("no conflict test", check): CONFLICT
       for check in ("identities", "theorem 1", "theorem 2 repaired")},
    **{(mutant, "th. 1, no conflict"): NO_CONFLICT
       for mutant in ("modified g_j", "later tasks only", "absolute epsilon")},
    ("absolute epsilon", "theorem 1"): DESCENDS,
    ("mean for sum", "theorem 2 repaired"): SHORTER,
    ("a dropped task", "theorem 2 repaired"): SHORTER,
}  # fmt: skip


def table() -> str:
    """Mutants down, checks across; then why the checks need not kill what they do not kill."""
    width, reasons = max(map(len, NAMED)), list(dict.fromkeys(EXCUSED.values()))

    def line(first: str, cells: list[str]) -> str:
        padded = (
            f"{cell:{max(len(check), 12)}}" for check, cell in zip(CHECKS, cells, strict=True)
        )
        return f"{first:{width}} | " + " | ".join(padded).rstrip()

    layers = [
        layer if n == 0 else "" for layer, checks in LAYERS.items() for n in range(len(checks))
    ]
    lines = [line("", layers), line("mutant", list(CHECKS))]
    lines.append("-" * len(lines[-1]))
    for mutant in NAMED:
        notes = {
            c: f" ({reasons.index(EXCUSED[mutant, c]) + 1})" if (mutant, c) in EXCUSED else ""
            for c in CHECKS
        }
        lines.append(line(mutant, [put(mutant, check).verdict + notes[check] for check in CHECKS]))
    return "\n".join([*lines, *(f"({n}) {reason.says}" for n, reason in enumerate(reasons, 1))])


@pytest.mark.parametrize("check", CHECKS)
def test_the_core_passes(check: str) -> None:
    cell = put("the core", check)
    assert not cell.killed, cell.says
    assert cell.verdict == "blind"


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("mutant", NAMED)
def test_cell(mutant: str, check: str) -> None:
    """Killed, or not killed for the stated reason."""
    cell, reason = put(mutant, check), EXCUSED.get((mutant, check))
    assert cell.verdict == (reason.verdict if reason else "killed"), (
        f"{check} on {mutant}: {cell.verdict} {cell.says}"
    )
    if reason:
        assert all(reason.holds(seen).all() for seen in cell.seen), (
            f"{check} on {mutant}: not so, {reason.says}"
        )


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("mutant", NAMED)
def test_every_layer_kills_every_mutant(mutant: str, layer: str) -> None:
    """Each layer has a check that can see each mutant, so that none is excused as a whole."""
    found = {check: put(mutant, check).verdict for check in LAYERS[layer]}
    assert "killed" in found.values(), f"{layer} leaves {mutant} alive: {found}"


def test_the_kill_matrix_is_printed() -> None:
    text = table()
    print("\n" + text)
    assert len(NAMED) == 8
    assert all(mutant in text for mutant in NAMED)
