"""Exact instances about Theorem 3: quadratics without one hypothesis each, and counterexamples to
either direction.

**If, first case, H as printed.** With g_1 = (-1, 0), g_2 = (1, -1), w = g^PC and v normal to w with
v . g < 0,

    L_1(theta) = g_1 . theta + (w . theta)^2 / (2 ||w||^2) + h(v . theta),   L_2(theta) = g_2 .
    theta,   t = tau,

h convex and twice continuously differentiable, h'' rising from 0 at 0 to 1 / ||v||^2 where the
plain step ends. So grad L is 1-Lipschitz, PCGrad's step meets the curvature L all along, and the
plain step meets its own late, which Definition 3 overrates. (The second case is refuted by Theorem
2's counterexamples: `counterexample.py`.)

**Only if.** Quadratics whose curvature along g^PC is below L: PCGrad's step is better than the
bound knows."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath as mp

from proofs.comparison.counterexample import bump
from proofs.comparison.quadratics import Quadratic
from proofs.exact import Vector, add, dot, rationals, scale, update
from proofs.tally import BrokenError

HALF = Fraction(1, 2)
ORDERS = ((1,), (0,))
DIGITS = 50
ONLY_IF = {  # PCGrad is better and neither case holds
    "long_step": Quadratic(
        (-2, 1), (1, 0), (2, 1), 2
    ),  # c < -Phi, l < xi L: the bound fails for every t
    "short_step": Quadratic((-1, 0), (1, -1), (1, HALF), 1),  # c > -Phi, t > tau
}
DROPPED = {  # hypothesis -> (the conditions that the instance breaks, the instance)
    "case 1: t <= tau": ((), Quadratic((-1, 0), (1, -1), (1, 1), 1)),
    "case 1: H >= l ||g||^2": (("curvature",), Quadratic((-3, 0), (2, -1), (HALF, 1), HALF, ell=1)),
    "case 1: L bounds the curvature": (
        ("lipschitz",),
        Quadratic((-1, 0), (1, -1), (4, 1), HALF, constant=1),
    ),
    "case 2: t >= tau": ((), Quadratic((-3, 1), (1, 0), (1, 1), 1)),
    "case 2: l >= xi L": (("b",), Quadratic((-2, 1), (1, -1), (1, 1), 1)),
    "case 2: H >= l ||g||^2": (("curvature",), Quadratic((-3, 1), (1, 0), (HALF, 1), 4, ell=1)),
    "case 2: L bounds the curvature": (
        ("lipschitz",),
        Quadratic((-4, 1), (1, -1), (1, 4), 15, constant=1),
    ),
}


def only_if() -> dict[str, Any]:
    """Both quadratics of ONLY_IF; BrokenError where PCGrad is not strictly better or a case holds."""
    report = {name: instance.report() for name, instance in ONLY_IF.items()}
    for name, row in report.items():
        better = Fraction(row["loss_after_pcgrad"]) < Fraction(row["loss_after_plain_step"])
        if (
            row["case_1"]
            or row["case_2"]
            or not (better and row["conflict"] and row["curvature"] and row["lipschitz"])
        ):
            raise BrokenError(
                f"theorem3, only if: the exact quadratic {name} refutes nothing: {row}"
            )
        row["refutes"] = better
    return report


def dropped() -> dict[str, Any]:
    """Every instance of DROPPED; BrokenError where PCGrad is not worse or other hypotheses break
    than said.
    """
    report = {}
    for name, (broken, instance) in DROPPED.items():
        row = instance.report()
        first = name.startswith("case 1")
        assumed = [
            "conflict",
            "l_at_most_L",
            "curvature",
            "lipschitz",
            *([] if first else ["a", "b"]),
        ]
        told = tuple(key for key in assumed if not row[key])
        in_case = row[
            "case_1" if first else "case_2"
        ]  # it stays where the case itself is not what is dropped
        if (
            told != broken
            or row["a"] == first
            or in_case != (told in (("curvature",), ("lipschitz",)))
        ):
            raise BrokenError(f"theorem3 without {name}: the exact instance breaks {told}: {row}")
        if not row["pcgrad_is_worse"]:
            raise BrokenError(
                f"theorem3 without {name}: the exact instance keeps the guarantee: {row}"
            )
        report[name] = {"idle": False, **row}
    return report


class Late:
    """The counterexample to the first case; everything for L = 1."""

    def __init__(self) -> None:
        self.pair = rationals([(-1, 0), (1, -1)])
        self.g, self.w = add(*self.pair), update(self.pair, ORDERS)
        normal = (-self.w[1], self.w[0])
        self.v = scale(-1 if dot(normal, self.g) > 0 else 1, normal)
        square, length2, inner = dot(self.g, self.g), dot(self.w, self.w), dot(self.g, self.w)
        across = dot(self.v, self.g) ** 2 / dot(
            self.v, self.v
        )  # of ||g||^2, what meets the late curvature
        self.ell = {  # (||g||^2 - across) + across int_0^1 a w(a) da with w = 1 and 2 (1 - a)
            "uniform": 1 - across / square / 2,
            "remainder": 1 - across / square * Fraction(2, 3),
        }
        self.n = square - inner
        self.tau = {form: self.n / ((ell * square - length2) / 2) for form, ell in self.ell.items()}
        self.xi, self.t = length2 / square, self.tau["uniform"]
        self.end = -self.t * dot(self.v, self.g)  # of v . theta, along the plain step

    def losses(self, theta: Any) -> tuple[Any, Any]:
        """L_1 and L_2, for rationals and mpmath numbers alike."""
        g_1, g_2, w, v = (
            tuple(self._like(x, theta[0]) for x in vector)
            for vector in (*self.pair, self.w, self.v)
        )
        end, y = self._like(self.end, theta[0]), dot(v, theta)
        late = bump(y, end) / (end * dot(v, v))
        return dot(g_1, theta) + dot(w, theta) ** 2 / (2 * dot(w, w)) + late, dot(g_2, theta)

    @staticmethod
    def _like(value: Fraction, number: Any) -> Any:
        return (
            value if isinstance(number, Fraction) else mp.mpf(value.numerator) / value.denominator
        )

    def report(self) -> dict[str, Any]:
        """Hypotheses and conclusion in rationals, and the same from the loss values alone in 50
        digits.
        """
        (g_1, g_2), t = self.pair, self.t
        s1, s2, p = dot(g_1, g_1), dot(g_2, g_2), dot(g_1, g_2)
        plain, surgery = (sum(self.losses(scale(-t, d))) for d in (self.g, self.w))
        common = p < 0 and -p * (s1 + s2) < 2 * s1 * s2  # -Phi < c < 0
        holds = {
            form: common and ell <= min(1, self.xi) and 0 < t <= self.tau[form]
            for form, ell in self.ell.items()
        }
        rows = {
            "t": t,
            "L": 1,
            "xi": self.xi,
            "cos_squared": p * p / (s1 * s2),
            "Phi_squared": 4 * s1 * s2 / (s1 + s2) ** 2,
        }
        rows |= {"loss_after_pcgrad": surgery, "loss_after_plain_step": plain}
        return {
            **{name: str(value) for name, value in rows.items()},
            "l": {form: str(ell) for form, ell in self.ell.items()},
            "tau": {form: str(tau) for form, tau in self.tau.items()},
            "case_1": holds,
            "refutes": {form: bool(ok and surgery > plain) for form, ok in holds.items()},
            "mpmath": self._confirmed(surgery - plain),
        }

    def _confirmed(self, excess: Fraction) -> dict[str, str]:
        """Gradients by mp.diff, Algorithm 1 on them, Definition 3 by mp.quad; BrokenError where
        they disagree.
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
            return {name: mp.nstr(value, 20) for name, value in found.items()}


def check() -> dict[str, Any]:
    """The section `counterexamples` of Theorem 3's report."""
    return {
        "first_case": Late().report(),
        **{f"only_if_{name}": row for name, row in only_if().items()},
    }
