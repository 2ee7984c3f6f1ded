"""Exact quadratics in the plane, computed in rationals and again through the core.

    Lᵢ(θ) = gᵢ·θ + θᵀ diag(h) θ/4,  θ = 0:  both tasks are convex, L has the Hessian diag(h).

So L = max h, and ℓ = gᵀ diag(h) g/‖g‖² in every form of H.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

from proofs.comparison.exact_steps import Steps
from proofs.exact import Vector, add, dot, rationals, scale, update
from proofs.problems import look, quadratics


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

    def steps(self) -> Steps:
        """Compute both steps in rationals."""
        pair, t = rationals([self.g1, self.g2]), Fraction(self.t)
        g, pc = add(*pair), update(pair)
        ell = sum(h * x**2 for h, x in zip(self.h, g, strict=True)) / dot(g, g)
        # Both losses are exact, so that their comparison needs no tolerance.
        ends = (self.loss(scale(-t, v)) for v in (pc, g))
        return Steps(pair, t, max(self.h), ell, ell, *ends)

    def core_agrees(self, expected: Fraction) -> bool:
        """Compare L(θ^PC) − L(θ^MT) with the core's value.

        The problem is rebuilt from A = diag(√(h/2)) and A bᵢ = gᵢ.
        """
        root = (torch.tensor([float(h) for h in self.h], dtype=torch.float64) / 2).sqrt()
        b = torch.tensor([self.g1, self.g2], dtype=torch.float64) / root
        problems = quadratics(torch.diag(root).expand(1, 2, 2, 2), b[None])
        point = look(problems, problems.start())
        surgery, plain = (problems.loss(-float(self.t) * d) for d in (point.g_pc, point.g))
        error = abs(float(surgery - plain) - float(expected))
        return error <= 1e-9 * (1 + abs(float(expected)))
