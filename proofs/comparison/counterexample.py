"""Theorem 2 as printed is false: convex counterexamples in exact rationals and in 50 digits.

    L₁(x, y) = −2x + δy + h(x),   L₂(x, y) = x + δy,   θ = (0, 0), t = T,
    h'' = 0 for x < 0, x on [0, T], T beyond: h is convex and twice continuously differentiable,
    ∇L is T-Lipschitz.

In one dimension (δ = 0, T = 2) PCGrad does not move; in the plane (δ = 1/20, T = 17/8) both steps
move. In both the plain step reaches the lower loss. Definition 3 gives its second-order term as
T³/4 and the true one is T³/6, because the curvature comes at the end of the step, where the weight
1 − a is small. With the exact remainder (c) fails, as it must.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from proofs import exact
from proofs.comparison.exact_steps import Losses, Steps, confirmed
from proofs.judgement import Counterexample

EXAMPLES = {
    "one_dimension": (Fraction(0), Fraction(2)),
    "plane": (Fraction(1, 20), Fraction(17, 8)),
}


def hypotheses(steps: Steps) -> dict[str, bool]:
    """Test the hypotheses of the printed theorem one by one."""
    gap = steps.ell - steps.xi * steps.constant
    return {
        "conflict, g_1 · g_2 < 0": steps.product < 0,
        "ℓ ≤ L": steps.ell <= steps.constant,
        "(a) cos φ ≤ −Φ": steps.similarity[0],
        "(b) ℓ ≥ ξL": gap >= 0,
        "(c) t ≥ 2/(ℓ − ξL)": gap > 0 and steps.t * gap >= 2,
    }


def bump(x: Any, end: Any) -> Any:
    """h(x), for rationals and mpmath numbers alike."""
    if x <= 0:
        return 0 * x
    if x <= end:
        return x**3 / 6
    return end**3 / 6 + end**2 / 2 * (x - end) + end * (x - end) ** 2 / 2


def task_losses(x: Any, y: Any, delta: Any, end: Any) -> tuple[Any, Any]:
    """L₁ and L₂."""
    return -2 * x + delta * y + bump(x, end), x + delta * y


def in_rationals(name: str) -> tuple[Steps, Losses]:
    """Compute one example in exact rationals, without any rounding; return its losses as well."""
    delta, t = EXAMPLES[name]

    def losses(theta: exact.Vector) -> tuple[Any, Any]:
        return task_losses(*theta, *(exact.like(x, theta[0]) for x in (delta, t)))

    pair = [(Fraction(-2), delta), (Fraction(1), delta)]  # gradients at 0; h'(0) = 0
    g, pc = exact.add(*pair), exact.update(pair)
    # g₁² ∫ w(a) a t da with the weights w = 1 and w = 2(1 − a).
    bent = g[0] ** 2 * t / exact.dot(g, g)
    surgery, plain = (sum(losses(exact.scale(-t, v))) for v in (pc, g))
    return Steps(pair, t, t, bent / 2, bent / 3, surgery, plain), losses


def smooth() -> bool:
    """Test that the second differences of h stay between 0 and T, from −1 to T + 1."""
    end = EXAMPLES["plane"][1]
    points = [Fraction(k, 16) for k in range(-16, int(16 * (end + 1)))]
    return exact.bends_between(lambda x: bump(x, end), points, 0, end)


def printed() -> Counterexample:
    """Return the example in the plane by both routes, with the one in one dimension."""
    (plane, losses), (line, others) = in_rationals("plane"), in_rationals("one_dimension")
    digits, _ = confirmed(plane, losses), confirmed(line, others)
    exceeded = plane.t * (plane.ell_remainder - plane.xi * plane.constant)
    return Counterexample(
        "exact example",
        f"L_1 = −2x + y/20 + h(x), L_2 = x + y/20, t = L = {plane.t}: cos²φ = "
        f"{float(plane.cos_squared):.4f}, ℓ = {float(plane.ell):.3f}, ξL = "
        f"{float(plane.xi * plane.constant):.4f}",
        {
            "L_1 and L_2 convex, ∇L L-Lipschitz (second differences of h between 0 "
            "and T)": smooth(),
            **hypotheses(plane),
        },
        f"L(θ^PC) − L(θ^MT) = {float(plane.excess):.3f} > 0 (with the exact remainder (c) fails: "
        f"t(ℓ' − ξL) = {float(exceeded):.3f} < 2)",
        {
            "rationals": plane.excess > 0 and exceeded < 2,
            "50 digits": bool(digits.excess > 0),
            "one dimension, rationals": line.excess > 0 and all(hypotheses(line).values()),
        },
    )
