"""Goals: named hypotheses and a claim, decided by z3 over the reals.

z3 proves a goal by showing that the hypotheses and the negated claim have no solution. It also
finds a solution of the hypotheses alone, so that no goal is vacuously true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import z3

MILLISECONDS = 5_000


@dataclass(frozen=True)
class Goal:
    """Hypotheses by name, and the claim that follows from all of them."""

    hypotheses: dict[str, Any]
    claim: Any


class GoalError(ArithmeticError):
    """z3 does not prove a goal, or its hypotheses cannot all hold."""


def decide(*formulas: Any) -> Any:
    """Return z3's answer, sat, unsat or unknown, on whether the formulas have a solution."""
    solver = z3.Solver()
    solver.set("timeout", MILLISECONDS)
    solver.add(*formulas)
    return solver.check()


def proves(hypotheses: list[Any], claim: Any) -> bool:
    """Test whether z3 proves the implication; unknown counts as no."""
    # The implication holds iff its negation has no solution.
    return bool(decide(*hypotheses, z3.Not(claim)) == z3.unsat)


def prove(goal: Goal) -> None:
    """Prove a goal.

    Raises:
        GoalError: z3 does not prove the goal, or finds no instance of its hypotheses.
    """
    hypotheses = list(goal.hypotheses.values())
    # Contradictory hypotheses would imply any claim.
    if decide(*hypotheses) != z3.sat:
        raise GoalError(f"no instance satisfies {', '.join(goal.hypotheses)}")
    if not proves(hypotheses, goal.claim):
        raise GoalError(f"z3 does not prove {goal.claim}")
