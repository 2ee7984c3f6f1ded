"""Both steps from θ = 0 on two losses in the plane, in exact numbers of any kind.

`Steps` computes what Theorems 2 and 3 say of them. In rationals nothing is rounded; `from_losses`
takes nothing but the values of the losses, in the digits of mpmath's context, so that an error in a
formula would show as a disagreement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp

from proofs.exact import Vector, add, dot, in_digits, scale, update
from proofs.tally import BrokenError

Losses = Callable[[Vector], Sequence[Any]]  # L₁ and L₂ at θ
DIGITS = 50


@dataclass(frozen=True)
class Steps:
    """The quantities of the theorems, with H as in Definition 3."""

    pair: Sequence[Vector]  # g₁, g₂
    t: Any
    constant: Any  # L
    ell: Any  # H / ‖g‖²
    ell_remainder: Any  # with the weight 2(1 − a)
    surgery: Any  # L(θ^PC)
    plain: Any  # L(θ^MT)

    @property
    def excess(self) -> Any:
        """L(θ^PC) − L(θ^MT)."""
        return self.surgery - self.plain

    @property
    def product(self) -> Any:
        """g₁ · g₂."""
        return dot(*self.pair)

    @property
    def squares(self) -> tuple[Any, Any]:
        """‖g₁‖² and ‖g₂‖²."""
        return dot(self.pair[0], self.pair[0]), dot(self.pair[1], self.pair[1])

    @property
    def similarity(self) -> tuple[bool, bool]:
        """Whether cos φ ≤ −Φ and cos φ ≥ −Φ, multiplied out to avoid square roots."""
        s1, s2 = self.squares
        left, right = -self.product * (s1 + s2), 2 * s1 * s2
        return left >= right, left <= right

    @property
    def cos_squared(self) -> Any:
        """cos²φ₁₂."""
        s1, s2 = self.squares
        return self.product**2 / (s1 * s2)

    @property
    def xi(self) -> Any:
        """ξ(g₁, g₂), the squared ratio of the two updates' lengths."""
        g, g_pc = add(*self.pair), update(self.pair)
        return dot(g_pc, g_pc) / dot(g, g)

    @property
    def tau(self) -> Any:
        """τ = N/D, or None where D = 0."""
        g, g_pc = add(*self.pair), update(self.pair)
        n = dot(g, g) - dot(g, g_pc)
        d = (self.ell * dot(g, g) - self.constant * dot(g_pc, g_pc)) / 2
        return n / d if d else None

    def cases(self) -> tuple[bool, bool]:
        """Test Theorem 3's two cases; ℓ − ξL has the sign of D."""
        below, above = self.similarity
        rest, tau = self.ell - self.xi * self.constant, self.tau
        if self.product >= 0 or tau is None:
            return False, False
        return above and rest < 0 and 0 < self.t <= tau, below and rest > 0 and self.t >= tau


def from_losses(losses: Losses, t: Fraction, constant: Fraction) -> Steps:
    """Compute the same by mpmath, gradients by mp.diff and integrals by mp.quad."""
    step, units = in_digits(t), ((1, 0), (0, 1))

    def gradient(i: int) -> Vector:
        return tuple(mp.diff(lambda *theta: losses(theta)[i], (0, 0), unit) for unit in units)

    pair = [gradient(0), gradient(1)]
    g = add(*pair)

    def along(a: Any) -> Any:
        return sum(losses(scale(-a * step, g)))

    def mean(weight: Callable[[Any], Any]) -> Any:
        return mp.quad(lambda a: weight(a) * mp.diff(along, a, 2), [0, 1]) / (step**2 * dot(g, g))

    return Steps(
        pair,
        step,
        in_digits(constant),
        mean(lambda a: 1),
        mean(lambda a: 2 * (1 - a)),
        sum(losses(scale(-step, update(pair)))),
        along(1),
    )


def confirmed(steps: Steps, losses: Losses) -> Steps:
    """Recompute steps in rationals from the losses in 50 digits.

    Raises:
        BrokenError: The two routes differ.
    """
    with mp.workdps(DIGITS):
        digits = from_losses(losses, steps.t, steps.constant)
        for name in ("xi", "ell", "ell_remainder", "excess"):
            x, y = getattr(steps, name), getattr(digits, name)
            if abs(in_digits(x) - y) > mp.mpf("1e-12"):
                raise BrokenError(f"{name} is {x} in rationals and {y} in {DIGITS} digits")
    return digits
