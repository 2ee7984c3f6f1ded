"""The algebra between the paper's displayed lines, proved by sympy: one function per identity.

Two gradients span a plane, so without loss of generality g_1 = r_1 (1, 0) and g_2 = r_2 (cos phi, sin phi). Everything
below is exact in r_1, r_2 > 0 and c = cos phi in (-1, 0); Algorithm 1 is applied to these vectors line by line.
Every function returns an `Identity`, or raises `NotAnIdentity` where a residual does not simplify to zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sympy as sp
import torch

import pcgrad
from proofs.problems import EPSILON, ORDERS
from proofs.sampling import chunks, edges, stream
from proofs.tally import Broken

R1, R2 = sp.symbols(r"\|g_1\| \|g_2\|", positive=True)
C = sp.Symbol(r"c", negative=True)
T, L, ELL, A = sp.symbols(r"t L \ell a", positive=True)

S = sp.sqrt((1 - C) * (1 + C))
G1, G2 = sp.Matrix([R1, 0]), sp.Matrix([R2 * C, R2 * S])
G = G1 + G2
R, PHI = R1 / R2, 2 * R1 * R2 / (R1**2 + R2**2)
XI = (1 - C**2) * (G1 - G2).dot(G1 - G2) / G.dot(G)  # Definition 5


class NotAnIdentity(ArithmeticError):
    """A residual does not simplify to zero."""


class Identity(NamedTuple):
    """A proved statement: its name, a sentence, and the formula as LaTeX."""

    name: str
    says: str
    latex: str


def _prove(name: str, says: str, latex: str, *residuals: sp.Expr) -> Identity:
    for residual in residuals:
        rest = sp.cancel(sp.together(residual))
        if rest != 0 and (rest := sp.simplify(rest)) != 0:
            raise NotAnIdentity(f"{name}: {residual} simplifies to {rest}, not to 0")
    return Identity(name, says, latex)


def algorithm_1() -> sp.Matrix:
    """g^PC of the two vectors, by the lines of Algorithm 1; in conflict both projections happen."""
    total = sp.zeros(2, 1)
    for own, other in ((G1, G2), (G2, G1)):
        total += own - (own.dot(other) / other.dot(other)) * other
    return total


def coefficients() -> Identity:
    """g^PC in the original gradients."""
    residual = algorithm_1() - ((1 - C / R) * G1 + (1 - R * C) * G2)
    return _prove("coefficients", "PCGrad's update in the original gradients, with R the ratio of their lengths.",
                  r"g^{PC} = \left(1 - \tfrac{c}{R}\right) g_1 + (1 - R c)\, g_2,\quad c = \cos\varphi_{12},\ R = \tfrac{\|g_1\|}{\|g_2\|}",
                  *residual)  # fmt: skip


def length() -> Identity:
    """||g^PC||."""
    residual = algorithm_1().dot(algorithm_1()) - (1 - C**2) * (G1 - G2).dot(G1 - G2)
    return _prove("length", "The update is as long as the difference of the gradients, times the sine of their angle.",
                  r"\|g^{PC}\|^2 = (1 - c^2)\,\|g_1 - g_2\|^2", residual)  # fmt: skip


def bounding_measure() -> Identity:
    """xi is the squared ratio of the two updates' lengths."""
    return _prove("bounding_measure", "Definition 5 is the squared ratio of the two updates' lengths.",
                  r"\xi = \|g^{PC}\|^2 / \|g\|^2", XI - algorithm_1().dot(algorithm_1()) / G.dot(G))  # fmt: skip


def product() -> Identity:
    """g . g^PC."""
    residual = G.dot(algorithm_1()) - (1 - C**2) * (R1**2 + R2**2)
    return _prove("product", "PCGrad's update is a descent direction unless c = -1.",
                  r"g \cdot g^{PC} = (1 - c^2)\left(\|g_1\|^2 + \|g_2\|^2\right)", residual)  # fmt: skip


def condition_a() -> Identity:
    """(a) of Theorem 2 compares g . g^PC with ||g||^2."""
    residual = G.dot(G) - G.dot(algorithm_1()) - C * (R1**2 + R2**2) * (C + PHI)
    return _prove("condition_a", "As c < 0, condition (a), c ≤ -Φ, says that g · g^PC is at most ‖g‖².",
                  r"\|g\|^2 - g \cdot g^{PC} = c\left(\|g_1\|^2 + \|g_2\|^2\right)(c + \Phi)", residual)  # fmt: skip


def b_implies_a() -> Identity:
    """(b) with l <= L says xi <= 1, which is stronger than (a)."""
    residual = (XI - 1) * G.dot(G) + C * (R1**2 + R2**2) * (C + PHI * (2 - C**2))
    weaker = -PHI * (2 - C**2) - (-PHI) + PHI * (1 - C**2)  # the bound on c lies below -Phi by Phi (1 - c^2) >= 0
    return _prove("b_implies_a",
                  "Condition (b) with ℓ ≤ L gives ξ ≤ 1, that is c ≤ -Φ(2 - c²) ≤ -Φ: condition (a) says nothing new.",
                  r"(\xi - 1)\|g\|^2 = -c\left(\|g_1\|^2 + \|g_2\|^2\right)\left(c + \Phi\,(2 - c^2)\right)", residual, weaker)  # fmt: skip


def theorem1_descent() -> Identity:
    """The descent lemma along -g^PC with t <= 1 / L is Theorem 1's inequality."""
    update = algorithm_1()
    lemma = -T * G.dot(update) + L * T**2 / 2 * update.dot(update)
    claim = -T * (1 - C**2) * G.dot(G) / 2
    rest = T * (L * T - 1) * update.dot(update) / 2  # not positive while t <= 1 / L
    return _prove("theorem1_descent", "The descent lemma is Theorem 1's bound plus a term that is not positive while t ≤ 1/L.",
                  r"-t\,g\cdot g^{PC} + \tfrac{L t^2}{2}\|g^{PC}\|^2 = -\tfrac t2 (1 - c^2)\|g\|^2 + \tfrac t2 (Lt - 1)\|g^{PC}\|^2",
                  lemma - claim - rest)  # fmt: skip


def largest_step() -> Identity:
    """Where the Hessian is L times the identity, the loss rises from t = 2 / (L (1 + Phi |c|)) on."""
    update, step = algorithm_1(), 2 / (L * (1 - PHI * C))
    residual = -step * G.dot(update) + L * step**2 / 2 * update.dot(update)
    return _prove("largest_step", "With Hessian L·1 the loss stays the same at this step and rises beyond: before 2/L.",
                  r"L(\theta - t g^{PC}) = L(\theta)\ \text{at}\ t = \frac{2}{L\,(1 + \Phi |c|)} < \frac 2L", residual)  # fmt: skip


def remainder() -> Identity:
    """Taylor's remainder along the segment carries the weight (1 - a)."""
    f = sp.Function("f")(A)
    residual = sp.diff((1 - A) * sp.diff(f, A) + f, A) - (1 - A) * sp.diff(f, A, 2)
    return _prove("remainder", "With f(a) = L(θ - a t g), the exact second-order term is weighted by 1 - a.",
                  r"f(1) = f(0) + f'(0) + \int_0^1 (1 - a) f''(a)\,da, \quad \left[(1-a) f' + f\right]' = (1-a) f''",
                  residual)  # fmt: skip


def printed_error() -> Identity:
    """What the printed equality of A.2 is off by."""
    f = sp.Function("f")(A)
    curve = sp.diff(f, A, 2)
    residual = sp.diff(A * (1 - A) * curve / 2, A) - (sp.Rational(1, 2) - A) * curve - A * (1 - A) * sp.diff(curve, A) / 2
    return _prove("printed_error", "The printed equality has ½ for 1 - a: too large wherever the curvature grows along the step.",
                  r"\int_0^1 \tfrac12 f''\,da - \int_0^1 (1-a) f''\,da = \tfrac12\int_0^1 a(1-a) f'''\,da", residual)  # fmt: skip


def theorem2_bound() -> Identity:
    """The difference of the two losses is bounded below without (a)."""
    update, square = algorithm_1(), G.dot(G)
    multi = -T * square + T**2 / 2 * ELL * square  # L(MT) - L(theta), at least, with l ||g||^2 <= H (remainder form)
    surgery = -T * G.dot(update) + T**2 / 2 * L * update.dot(update)  # L(PC) - L(theta), at most
    claim = T * square * (T * (ELL - XI * L) / 2 - 1) + T * (1 - C**2) * (R1**2 + R2**2)
    return _prove("theorem2_bound", "Under (c) the bracket is not negative, and so is the last term: (a) is not used.",
                  r"L(\theta^{MT}) - L(\theta^{PC}) \ge t\|g\|^2\left(\tfrac t2 (\ell - \xi L) - 1\right)"
                  r" + t (1 - c^2)\left(\|g_1\|^2 + \|g_2\|^2\right)", multi - surgery - claim)  # fmt: skip


def tight_step() -> Identity:
    """The step from which on the bound alone gives the guarantee; (c) asks for more."""
    update, square = algorithm_1(), G.dot(G)
    step = 2 * (square - G.dot(update)) / (ELL * square - L * update.dot(update))
    bound = T * square * (T * (ELL - XI * L) / 2 - 1) + T * (1 - C**2) * (R1**2 + R2**2)
    printed = 2 / (ELL - XI * L) - step - 2 * G.dot(update) / (ELL * square - L * update.dot(update))
    return _prove("tight_step", "The bound reaches 0 at this step already; (c) asks for 2 g·g^PC / (ℓ‖g‖² - L‖g^PC‖²) more.",
                  r"t^* = \frac{2\left(\|g\|^2 - g \cdot g^{PC}\right)}{\ell\|g\|^2 - L\|g^{PC}\|^2}", bound.subs(T, step), printed)  # fmt: skip


def outside_theorem1() -> Identity:
    """(c) forces t >= 2 / l >= 2 / L."""
    excess = sp.Symbol("x", positive=True)  # xi L
    residual = 2 / (ELL - excess) - 2 / ELL - 2 * excess / (ELL * (ELL - excess))
    return _prove("outside_theorem1", "Condition (c) forces t ≥ 2/ℓ ≥ 2/L: outside Theorem 1's range.",
                  r"\frac{2}{\ell - \xi L} = \frac 2\ell + \frac{2\,\xi L}{\ell\,(\ell - \xi L)}", residual)  # fmt: skip


ALL: tuple[Callable[[], Identity], ...] = (
    *(coefficients, length, bounding_measure, product, condition_a, theorem1_descent, largest_step),
    *(remainder, printed_error, theorem2_bound, b_implies_a, tight_step, outside_theorem1),
)


def numeric(total: int, seed: int) -> dict[str, Any]:
    """The same on the core's own numbers: largest error of each identity over `total` random pairs in conflict.

    Errors are relative to (||g_1|| + ||g_2||)^2; Broken where one exceeds 1e3 epsilon.
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
        c, xi, phi = (f(gram)[:, 0, 1] for f in (pcgrad.cosine, pcgrad.curvature_bounding_measure, pcgrad.magnitude_similarity))
        g, square, sine2 = pair.sum(1), s1 + s2 + 2 * p, (1 - c) * (1 + c)
        g_pc = (pcgrad.surgery_coefficients(gram, ORDERS).sum(-2).unsqueeze(-2) @ pair).squeeze(-2)
        length2, inner = (g_pc**2).sum(-1), (g * g_pc).sum(-1)
        unit = (s1.sqrt() + s2.sqrt()) ** 2
        errors = {
            "coefficients": (g_pc - (1 - p / s1)[:, None] * pair[:, 0] - (1 - p / s2)[:, None] * pair[:, 1]).norm(dim=-1) * unit.sqrt(),
            "length": length2 - sine2 * (s1 + s2 - 2 * p),
            "bounding_measure": torch.where(square > 1e-6 * unit, xi * square - length2, 0),
            "product": inner - sine2 * (s1 + s2),
            "condition_a": square - inner - c * (s1 + s2) * (c + phi),
        }  # fmt: skip
        for name, error in errors.items():
            worst[name] = max(worst.get(name, 0.0), float((error.abs() / unit).max()))
        counterexamples += int(((xi <= 1) & ~pcgrad.condition_a(gram)[:, 0, 1]).sum())
        accepted += count
    if max(worst.values()) > 1e3 * EPSILON:
        raise Broken(f"the core misses an identity: largest relative errors {worst}")
    return {"pairs": accepted, "largest_relative_error": worst, "xi_at_most_1_without_a": counterexamples}


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Prove every identity and try it on random pairs."""
    proved = [identity() for identity in ALL]
    numbers = numeric(settings["instances"], settings["seed"])
    idle = "holds" if numbers["xi_at_most_1_without_a"] == 0 else "false as stated"
    return {
        "verdicts": {"identities": "holds", "b_implies_a": idle},
        "identities": [identity._asdict() for identity in proved],
        "numeric": numbers,
    }
