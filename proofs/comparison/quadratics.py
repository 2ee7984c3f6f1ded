"""Exact instances in the plane on which a statement fails: rational quadratics, and the same
through the core.

    L_i(theta) = g_i . theta + theta' diag(h) theta / 4,  theta = 0:  both tasks are convex, L has
    the Hessian diag(h).

So L = max h, and l = g' diag(h) g / ||g||^2 in every form of H; either may be claimed otherwise, to
drop a hypothesis. N, D and tau = N / D are those of `identities_cases.py`. Float64 and the core's
Algorithm 1 confirm every loss."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from proofs.exact import Vector, add, dot, scale, update
from proofs.problems import Problems, look
from proofs.tally import BrokenError


@dataclass(frozen=True)
class Quadratic:
    """g_1, g_2, h and a step; `ell` and `constant` where the claim uses others than the true l and
    L.
    """

    g1: tuple[int, int]
    g2: tuple[int, int]
    h: tuple[Fraction | int, Fraction | int]
    t: Fraction | int
    ell: Fraction | int | None = None
    constant: Fraction | int | None = None

    def loss(self, theta: Vector) -> Fraction:
        """L, with L(0) = 0."""
        g = add(self.g1, self.g2)
        return Fraction(dot(g, theta)) + sum(
            (Fraction(h) * x**2 / 2 for h, x in zip(self.h, theta, strict=True))
        )

    def losses(self) -> tuple[Fraction, Fraction]:
        """L(theta^PC), L(theta^MT)."""
        pair = [tuple(Fraction(x) for x in v) for v in (self.g1, self.g2)]
        directions = update(pair, ((1,), (0,))), add(*pair)
        surgery, plain = (self.loss(scale(-Fraction(self.t), d)) for d in directions)
        return surgery, plain

    def conditions(self) -> dict[str, Any]:
        """What Theorems 2 and 3 ask, with the claimed l and L."""
        pair = [tuple(Fraction(x) for x in v) for v in (self.g1, self.g2)]
        g, pc = add(*pair), update(pair, ((1,), (0,)))
        s1, s2, p = dot(pair[0], pair[0]), dot(pair[1], pair[1]), dot(*pair)
        square, length2 = dot(g, g), dot(pc, pc)
        true = sum(Fraction(h) * x**2 for h, x in zip(self.h, g, strict=True)) / square
        ell = true if self.ell is None else Fraction(self.ell)
        constant = Fraction(max(self.h) if self.constant is None else self.constant)
        xi, t, n = length2 / square, Fraction(self.t), square - dot(g, pc)
        d = square * (ell - xi * constant) / 2
        a, b, above = p < 0 and n >= 0, ell >= xi * constant, p < 0 and n <= 0  # n >= 0: c <= -Phi
        return {
            "cos_squared": p**2 / (s1 * s2), "Phi_squared": 4 * s1 * s2 / (s1 + s2) ** 2, "xi": xi,
            "l": ell, "L": constant, "t": t, "l_true": true, "L_true": Fraction(max(self.h)),
            "tau": n / d if d else None, "conflict": p < 0, "l_at_most_L": ell <= constant,
            "curvature": true >= ell, "lipschitz": constant >= max(self.h), "a": a, "b": b,
            "c": ell > xi * constant and t * (ell - xi * constant) >= 2,
            "case_1": bool(above and d < 0 and 0 < t <= n / d), "case_2": bool(a and b and d > 0 and t >= n / d),
        }  # fmt: skip

    def report(self) -> dict[str, Any]:
        """Everything above as strings and truth values; BrokenError where the core in float64
        disagrees.
        """
        surgery, plain = self.losses()
        self._through_the_core(surgery - plain)
        rows = {
            "g_1": self.g1,
            "g_2": self.g2,
            "h": [Fraction(h) for h in self.h],
            **self.conditions(),
        }
        rows |= {"loss_after_pcgrad": surgery, "loss_after_plain_step": plain}
        return {
            **{name: _plain(value) for name, value in rows.items()},
            "pcgrad_is_worse": surgery > plain,
        }

    def _through_the_core(self, expected: Fraction) -> None:
        """L(theta^PC) - L(theta^MT) again, from A = diag(sqrt(h / 2)), A b_i = g_i."""
        root = (torch.tensor([float(h) for h in self.h], dtype=torch.float64) / 2).sqrt()
        b = torch.tensor([self.g1, self.g2], dtype=torch.float64) / root
        ones = torch.ones(1, 2, 2, dtype=torch.float64)
        a = torch.diag(root).expand(1, 2, 2, 2)
        problems = Problems(
            "quadratic", a, b[None], ones, ones[..., 0], torch.tensor([2.0], dtype=torch.float64)
        )
        point = look(problems, problems.start())
        surgery, plain = (problems.loss(-float(self.t) * d) for d in (point.g_pc, point.g))
        if abs(float(surgery - plain) - float(expected)) > 1e-9 * (1 + abs(float(expected))):
            raise BrokenError(
                f"{self}: the core finds {float(surgery - plain)}, exactly it is {expected}"
            )


def _plain(value: Any) -> Any:
    """JSON: rationals as strings."""
    if isinstance(value, list | tuple):
        return [str(x) for x in value]
    return value if isinstance(value, bool) or value is None else str(value)
