"""Equations that are proved by sympy and displayed from the same expressions.

An equation is a pair of sympy expressions. Symbols such as ‖g^PC‖² are displayed as they are;
MEANING gives the expressions in ‖g₁‖, ‖g₂‖ and c = cos φ₁₂ that they represent. Two gradients
span a plane, so that g₁ = ‖g₁‖(1, 0) and g₂ = ‖g₂‖(c, √(1 − c²)) without loss of generality,
and Algorithm 1 is applied to these vectors line by line. Everything is exact for ‖gᵢ‖ > 0 and −1 <
c < 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

Equation = tuple[sp.Expr, sp.Expr]
Meaning = Mapping[sp.Symbol, sp.Expr]

R1, R2 = sp.symbols(r"\|g_1\| \|g_2\|", positive=True)
C = sp.Symbol("c", negative=True)
T, L, ELL, A = sp.symbols(r"t L \ell a", positive=True)

SINE = sp.sqrt((1 - C) * (1 + C))
G1, G2 = sp.Matrix([R1, 0]), sp.Matrix([R2 * C, R2 * SINE])
G = G1 + G2


def algorithm_1(first: sp.Matrix, second: sp.Matrix) -> sp.Matrix:
    """Return g^PC of two vectors in conflict, by the lines of Algorithm 1."""
    total = sp.zeros(*first.shape)
    for own, other in ((first, second), (second, first)):
        total += own - (own.dot(other) / other.dot(other)) * other
    return total


PC = algorithm_1(G1, G2)
# Symbols that are displayed; MEANING gives the expressions behind them.
SQUARE, LENGTH2, INNER, APART = sp.symbols(
    r"\|g\|^2 \|g^{PC}\|^2 \left(g\cdot\ g^{PC}\right) \|g_1-g_2\|^2", positive=True
)
XI, PHI, RATIO = sp.symbols(r"\xi \Phi R", positive=True)
V, V1, V2 = sp.symbols(r"g^{PC} g_1 g_2")  # vectors, component by component
MEANING: dict[sp.Symbol, sp.Expr] = {
    SQUARE: G.dot(G),
    LENGTH2: PC.dot(PC),
    INNER: G.dot(PC),
    APART: (G1 - G2).dot(G1 - G2),
    XI: (1 - C**2) * (G1 - G2).dot(G1 - G2) / G.dot(G),  # Definition 5
    PHI: 2 * R1 * R2 / (R1**2 + R2**2),  # Definition 2
    RATIO: R1 / R2,
}
PLANE: tuple[dict[sp.Symbol, sp.Expr], ...] = tuple(
    {V: PC[k], V1: G1[k], V2: G2[k]} for k in range(2)
)


class IdentityError(ArithmeticError):
    """An equation does not hold, or is trivial."""


@dataclass(frozen=True)
class Proved:
    """Equations that sympy has proved, as LaTeX."""

    latex: str
    equations: int


def prove(
    *equations: Equation, given: Meaning | None = None, cases: Sequence[Meaning] = ({},)
) -> Proved:
    """Prove equations and return them as LaTeX.

    `given` are meanings that are displayed after the equations, such as t = 1/L, and substituted.
    `cases` are meanings of symbols, such as the components of vectors; every case is proved.

    Raises:
        IdentityError: A residual does not simplify to zero, or both sides are one expression.
    """
    shown = given or {}
    for left, right in equations:
        if sp.sympify(left) == sp.sympify(right):
            raise IdentityError(f"{left} = {right} says nothing")
        for case in cases:
            rest = _reduced(left - right, shown, case)
            if rest != 0:
                raise IdentityError(f"{left} = {right}: a residual simplifies to {rest}, not to 0")
    return Proved(_displayed(equations, shown), len(equations))


def _reduced(residual: sp.Expr, given: Meaning, case: Meaning) -> sp.Expr:
    """Return the normal form of a residual: rational in the symbols and sin φ."""
    expanded = sp.sympify(residual)
    # Meanings may contain symbols that have meanings themselves, hence two rounds.
    for meaning in (given, case, MEANING, given, case, MEANING):
        expanded = expanded.subs(dict(meaning), simultaneous=True)
    expanded = expanded.doit()
    if _differs(expanded):
        return expanded
    rest = sp.cancel(sp.together(expanded))
    return rest if rest == 0 else sp.simplify(rest)


def _differs(residual: sp.Expr) -> bool:
    """Test whether the residual is visibly not zero at one point.

    This saves the costly normal form of a wrong equation, which mutation tests make by hundreds.
    """
    if residual.atoms(sp.Function, sp.Derivative, sp.Limit):
        return False
    values = {}
    for k, symbol in enumerate(sorted(residual.free_symbols, key=str)):
        size = sp.Rational(2 * k + 3, 2 * k + 11)
        values[symbol] = -size if symbol.is_negative else size
    number = residual.subs(values).evalf(30)
    return bool(number.is_number and abs(number) > 1e-12)


def _displayed(equations: Iterable[Equation], given: Meaning) -> str:
    parts = [f"{_latex(left)} = {_latex(right)}" for left, right in equations]
    parts += [f"{_latex(symbol)} = {_latex(value)}" for symbol, value in given.items()]
    return r",\quad ".join(parts)


def _latex(expression: sp.Expr) -> str:
    formula = sp.sympify(expression)
    symbols = formula.atoms(sp.Symbol)
    return str(sp.latex(formula, symbol_names={symbol: symbol.name for symbol in symbols}))
