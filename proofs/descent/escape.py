"""PCGrad diverges to infinity: Theorem 1 and Proposition 1 cannot promise a *location*.

    L₁ = h(x, y) + (y − 1)²/2,   L₂ = h(x, y) + (y + 1)²/2,   so L = 2h + y² + 1,
    h = huber(r) − x,   r = ‖(x, y)‖,   huber(r) = (r² + 1)/2 up to r = 1 and r beyond.

h ≥ 0 is convex and zero on the ray y = 0, x ≥ 1, where L attains its minimum 1. ∇huber is
1-Lipschitz, so the constant is L = 4. From `START` with t = 1/(2L), x → ∞ and y → y∞ > 0.

THEOREMS.md has the proof. With e = −h_x, u = y + h_y and y⁺ = y(1 − ρ) it shows ρ ≤ 2t(u/y) ≤ 1/2,

    Σ ρ ≤ (u/y)₀ (L₀ − 1)/(1 − Lt),   and y∞ ≥ y₀ 4^(−Σρ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp
import torch

from proofs.certificates import identity
from proofs.exact import Vector, add, dot, in_digits, scale, update
from proofs.problems import Point
from proofs.tally import BrokenError

CONSTANT = 4  # L
DIGITS = 50
START = (Fraction(12, 7), Fraction(1, 2))
SHOWN = (1, 10, 100, 1000, 10_000)
FAR = (40.0, 0.4)  # in the region of the walk, with 1 + cos φ below 1e-8


@dataclass(frozen=True)
class Premises:
    """What the proof requires of the start, and the bounds that follow, in exact rationals."""

    start: tuple[str, str]
    L: str
    t: str
    outside_the_disk: bool
    conflict_for_ever: bool
    rho_at_most_half: bool
    loss_above_infimum_at_most: str
    sum_rho_at_most: str
    y_stays_above: float


@dataclass(frozen=True)
class Core:
    """The walk's end in float64, and whether every update showed what the proof claims of it."""

    x: float
    y: float
    loss_above_infimum: float
    always_in_conflict: bool
    x_grows_and_y_shrinks: bool


@dataclass(frozen=True)
class Digits:
    """The iterate and Σρ after 1, 10, 100, … updates, as decimal strings."""

    digits: int
    walk: list[dict[str, Any]]


def slopes(x: Any, y: Any, m: Any) -> tuple[Any, Any]:
    """Return h_x and h_y at a point outside the unit disk; `m` is math or mpmath."""
    r = m.sqrt(x * x + y * y)
    # −y²/(r(r + x)) equals x/r − 1, without its cancellation.
    return -y * y / (r * (r + x)), y / r


def gradients(x: Any, y: Any, m: Any) -> list[Vector]:
    """Return g₁ and g₂ at a point outside the unit disk."""
    a, b = slopes(x, y, m)
    return [(a, b + y - 1), (a, b + y + 1)]


def height(x: Any, y: Any, m: Any) -> Any:
    """L − 1."""
    return 2 * y * y / (m.sqrt(x * x + y * y) + x) + y * y


def premises() -> Premises:
    """Test the premises at the start, where r = 25/14 is rational."""
    (x, y), r, t = START, Fraction(25, 14), Fraction(1, 2 * CONSTANT)
    e, ratio, above = 1 - x / r, 1 + 1 / x, 2 * (r - x) + y**2
    # The bound of Σρ from the proof in the module's docstring.
    total = ratio * above / (1 - CONSTANT * t)
    return Premises(
        start=(str(x), str(y)),
        L=str(CONSTANT),
        t=str(t),
        outside_the_disk=x >= 1 and r**2 == x**2 + y**2,
        conflict_for_ever=e**2 + (y * ratio) ** 2 < 1,
        rho_at_most_half=2 * t * ratio <= Fraction(1, 2),
        loss_above_infimum_at_most=str(above),
        sum_rho_at_most=str(total),
        y_stays_above=float(y) * 4 ** -float(total),
    )


def far_step(theta: tuple[float, float]) -> tuple[tuple[float, float], float]:
    """Return one update at t = 1/(2L), and cos φ before it."""
    one, two = pair = gradients(*theta, math)
    x, y = add(theta, scale(-1 / (2 * CONSTANT), update(pair)))
    return (x, y), dot(one, two) / math.sqrt(dot(one, one) * dot(two, two))


def by_core(updates: int) -> Core:
    """Run the walk in float64 with the core's update."""
    theta = torch.tensor([float(v) for v in START], dtype=torch.float64)
    conflict = ordered = True
    for _ in range(updates):
        x, y = theta.tolist()
        point = Point.of(torch.tensor([gradients(x, y, math)], dtype=torch.float64))
        after = theta - point.g_pc[0] / (2 * CONSTANT)
        conflict &= bool(point.gramian[0, 0, 1] < 0)
        ordered &= bool(after[0] > theta[0]) and bool(0 < after[1] <= theta[1])
        theta = after
    x, y = theta.tolist()
    return Core(x, y, height(x, y, math), conflict, ordered)


def by_mpmath(updates: int) -> Digits:
    """Run the same walk by Algorithm 1 in mpmath."""
    rows, total = [], mp.mpf(0)
    with mp.workdps(DIGITS):
        x, y = (in_digits(v) for v in START)
        t = mp.mpf(1) / (2 * CONSTANT)
        for k in range(1, updates + 1):
            one, two = pair = gradients(x, y, mp)
            before = y
            x, y = add((x, y), scale(-t, update(pair)))
            # ρ = 1 − y⁺/y.
            total += 1 - y / before
            if k in SHOWN or k == updates:
                values = {"x": x, "y": y, "loss_above_infimum": height(x, y, mp), "sum_rho": total}
                # 1 + cos φ without cancellation.
                product, squares = dot(one, two), dot(one, one) * dot(two, two)
                root = mp.sqrt(squares)
                values["one_plus_cos"] = (squares - product**2) / (root * (root - product))
                shown = {key: mp.nstr(value, 20) for key, value in values.items()}
                rows.append({"updates": k, **shown})
    return Digits(DIGITS, rows)


@dataclass(frozen=True)
class Walk:
    """The walk by three routes."""

    premises: Premises
    core: Core
    mpmath: Digits

    @property
    def hypotheses(self) -> dict[str, bool]:
        """What the proof requires of the start, in exact rationals."""
        proved = identity("escape_slopes").equations > 0
        return {
            "L_1, L_2 convex, L bounded below (escape_slopes)": proved,
            "t = 1/(2L) ≤ 1/L": Fraction(self.premises.t) * Fraction(self.premises.L) <= 1,
            "start outside the unit disk": self.premises.outside_the_disk,
            "conflict at the start, e² + u² < 1": self.premises.conflict_for_ever,
            "ρ ≤ 1/2": self.premises.rho_at_most_half,
        }

    @property
    def routes(self) -> dict[str, bool]:
        """Whether each route finds that y stays away from 0 while x grows."""
        stays, last = self.premises.y_stays_above, self.mpmath.walk[-1]
        bounded = float(last["sum_rho"]) <= float(Fraction(self.premises.sum_rho_at_most))
        return {
            "proof: y stays above a positive number": stays > 0,
            "50 digits": bounded and float(last["y"]) > stays,
            "the core in float64": self.core.always_in_conflict and self.core.x_grows_and_y_shrinks,
        }


def walk(updates: int) -> Walk:
    """Follow the walk: exact premises, in float64 by the core, and by mpmath.

    Raises:
        BrokenError: float64 and mpmath disagree.
    """
    near, digits = by_core(updates), by_mpmath(updates)
    last = digits.walk[-1]
    # Rounding errors accumulate over thousands of updates, hence 1e-8 and not 1e-15.
    for there, here in ((float(last["x"]), near.x), (float(last["y"]), near.y)):
        if abs(there - here) > 1e-8 * abs(there):
            raise BrokenError(f"the escape: float64 {near} and mpmath {last} disagree")
    return Walk(premises(), near, digits)
