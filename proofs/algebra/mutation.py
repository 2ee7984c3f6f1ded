"""A mutation test of the certificates: a proof must fail if its statement is changed.

Every function of an identity or a goal is changed in one place of its source: + and −, or × and ÷,
are exchanged, a whole number is raised by one, a comparison of a goal is turned round, or a
hypothesis of a goal is left out. A mutant is *killed* if its proof then fails. A goal's mutant that
z3 still proves is *weaker* if z3 shows that it follows from the original: its hypotheses imply the
original ones, or the original claim implies its claim. Any other survivor needs a reason in
REASONS.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import z3

from proofs.algebra import goals
from proofs.algebra.implication import Goal, prove, proves

SWAPS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
TURNS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
}
# Endings of the names of hypotheses about a sign only.
SIGNS = ("> 0", "≥ 0", "≤ 0", "conflict")
SIGN_ONLY = "true as well: only the signs of the symbols enter this goal"
# Facts about the symbols that are true but not needed by the proof.
FACTS: dict[str, list[Any]] = {
    "reciprocal_gap": [z3.Real("D2") >= 0, z3.Real("gap") >= z3.Real("after")],
}
REASONS: dict[str, str] = {
    "opposite_derivative: 2": "true as well: the weights depend on the lengths' ratio alone",
    "theorem3_complete: D / T": SIGN_ONLY,
    "gap_between_the_cases: D / T": SIGN_ONLY,
    "positive_weights: new / square": SIGN_ONLY,
    "positive_weights: old / square": SIGN_ONLY,
}


@dataclass(frozen=True)
class Mutant:
    """One change of one function."""

    function: Callable[[], Any]
    change: str  # the change, and the line after it
    code: Any  # compiled


@dataclass(frozen=True)
class Matrix:
    """The outcomes of the mutants of a set of functions."""

    mutants: int
    killed: int
    weaker: list[str]
    survivors: dict[str, str]  # mutant → reason; an empty reason if there is none

    @property
    def share(self) -> float:
        """The share of killed mutants among those that do not follow from the original."""
        return self.killed / max(1, self.mutants - len(self.weaker))


def mutants(function: Callable[[], Any]) -> Iterator[Mutant]:
    """Yield every changed copy of a function."""
    source = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(source)
    for index, node in enumerate(ast.walk(tree)):
        for number in range(_count(node)):
            changed = copy.deepcopy(tree)
            # A copy is walked in the same order, so that the index finds the same node.
            target = list(ast.walk(changed))[index]
            said = _change(target, number)
            ast.fix_missing_locations(changed)
            line = ast.unparse(target) if isinstance(target, ast.expr) else ""
            name = f"{function.__name__} #{index}.{number}: {said}, {line[:90]}"
            yield Mutant(function, name, compile(changed, "<mutant>", "exec"))


def _count(node: ast.AST) -> int:
    """Return the number of changes that apply to a node."""
    if isinstance(node, ast.BinOp):
        return int(type(node.op) in SWAPS)
    if isinstance(node, ast.Compare):
        return int(type(node.ops[0]) in TURNS)
    if isinstance(node, ast.Constant):
        return int(type(node.value) is int)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Goal":
        hypotheses = node.args[0]
        return len(hypotheses.keys) if isinstance(hypotheses, ast.Dict) else 0
    return 0


def _change(node: Any, number: int) -> str:
    """Make one of the changes that apply to a node, and describe it."""
    if isinstance(node, ast.BinOp):
        old, new = type(node.op), SWAPS[type(node.op)]
        node.op = new()
        return f"{old.__name__} to {new.__name__}"
    if isinstance(node, ast.Compare):
        node.ops[0] = TURNS[type(node.ops[0])]()
        return "comparison turned"
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int)
        node.value += 1
        return f"{node.value - 1} to {node.value}"
    hypotheses = node.args[0]
    key = hypotheses.keys.pop(number)
    hypotheses.values.pop(number)
    return f"without {ast.unparse(key) if key else 'the shared hypotheses'}"


def _reason(mutant: Mutant) -> str:
    line = mutant.change.rpartition(", ")[2]
    return REASONS.get(f"{mutant.function.__name__}: {line}", "")


def run(mutant: Mutant) -> Any:
    """Run the changed function with the names of its own module, and prove what it returns."""
    scope = dict(mutant.function.__globals__)
    exec(mutant.code, scope)  # the module's own source, changed in one place
    found = scope[mutant.function.__name__]()
    # An identity is proved before it is returned; a goal is only stated.
    if isinstance(found, Goal):
        prove(found)
    return found


def weaker(mutant: Goal, original: Goal, facts: list[Any]) -> bool:
    """Test whether a mutant follows from the original, given the signs of its symbols."""
    hypotheses = list(mutant.hypotheses.values())
    given = [*hypotheses, *facts]
    stronger = all(proves(given, h) for h in original.hypotheses.values())
    signs = [h for name, h in original.hypotheses.items() if name.endswith(SIGNS)]
    signs += [*facts, goals.S1 > 0, goals.S2 > 0, goals.C * goals.C < 1, goals.SQUARE > 0]
    return stronger and proves([*signs, original.claim], mutant.claim)


def kill_matrix(functions: Iterable[Callable[[], Any]], stride: int = 1) -> Matrix:
    """Return what becomes of the mutants of identities or goals.

    A stride tries only every stride-th mutant of each function.
    """
    total = killed = 0
    survivors, implied = {}, []
    for function in functions:
        for mutant in islice(mutants(function), 0, None, stride):
            total += 1
            try:
                found = run(mutant)
            except Exception:  # a proof that fails, or a formula that cannot be formed
                killed += 1
                continue
            facts = FACTS.get(function.__name__, [])
            if isinstance(found, Goal) and weaker(found, function(), facts):
                implied.append(mutant.change)
            else:
                survivors[mutant.change] = _reason(mutant)
    return Matrix(total, killed, implied, survivors)
