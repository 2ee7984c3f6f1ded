"""Counterexamples to Theorem 3, in either direction.

**If, first case, H as printed.** With g₁ = (−1, 0), g₂ = (1, −1), w = g^PC and v normal to w with
v·g < 0,

    L₁(θ) = g₁·θ + (w·θ)²/(2‖w‖²) + h(v·θ),   L₂(θ) = g₂·θ,   t = τ,

where h is convex and twice continuously differentiable, and h'' rises from 0 at 0 to 1/‖v‖² where
the plain step ends. So ∇L is 1-Lipschitz, PCGrad's step meets the curvature L everywhere, and the
plain step meets it late, which Definition 3 overestimates. (Theorem 2's counterexamples refute the
second case.)

**Only if.** On quadratics whose curvature along g^PC is below L, PCGrad's step is better than the
bound predicts.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath as mp

from proofs.comparison.counterexample import bump
from proofs.comparison.quadratics import Quadratic
from proofs.exact import Vector, add, bends_between, dot, rationals, scale, update
from proofs.judgement import Counterexample
from proofs.tally import BrokenError

HALF = Fraction(1, 2)
ORDERS = ((1,), (0,))
DIGITS = 50
# Instances on which PCGrad is better although neither case holds.
ONLY_IF = {
    # c < −Φ and ℓ < ξL: the bound is negative for every t.
    "long_step": Quadratic((-2, 1), (1, 0), (2, 1), 2),
    # c > −Φ and t > τ.
    "short_step": Quadratic((-1, 0), (1, -1), (1, HALF), 1),
}


def only_if() -> Counterexample:
    """Return the counterexample to "only if", from both quadratics of ONLY_IF.

    Raises:
        BrokenError: PCGrad is not strictly better on one of them, or a case holds.
    """
    rows = {name: instance.report() for name, instance in ONLY_IF.items()}
    for name, row in rows.items():
        if row.case_1 or row.case_2 or not row.pcgrad_is_better:
            raise BrokenError(f"theorem3, only if: the quadratic {name} refutes nothing: {row}")
    row = rows["long_step"]
    return Counterexample(
        "exact example",
        f"g_1 = {row.g_1}, g_2 = {row.g_2}, Hessian diag({row.h[0]}, {row.h[1]}), "
        f"t = {row.t}: ℓ = {row.ell}, ξL = {row.xi * row.constant}",
        {
            "both tasks convex (h ≥ 0)": all(h >= 0 for h in row.h),
            "conflict": row.conflict,
            "L bounds the curvature": row.constant >= max(row.h),
            "neither case holds": not (row.case_1 or row.case_2),
        },
        f"L(θ^PC) = {row.loss_after_pcgrad} < L(θ^MT) = {row.loss_after_plain_step}",
        {
            "rationals": row.pcgrad_is_better,
            "the core in float64": row.core_agrees,
            "a second quadratic, c > −Φ and t > τ": rows["short_step"].pcgrad_is_better,
        },
    )


class Late:
    """The counterexample to the first case, with L = 1."""

    def __init__(self) -> None:
        self.pair = rationals([(-1, 0), (1, -1)])
        self.g, self.w = add(*self.pair), update(self.pair, ORDERS)
        # The sign of v makes v·θ positive along the plain step.
        normal = (-self.w[1], self.w[0])
        self.v = scale(-1 if dot(normal, self.g) > 0 else 1, normal)
        square, length2, inner = dot(self.g, self.g), dot(self.w, self.w), dot(self.g, self.w)
        # The part of ‖g‖² that meets the late curvature.
        across = dot(self.v, self.g) ** 2 / dot(self.v, self.v)
        # (‖g‖² − across) + across ∫₀¹ a w(a) da with the weights w = 1 and w = 2(1 − a).
        self.ell = {
            "uniform": 1 - across / square / 2,
            "remainder": 1 - across / square * Fraction(2, 3),
        }
        self.n = square - inner
        self.tau = {form: self.n / ((ell * square - length2) / 2) for form, ell in self.ell.items()}
        self.xi, self.t = length2 / square, self.tau["uniform"]
        self.end = -self.t * dot(self.v, self.g)  # value of v·θ where the plain step ends

    def losses(self, theta: Any) -> tuple[Any, Any]:
        """L₁ and L₂, for rationals and mpmath numbers alike."""
        g_1, g_2, w, v = (
            tuple(self._like(x, theta[0]) for x in vector)
            for vector in (*self.pair, self.w, self.v)
        )
        end, y = self._like(self.end, theta[0]), dot(v, theta)
        # `bump` has the curvature `end` at its end; the division makes it 1/‖v‖² there.
        late = bump(y, end) / (end * dot(v, v))
        return dot(g_1, theta) + dot(w, theta) ** 2 / (2 * dot(w, w)) + late, dot(g_2, theta)

    @staticmethod
    def _like(value: Fraction, number: Any) -> Any:
        return (
            value if isinstance(number, Fraction) else mp.mpf(value.numerator) / value.denominator
        )

    def hypotheses(self) -> dict[str, bool]:
        """Test case 1 with H as in Definition 3, one condition at a time."""
        s1, s2, p = (
            dot(self.pair[0], self.pair[0]),
            dot(self.pair[1], self.pair[1]),
            dot(*self.pair),
        )
        ell = self.ell["uniform"]
        return {
            "L_1 and L_2 convex, ∇L 1-Lipschitz (second differences between 0 "
            "and 1)": self.smooth(),
            "cos φ < 0": p < 0,
            "−Φ ≤ cos φ": -p * (s1 + s2) <= 2 * s1 * s2,
            "ℓ ≤ L": ell <= 1,
            "ℓ ≤ ξL": ell <= self.xi,
            "0 < t ≤ τ": 0 < self.t <= self.tau["uniform"],
        }

    def smooth(self) -> bool:
        """Test the second differences of L₁ along w and v, relative to ‖w‖² and ‖v‖².

        w and v are orthogonal, so that these two directions decide.
        """
        points = [self.end * Fraction(k, 16) for k in range(-16, 33)]

        def along(direction: Vector) -> bool:
            size = dot(direction, direction)
            return bends_between(
                lambda x: self.losses(scale(x / size, direction))[0] * size, points, 0, 1
            )

        return dot(self.w, self.v) == 0 and along(self.w) and along(self.v)

    def counterexample(self) -> Counterexample:
        """Return the counterexample, in rationals and from the loss values in 50 digits."""
        surgery, plain = (sum(self.losses(scale(-self.t, d))) for d in (self.w, self.g))
        digits = self._confirmed(surgery - plain)
        return Counterexample(
            "exact example",
            f"g_1 = (−1, 0), g_2 = (1, −1), curvature 1 along g^PC from the start and across it at "
            f"the plain step's end, t = τ = {self.t}",
            self.hypotheses(),
            f"L(θ^PC) − L(θ^MT) = {float(surgery - plain):.4f} > 0",
            {"rationals": surgery > plain, "50 digits": bool(digits > 0)},
        )

    def _confirmed(self, excess: Fraction) -> Any:
        """Recompute the excess in 50 digits: gradients by mp.diff, Definition 3 by mp.quad.

        Raises:
            BrokenError: The result differs from the rationals.
        """
        with mp.workdps(DIGITS):

            def gradient(i: int) -> Vector:
                orders = ((1, 0), (0, 1))
                return tuple(
                    mp.diff(lambda x, y: self.losses((x, y))[i], (0, 0), order) for order in orders
                )

            pair, t = [gradient(0), gradient(1)], self._like(self.t, mp.mpf(0))
            g, pc = add(*pair), update(pair, ORDERS)

            def along(a: Any) -> Any:
                return sum(self.losses(scale(-a * t, g)))

            found = {
                "excess_loss_of_pcgrad": sum(self.losses(scale(-t, pc))) - along(1),
                "l": mp.quad(lambda a: mp.diff(along, a, 2), [0, 1]) / (t**2 * dot(g, g)),
            }
            for name, exact in {"excess_loss_of_pcgrad": excess, "l": self.ell["uniform"]}.items():
                if abs(found[name] - self._like(exact, mp.mpf(0))) > mp.mpf("1e-12"):
                    raise BrokenError(
                        f"theorem3, first case: {name} is {found[name]} by mpmath, {exact} exactly"
                    )
            return found["excess_loss_of_pcgrad"]
