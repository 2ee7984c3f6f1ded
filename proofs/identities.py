"""The algebra between the paper's displayed lines, proved by sympy: one function per identity.

Two gradients span a plane, so without loss of generality g_1 = r_1 (1, 0) and g_2 = r_2 (cos phi,
sin phi). Everything below is exact in r_1, r_2 > 0 and c = cos phi in (-1, 0); Algorithm 1 is
applied to these vectors line by line. Every function returns its formula as LaTeX, or raises
IdentityError where a residual does not simplify to zero."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import sympy as sp
import torch

import pcgrad
from proofs.problems import EPSILON, ORDERS
from proofs.sampling import chunks, edges, stream
from proofs.tally import BrokenError, overview_row, verdict

R1, R2 = sp.symbols(r"\|g_1\| \|g_2\|", positive=True)
C = sp.Symbol(r"c", negative=True)
T, L, ELL, A = sp.symbols(r"t L \ell a", positive=True)

S = sp.sqrt((1 - C) * (1 + C))
G1, G2 = sp.Matrix([R1, 0]), sp.Matrix([R2 * C, R2 * S])
G = G1 + G2
R, PHI = R1 / R2, 2 * R1 * R2 / (R1**2 + R2**2)
XI = (1 - C**2) * (G1 - G2).dot(G1 - G2) / G.dot(G)  # Definition 5


class IdentityError(ArithmeticError):
    """A residual does not simplify to zero."""


def prove(latex: str, *residuals: sp.Expr) -> str:
    """The formula, once every residual is shown to be zero."""
    for residual in residuals:
        if (
            rest := sp.cancel(sp.together(residual))
        ) != 0:  # a normal form: rational in the symbols and sin phi
            raise IdentityError(f"{latex}: a residual simplifies to {rest}, not to 0")
    return latex


def algorithm_1() -> sp.Matrix:
    """g^PC of the two vectors, by the lines of Algorithm 1; in conflict both projections happen."""
    total = sp.zeros(2, 1)
    for own, other in ((G1, G2), (G2, G1)):
        total += own - (own.dot(other) / other.dot(other)) * other
    return total


def coefficients() -> str:
    """PCGrad's update in the original gradients; R is the ratio of their lengths, c the cosine of
    their angle.
    """
    return prove(
        r"g^{PC} = \left(1 - \tfrac{c}{R}\right) g_1 + (1 - R c)\, g_2,\quad R = \tfrac{\|g_1\|}{\|g_2\|}",
        *(algorithm_1() - ((1 - C / R) * G1 + (1 - R * C) * G2)),
    )


def length() -> str:
    """The update is as long as the difference of the gradients, times the sine of their angle."""
    return prove(
        r"\|g^{PC}\|^2 = (1 - c^2)\,\|g_1 - g_2\|^2",
        algorithm_1().dot(algorithm_1()) - (1 - C**2) * (G1 - G2).dot(G1 - G2),
    )


def bounding_measure() -> str:
    """Definition 5 is the squared ratio of the two updates' lengths."""
    return prove(r"\xi = \|g^{PC}\|^2 / \|g\|^2", XI - algorithm_1().dot(algorithm_1()) / G.dot(G))


def product() -> str:
    """PCGrad's update is a descent direction unless c = -1."""
    return prove(
        r"g \cdot g^{PC} = (1 - c^2)\left(\|g_1\|^2 + \|g_2\|^2\right)",
        G.dot(algorithm_1()) - (1 - C**2) * (R1**2 + R2**2),
    )


def condition_a() -> str:
    """As c < 0, condition (a), c <= -Φ, says that g · g^PC is at most ‖g‖²."""
    return prove(
        r"\|g\|^2 - g \cdot g^{PC} = c\left(\|g_1\|^2 + \|g_2\|^2\right)(c + \Phi)",
        G.dot(G) - G.dot(algorithm_1()) - C * (R1**2 + R2**2) * (C + PHI),
    )


def b_implies_a() -> str:
    """Condition (b) with ℓ <= L gives ξ <= 1, that is c <= -Φ(2 - c²) <= -Φ: condition (a) says
    nothing new.
    """
    return prove(
        r"(\xi - 1)\|g\|^2 = -c\left(\|g_1\|^2 + \|g_2\|^2\right)\left(c + \Phi\,(2 - c^2)\right)",
        (XI - 1) * G.dot(G) + C * (R1**2 + R2**2) * (C + PHI * (2 - C**2)),
        PHI * (2 - C**2)
        - PHI
        - PHI * (1 - C**2),  # Phi (2 - c^2) exceeds Phi by Phi (1 - c^2) >= 0
    )


def theorem1_descent() -> str:
    """The descent lemma is Theorem 1's bound plus a term that is not positive while t <= 1/L."""
    update = algorithm_1()
    lemma = -T * G.dot(update) + L * T**2 / 2 * update.dot(update)
    claim = -T * (1 - C**2) * G.dot(G) / 2
    return prove(
        r"-t\,g\cdot g^{PC} + \tfrac{L t^2}{2}\|g^{PC}\|^2"
        r" = -\tfrac t2 (1 - c^2)\|g\|^2 + \tfrac t2 (Lt - 1)\|g^{PC}\|^2",
        lemma - claim - T * (L * T - 1) * update.dot(update) / 2,
    )


def largest_step() -> str:
    """With Hessian L·1 the loss stays the same at this step, which lies before 2/L, and rises
    beyond.
    """
    update, step = algorithm_1(), 2 / (L * (1 - PHI * C))
    return prove(
        r"L(\theta - t g^{PC}) = L(\theta)\ \text{at}\ t = \frac{2}{L\,(1 + \Phi |c|)} < \frac 2L",
        -step * G.dot(update) + L * step**2 / 2 * update.dot(update),
    )


def remainder() -> str:
    """With f(a) = L(θ - a t g), Taylor's exact second-order term carries the weight 1 - a."""
    f = sp.Function("f")(A)
    return prove(
        r"f(1) = f(0) + f'(0) + \int_0^1 (1 - a) f''(a)\,da,\quad\text{as}\ \left[(1-a) f' + f\right]' = (1-a) f''",
        sp.diff((1 - A) * sp.diff(f, A) + f, A) - (1 - A) * sp.diff(f, A, 2),
    )


def printed_error() -> str:
    """The printed equality has ½ in the place of 1 - a: too large wherever the curvature grows
    along the step.
    """
    curve = sp.diff(sp.Function("f")(A), A, 2)
    half = sp.Rational(1, 2)
    return prove(
        r"\int_0^1 \tfrac12 f''\,da - \int_0^1 (1-a) f''\,da = \tfrac12\int_0^1 a(1-a) f^{(3)}\,da",
        sp.diff(A * (1 - A) * curve / 2, A)
        - (half - A) * curve
        - half * A * (1 - A) * sp.diff(curve, A),
    )


def theorem2_bound() -> str:
    """Under (c) the bracket is not negative, and neither is the last term: (a) is not used."""
    update, square = algorithm_1(), G.dot(G)
    plain = (
        -T * square + T**2 / 2 * ELL * square
    )  # L(MT) - L(theta) is at least this, with l ||g||^2 <= H (remainder)
    surgery = -T * G.dot(update) + T**2 / 2 * L * update.dot(
        update
    )  # L(PC) - L(theta) is at most this
    return prove(
        r"L(\theta^{MT}) - L(\theta^{PC}) \ge t\|g\|^2\left[\tfrac t2 (\ell - \xi L) - 1\right]"
        r" + t (1 - c^2)\left(\|g_1\|^2 + \|g_2\|^2\right)",
        plain - surgery - _bound(),
    )


def tight_step() -> str:
    """The bound reaches 0 at this step already; (c) asks for 2 g·g^PC / (ℓ‖g‖² - L‖g^PC‖²) more."""
    update, square = algorithm_1(), G.dot(G)
    rest = ELL * square - L * update.dot(update)
    step = 2 * (square - G.dot(update)) / rest
    return prove(
        r"t^* = \frac{2\left(\|g\|^2 - g \cdot g^{PC}\right)}{\ell\|g\|^2 - L\|g^{PC}\|^2}",
        _bound().subs(T, step),
        2 / (ELL - XI * L) - step - 2 * G.dot(update) / rest,
    )


def outside_theorem1() -> str:
    """Condition (c) forces t >= 2/ℓ >= 2/L: outside Theorem 1's range."""
    x = sp.Symbol("x", positive=True)  # xi L
    return prove(
        r"\frac{2}{\ell - \xi L} = \frac 2\ell + \frac{2\,\xi L}{\ell\,(\ell - \xi L)}",
        2 / (ELL - x) - 2 / ELL - 2 * x / (ELL * (ELL - x)),
    )


def _bound() -> sp.Expr:
    """The lower bound of L(MT) - L(PC)."""
    return T * G.dot(G) * (T * (ELL - XI * L) / 2 - 1) + T * (1 - C**2) * (R1**2 + R2**2)


ALL: tuple[Callable[[], str], ...] = (
    *(coefficients, length, bounding_measure, product, condition_a, theorem1_descent, largest_step),
    *(remainder, printed_error, theorem2_bound, b_implies_a, tight_step, outside_theorem1),
)


MODULES = ("descent", "many", "cases", "momentum")  # of proofs/algebra, beside this file


def numeric(total: int, seed: int) -> dict[str, Any]:
    """The same on the core's own numbers: largest error of each identity over `total` random pairs
    in conflict.

    Errors are relative to (||g_1|| + ||g_2||)^2; BrokenError where one exceeds 1e3 epsilon.
    """
    worst: dict[str, float] = {}
    counterexamples, accepted = 0, 0
    for chunk, count in enumerate(chunks(total)):
        rng = stream(seed, "identities", "pairs", chunk)
        cos, ratio = (x.numpy() for x in edges(count, rng))
        plane = np.stack([cos, np.sqrt((1 - cos) * (1 + cos))], -1)
        pair = torch.from_numpy(np.stack([ratio[:, None] * np.array([1.0, 0.0]), plane], 1))
        gram = pair @ pair.mT
        s1, s2, p = gram[:, 0, 0], gram[:, 1, 1], gram[:, 0, 1]
        measures = (pcgrad.cosine, pcgrad.curvature_bounding_measure, pcgrad.magnitude_similarity)
        c, xi, phi = (measure(gram)[:, 0, 1] for measure in measures)
        g, square, sine2 = pair.sum(1), s1 + s2 + 2 * p, (1 - c) * (1 + c)
        g_pc = (pcgrad.surgery_coefficients(gram, ORDERS).sum(-2).unsqueeze(-2) @ pair).squeeze(-2)
        length2, inner = (g_pc**2).sum(-1), (g * g_pc).sum(-1)
        unit = (s1.sqrt() + s2.sqrt()) ** 2
        formula = torch.stack([1 - p / s1, 1 - p / s2], -1).unsqueeze(-2) @ pair
        errors = {
            "coefficients": (g_pc - formula.squeeze(-2)).norm(dim=-1) * unit.sqrt(),
            "length": length2 - sine2 * (s1 + s2 - 2 * p),
            "bounding_measure": torch.where(square > 1e-6 * unit, xi * square - length2, 0),
            "product": inner - sine2 * (s1 + s2),
            "condition_a": square - inner - c * (s1 + s2) * (c + phi),
        }
        for name, error in errors.items():
            worst[name] = max(worst.get(name, 0.0), float((error.abs() / unit).max()))
        counterexamples += int(((xi <= 1) & ~pcgrad.condition_a(gram)[:, 0, 1]).sum())
        accepted += count
    if max(worst.values()) > 1e3 * EPSILON:
        raise BrokenError(f"the core misses an identity: largest relative errors {worst}")
    return {
        "pairs": accepted,
        "largest_relative_error": worst,
        "xi_at_most_1_without_a": counterexamples,
    }


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Prove the identities of every statement, and try those of a pair on random pairs."""
    others = [f for name in MODULES for f in import_module(f"proofs.algebra.identities_{name}").ALL]
    proved = [
        {"name": f.__name__, "says": (f.__doc__ or "").partition("\n")[0], "latex": f()}
        for f in (*ALL, *others)
    ]
    numbers = numeric(settings["instances"], settings["seed"])
    idle = verdict(numbers["xi_at_most_1_without_a"])
    verdicts = {"identities": "holds", "b_implies_a": idle}
    pairs = f"{numbers['pairs']:,} pairs"
    return {
        "verdicts": verdicts,
        "identities": proved,
        "numeric": numbers,
        "overview": [
            overview_row(
                verdicts,
                "identities",
                "The identities of Section 1",
                f"{len(proved)} proofs by sympy; {pairs}",
            ),
            overview_row(verdicts, "b_implies_a", "Theorem 2: (b) implies (a)", f"proof; {pairs}"),
        ],
    }
