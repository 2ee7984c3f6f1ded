"""Theorem 2 as printed is false: convex counterexamples in exact rationals and in 50 digits.

    L₁(x, y) = −2x + δy + h(x),   L₂(x, y) = x + δy,   θ = (0, 0), t = T,
    h'' = 0 for x < 0, x on [0, T], T beyond: h is convex and twice continuously differentiable,
    ∇L is T-Lipschitz.

- `one_dimension`, δ = 0, T = 2: cos φ = −1, PCGrad does not move, and the plain step reaches a
  lower loss.
- `plane`, δ = 1/20, T = 17/8: −1 < cos φ < 0, both move, and the plain step still reaches the
  lower loss.

The printed proof writes L(θ^MT) = L − t‖g‖² + t²H/2 with H of Definition 3, here t²H/2 = T³/4. The
true second-order term is T³/6, because the curvature comes at the end of the step, where the
weight 1 − a is small. With the exact remainder (c) fails, as it must.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp

from proofs import exact
from proofs.judgement import Counterexample
from proofs.tally import BrokenError

EXAMPLES = {
    "one_dimension": (Fraction(0), Fraction(2)),
    "plane": (Fraction(1, 20), Fraction(17, 8)),
}
DIGITS = 50
ORDERS = ((1,), (0,))


@dataclass(frozen=True)
class Printed:
    """Theorem 2's quantities on one example, with H as in Definition 3."""

    t: Any
    constant: Any  # L
    xi: Any
    ell: Any  # H / ‖g‖²
    ell_remainder: Any  # with the weight 2(1 − a)
    product: Any  # g₁ · g₂
    cos_squared: Any
    phi_squared: Any
    excess: Any  # L(θ^PC) − L(θ^MT)

    def hypotheses(self) -> dict[str, bool]:
        """Test the hypotheses of the printed theorem one by one."""
        gap = self.ell - self.xi * self.constant
        return {
            "conflict, g_1 · g_2 < 0": self.product < 0,
            "ℓ ≤ L": self.ell <= self.constant,
            "(a) cos φ ≤ −Φ": self.cos_squared >= self.phi_squared,
            "(b) ℓ ≥ ξL": gap >= 0,
            "(c) t ≥ 2/(ℓ − ξL)": gap > 0 and self.t * gap >= 2,
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


def in_rationals(name: str) -> Printed:
    """Compute one example in exact rationals, without any rounding."""
    delta, t = EXAMPLES[name]
    pair = [(Fraction(-2), delta), (Fraction(1), delta)]  # gradients at 0; h'(0) = 0
    g, pc = exact.add(*pair), exact.update(pair, ORDERS)
    s1, s2, p = exact.dot(pair[0], pair[0]), exact.dot(pair[1], pair[1]), exact.dot(*pair)
    square = exact.dot(g, g)
    surgery, plain = (sum(task_losses(-t * v[0], -t * v[1], delta, t)) for v in (pc, g))
    return Printed(
        t,
        t,
        exact.dot(pc, pc) / square,
        g[0] ** 2 * t / 2 / square,  # ∫ a t da
        g[0] ** 2 * t / 3 / square,  # ∫ 2(1 − a) a t da
        p,
        p**2 / (s1 * s2),
        4 * s1 * s2 / (s1 + s2) ** 2,
        surgery - plain,
    )


def by_mpmath(name: str) -> Printed:
    """Compute the same from the loss values alone.

    The derivatives come from mp.diff and Definition 3's integral from mp.quad.
    """
    with mp.workdps(DIGITS):
        delta, t = (mp.mpf(x.numerator) / x.denominator for x in EXAMPLES[name])

        def task(i: int) -> Any:
            return lambda x, y: task_losses(x, y, delta, t)[i]

        # Nothing but the loss values is used, so that an error in the formulas above would show.
        units = ((1, 0), (0, 1))
        pair = [tuple(mp.diff(task(i), (0, 0), unit) for unit in units) for i in range(2)]
        g, pc = exact.add(*pair), exact.update(pair, ORDERS)
        s1, s2, p = exact.dot(pair[0], pair[0]), exact.dot(pair[1], pair[1]), exact.dot(*pair)
        square = exact.dot(g, g)

        def along(a: Any) -> Any:
            return sum(task_losses(-a * t * g[0], -a * t * g[1], delta, t))

        def mean(weight: Any) -> Any:
            return mp.quad(lambda a: weight(a) * mp.diff(along, a, 2), [0, 1]) / (t**2 * square)

        surgery = sum(task_losses(-t * pc[0], -t * pc[1], delta, t))
        return Printed(
            t,
            t,
            exact.dot(pc, pc) / square,
            mean(lambda a: 1),
            mean(lambda a: 2 * (1 - a)),
            p,
            p**2 / (s1 * s2),
            4 * s1 * s2 / (s1 + s2) ** 2,
            surgery - along(1),
        )


def agree(rational: Printed, digits: Printed) -> None:
    """Compare the two routes.

    Raises:
        BrokenError: They differ.
    """
    for name in ("xi", "ell", "ell_remainder", "excess"):
        x, y = getattr(rational, name), getattr(digits, name)
        if abs(mp.mpf(x.numerator) / x.denominator - y) > mp.mpf("1e-12"):
            raise BrokenError(f"theorem2: {name} is {x} in rationals and {y} in 50 digits")


def smooth() -> bool:
    """Test that the second differences of h stay between 0 and T, from −1 to T + 1."""
    end = EXAMPLES["plane"][1]
    points = [Fraction(k, 16) for k in range(-16, int(16 * (end + 1)))]
    return exact.bends_between(lambda x: bump(x, end), points, 0, end)


def printed() -> Counterexample:
    """Return the example in the plane by both routes, with the one in one dimension."""
    plane, line = in_rationals("plane"), in_rationals("one_dimension")
    digits = by_mpmath("plane")
    agree(plane, digits)
    agree(line, by_mpmath("one_dimension"))
    exceeded = plane.t * (plane.ell_remainder - plane.xi * plane.constant)
    return Counterexample(
        "exact example",
        f"L_1 = −2x + y/20 + h(x), L_2 = x + y/20, t = L = {plane.t}: cos²φ = "
        f"{float(plane.cos_squared):.4f}, ℓ = {float(plane.ell):.3f}, ξL = "
        f"{float(plane.xi * plane.constant):.4f}",
        {
            "L_1 and L_2 convex, ∇L L-Lipschitz (second differences of h between 0 "
            "and T)": smooth(),
            **plane.hypotheses(),
        },
        f"L(θ^PC) − L(θ^MT) = {float(plane.excess):.3f} > 0 (with the exact remainder (c) fails: "
        f"t(ℓ' − ξL) = {float(exceeded):.3f} < 2)",
        {
            "rationals": plane.excess > 0 and exceeded < 2,
            "50 digits": bool(digits.excess > 0),
            "one dimension, rationals": line.excess > 0 and all(line.hypotheses().values()),
        },
    )
