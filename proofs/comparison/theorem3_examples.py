"""Counterexamples to Theorem 3, in either direction.

**If, first case, H as printed.** With g₁ = (−1, 0), g₂ = (1, −1), w = g^PC and v normal to w with
v·g < 0,

    L₁(θ) = g₁·θ + (w·θ)²/(2‖w‖²) + h(v·θ),   L₂(θ) = g₂·θ,   t = τ,

where h is convex and h'' rises from 0 at 0 to 1/‖v‖² where the plain step ends. So ∇L is
1-Lipschitz, and the plain step meets the curvature late, which Definition 3 overestimates.
(Theorem 2's counterexamples refute the second case.)

**Only if.** On quadratics whose curvature along g^PC is below L, PCGrad's step is better than the
bound predicts.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from proofs.comparison.counterexample import bump
from proofs.comparison.exact_steps import Steps, confirmed
from proofs.comparison.quadratics import Quadratic
from proofs.exact import Vector, add, bends_between, dot, like, rationals, scale, update
from proofs.judgement import Counterexample
from proofs.tally import BrokenError

HALF = Fraction(1, 2)
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
    rows = {name: instance.steps() for name, instance in ONLY_IF.items()}
    for name, row in rows.items():
        if any(row.cases()) or row.excess >= 0:
            raise BrokenError(f"theorem3, only if: the quadratic {name} refutes nothing: {row}")
    instance, row = ONLY_IF["long_step"], rows["long_step"]
    return Counterexample(
        "exact example",
        f"g_1 = {instance.g1}, g_2 = {instance.g2}, Hessian diag({instance.h[0]}, "
        f"{instance.h[1]}), t = {row.t}: ℓ = {row.ell}, ξL = {row.xi * row.constant}",
        {
            "both tasks convex (h ≥ 0)": all(h >= 0 for h in instance.h),
            "conflict": row.product < 0,
            "L bounds the curvature": row.constant >= max(instance.h),
            "neither case holds": not any(row.cases()),
        },
        f"L(θ^PC) = {row.surgery} < L(θ^MT) = {row.plain}",
        {
            "rationals": row.excess < 0,
            "the core in float64": instance.core_agrees(row.excess),
            "a second quadratic, c > −Φ and t > τ": rows["short_step"].excess < 0,
        },
    )


class Late:
    """The counterexample to the first case, with L = 1."""

    def __init__(self) -> None:
        self.pair = rationals([(-1, 0), (1, -1)])
        self.g, self.w = add(*self.pair), update(self.pair)
        # The sign of v makes v·θ positive along the plain step.
        normal = (-self.w[1], self.w[0])
        self.v = scale(-1 if dot(normal, self.g) > 0 else 1, normal)
        # The share of ‖g‖² that meets the late curvature.
        across = dot(self.v, self.g) ** 2 / dot(self.v, self.v) / dot(self.g, self.g)
        # (1 − across) + across ∫₀¹ a w(a) da with the weights w = 1 and w = 2(1 − a).
        self.ell, self.ell_remainder = 1 - across / 2, 1 - across * Fraction(2, 3)
        # The losses at the ends of the steps need t, and τ needs none of them.
        self.t = Steps(self.pair, 0, 1, self.ell, self.ell_remainder, 0, 0).tau
        self.end = -self.t * dot(self.v, self.g)  # value of v·θ where the plain step ends

    def losses(self, theta: Vector) -> tuple[Any, Any]:
        """L₁ and L₂, for rationals and mpmath numbers alike."""
        g_1, g_2, w, v = (
            tuple(like(x, theta[0]) for x in vector) for vector in (*self.pair, self.w, self.v)
        )
        end, y = like(self.end, theta[0]), dot(v, theta)
        # `bump` has the curvature `end` at its end; the division makes it 1/‖v‖² there.
        late = bump(y, end) / (end * dot(v, v))
        return dot(g_1, theta) + dot(w, theta) ** 2 / (2 * dot(w, w)) + late, dot(g_2, theta)

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
        ends = (sum(self.losses(scale(-self.t, d))) for d in (self.w, self.g))
        steps = Steps(self.pair, self.t, 1, self.ell, self.ell_remainder, *ends)
        return Counterexample(
            "exact example",
            f"g_1 = (−1, 0), g_2 = (1, −1), curvature 1 along g^PC from the start and across it at "
            f"the plain step's end, t = τ = {self.t}",
            {
                "L_1 and L_2 convex, ∇L 1-Lipschitz (second differences between 0 "
                "and 1)": self.smooth(),
                "cos φ < 0": steps.product < 0,
                "−Φ ≤ cos φ": steps.similarity[1],
                "ℓ ≤ L": steps.ell <= 1,
                "ℓ ≤ ξL": steps.ell <= steps.xi,
                "0 < t ≤ τ": 0 < self.t <= steps.tau,
            },
            f"L(θ^PC) − L(θ^MT) = {float(steps.excess):.4f} > 0",
            {
                "rationals": steps.excess > 0,
                "50 digits": bool(confirmed(steps, self.losses).excess > 0),
            },
        )
