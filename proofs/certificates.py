"""The certificates by name: identities that sympy proves and goals that z3 proves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from proofs.algebra import cases, descent, goals, implication, many, momentum, pair
from proofs.algebra.formula import Proved
from proofs.algebra.implication import Goal
from proofs.judgement import Check


def declared(kind: type, *modules: ModuleType) -> dict[str, Callable[[], Any]]:
    """Return the functions that modules define to return `kind`, by their names, in order."""
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if getattr(function, "__module__", "") == module.__name__
        # With postponed evaluation an annotation is the text of the source.
        and function.__annotations__.get("return") == kind.__name__
    }


IDENTITIES: dict[str, Callable[[], Proved]] = declared(Proved, pair, descent, many, cases, momentum)
# An identity and a goal may share a name; a goal is then cited as z3:NAME.
GOALS: dict[str, Callable[[], Goal]] = declared(Goal, goals)


@cache
def identity(name: str) -> Proved:
    """Prove an identity.

    Raises:
        IdentityError: sympy does not prove it.
    """
    return IDENTITIES[name]()


@cache
def goal(name: str) -> Goal:
    """Prove a goal.

    Raises:
        GoalError: z3 does not prove it.
    """
    found = GOALS[name]()
    implication.prove(found)
    return found


def says(function: Callable[[], object]) -> str:
    """Return the first paragraph of a certificate's docstring, which reports print."""
    return " ".join((function.__doc__ or "").partition("\n\n")[0].split())


def certified(*names: str) -> list[Check]:
    """Run the named certificates: `name` for an identity, `z3:name` for a goal."""
    checks = []
    for name in names:
        kind, _, short = name.rpartition(":")
        if kind:
            goal(short)
            # A certificate that is not proved raises, so that every check here has passed.
            checks.append(Check("z3", name, True, says(GOALS[short])))
        else:
            identity(name)
            checks.append(Check("proof", name, True, says(IDENTITIES[name])))
    return checks
