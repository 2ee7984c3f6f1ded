"""Verdicts in one vocabulary, computed from the checks that ran.

| verdict               | when                                                                    |
|-----------------------|-------------------------------------------------------------------------|
| holds                 | proved as printed; no sample violates it                                |
| holds in this reading | proved in the named reading, which the print leaves open or lacks       |
| false as stated       | a counterexample satisfies every hypothesis and violates the conclusion |
| misprint              | a printed formula fails; the statement is judged with the intended one  |
| open                  | neither proved nor refuted                                              |

*Decided by* lists the kinds of checks that ran and decide: proof (a written proof whose
identities sympy certifies), exact example, interval, z3, samples. Samples support a statement and
can refute it, but never prove it: a statement that only samples support is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.tally import BrokenError, Counts

HOLDS, READING, FALSE = "holds", "holds in this reading", "false as stated"
MISPRINT, OPEN = "misprint", "open"
VERDICTS = (HOLDS, READING, FALSE, MISPRINT, OPEN)
KINDS = ("proof", "exact example", "interval", "z3", "samples")


@dataclass(frozen=True)
class Check:
    """One check that ran."""

    kind: str  # one of KINDS
    name: str
    passed: bool  # whether it supports the statement
    says: str = ""  # the finding, with its numbers


def sampled(name: str, counts: Counts) -> Check:
    """Report sampled instances as a check."""
    margin = "none decided" if counts.smallest_margin is None else f"{counts.smallest_margin:.2g}"
    says = (
        f"{counts.accepted:,} instances, {counts.violations} violations, smallest margin {margin}"
    )
    return Check("samples", name, counts.violations == 0, says)


@dataclass(frozen=True)
class Counterexample:
    """An instance that satisfies every hypothesis and violates the conclusion.

    Attributes:
        kind: The kind of check that decides it, one of KINDS.
        says: The instance, with its numbers.
        hypotheses: Each hypothesis in words, and whether it was found satisfied.
        violated: The conclusion that fails, with the numbers that show it.
        routes: Independent computations, and whether each of them found the violation.

    Raises:
        BrokenError: A hypothesis fails, or fewer than two routes agree.
    """

    kind: str
    says: str
    hypotheses: Mapping[str, bool]
    violated: str
    routes: Mapping[str, bool]

    def __post_init__(self) -> None:
        missing = [name for name, held in self.hypotheses.items() if not held]
        if missing:
            raise BrokenError(f"a counterexample breaks a hypothesis: {', '.join(missing)}")
        if len(self.routes) < 2 or not all(self.routes.values()):
            raise BrokenError(f"two routes must agree on a counterexample: {dict(self.routes)}")


@dataclass(frozen=True)
class Judgement:
    """The verdict on one statement in one reading."""

    name: str
    source: str  # where the paper states it; "ours" for what it does not state
    statement: str
    reading: str  # empty where the statement is judged as printed
    verdict: str
    decided_by: list[str]
    sentence: str  # why, in one or two sentences
    checks: list[Check]
    smallest_margin: float | None
    counterexample: Counterexample | None


def judge(
    name: str,
    source: str,
    statement: str,
    checks: Sequence[Check],
    *,
    sentence: str,
    reading: str = "",
    margin: float | None = None,
    counterexample: Counterexample | None = None,
    misprint: bool = False,
) -> Judgement:
    """Derive the verdict on a statement from its checks.

    `misprint` says that the counterexample refutes a misprinted formula only.

    Raises:
        BrokenError: A check other than samples fails. The proof is then at fault, and nothing
            may be published.
    """
    failed = [check for check in checks if not check.passed]
    # A failed certificate means that the proof is wrong, which is no finding on the statement.
    if failed and (counterexample or {check.kind for check in failed} != {"samples"}):
        raise BrokenError(f"{name}: {', '.join(check.name for check in failed)} failed")
    kinds = {check.kind for check in failed or checks}
    if counterexample:
        kinds.add(counterexample.kind)
        verdict = MISPRINT if misprint else FALSE
    elif failed:
        verdict = FALSE
    elif kinds <= {"samples"}:
        verdict = OPEN
    else:
        verdict = READING if reading else HOLDS
    return Judgement(
        name,
        source,
        statement,
        reading,
        verdict,
        [kind for kind in KINDS if kind in kinds],
        sentence,
        list(checks),
        margin,
        counterexample,
    )
