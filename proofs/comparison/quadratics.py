"""Exact quadratics in the plane, computed in rationals and again through the core.

    Lᵢ(θ) = gᵢ·θ + θᵀ diag(h) θ/4,  θ = 0:  both tasks are convex, L has the Hessian diag(h).

So L = max h, and ℓ = gᵀ diag(h) g/‖g‖² in every form of H.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

from proofs.exact import Vector, add, dot, rationals, scale, update
from proofs.problems import Problems, look

ORDERS = ((1,), (0,))


@dataclass(frozen=True)
class Outcome:
    """Theorem 3's quantities on one quadratic, in rationals."""

    g_1: tuple[int, int]
    g_2: tuple[int, int]
    h: tuple[Fraction, Fraction]
    t: Fraction
    ell: Fraction
    constant: Fraction
    xi: Fraction
    tau: Fraction | None
    conflict: bool
    case_1: bool
    case_2: bool
    loss_after_pcgrad: Fraction
    loss_after_plain_step: Fraction
    core_agrees: bool

    @property
    def pcgrad_is_better(self) -> bool:
        """L(θ^PC) < L(θ^MT)."""
        return self.loss_after_pcgrad < self.loss_after_plain_step


@dataclass(frozen=True)
class Quadratic:
    """The gradients g₁ and g₂, the Hessian's diagonal h, and a step."""

    g1: tuple[int, int]
    g2: tuple[int, int]
    h: tuple[Fraction | int, Fraction | int]
    t: Fraction | int

    def loss(self, theta: Vector) -> Fraction:
        """L, with L(0) = 0."""
        curved = sum(Fraction(h) * x**2 / 2 for h, x in zip(self.h, theta, strict=True))
        return Fraction(dot(add(self.g1, self.g2), theta)) + curved

    def report(self) -> Outcome:
        """Compute Theorem 3's quantities in rationals, and compare them with the core."""
        pair = rationals([self.g1, self.g2])
        g, pc = add(*pair), update(pair, ORDERS)
        s1, s2, p = dot(pair[0], pair[0]), dot(pair[1], pair[1]), dot(*pair)
        square, length2, t = dot(g, g), dot(pc, pc), Fraction(self.t)
        h = (Fraction(self.h[0]), Fraction(self.h[1]))
        ell = sum(a * x**2 for a, x in zip(h, g, strict=True)) / square
        constant, n = max(h), square - dot(g, pc)
        d = (ell * square - constant * length2) / 2
        # The printed τ has no value where D = 0.
        tau = n / d if d else None
        # cos φ ≥ −Φ and cos φ ≤ −Φ, multiplied out to avoid square roots.
        above, below = -p * (s1 + s2) <= 2 * s1 * s2, -p * (s1 + s2) >= 2 * s1 * s2
        # Both losses are exact, so that their comparison needs no tolerance.
        surgery, plain = (self.loss(scale(-t, v)) for v in (pc, g))
        return Outcome(
            self.g1,
            self.g2,
            h,
            t,
            ell,
            constant,
            length2 / square,
            tau,
            p < 0,
            bool(p < 0 and above and d < 0 and tau is not None and 0 < t <= tau),
            bool(p < 0 and below and d > 0 and tau is not None and t >= tau),
            surgery,
            plain,
            self._core_agrees(surgery - plain),
        )

    def _core_agrees(self, expected: Fraction) -> bool:
        """Compare L(θ^PC) − L(θ^MT) with the core's value.

        The problem is rebuilt from A = diag(√(h/2)) and A bᵢ = gᵢ.
        """
        root = (torch.tensor([float(h) for h in self.h], dtype=torch.float64) / 2).sqrt()
        b = torch.tensor([self.g1, self.g2], dtype=torch.float64) / root
        ones = torch.ones(1, 2, 2, dtype=torch.float64)
        a = torch.diag(root).expand(1, 2, 2, 2)
        width = torch.tensor([2.0], dtype=torch.float64)
        problems = Problems("quadratic", a, b[None], ones, ones[..., 0], width)
        point = look(problems, problems.start())
        surgery, plain = (problems.loss(-float(self.t) * d) for d in (point.g_pc, point.g))
        error = abs(float(surgery - plain) - float(expected))
        return error <= 1e-9 * (1 + abs(float(expected)))
