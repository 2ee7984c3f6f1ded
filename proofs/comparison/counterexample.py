"""Theorem 2 as printed is false: two convex counterexamples in exact rationals, and the same by
50-digit mpmath.

    L_1(x, y) = -2 x + delta y + h(x),   L_2(x, y) = x + delta y,   theta = (0, 0), t = T,
    h'' = 0 for x < 0, x on [0, T], T beyond: h is convex and twice continuously differentiable,
    grad L is T-Lipschitz.

- delta = 0, T = 2 (in effect one dimension): cos = -1, PCGrad does not move, and the plain step
  reaches a lower loss.
- delta = 1/20, T = 17/8 (the plane): -1 < cos < 0, both move, and the plain step still reaches the
  lower loss.

No example in one dimension has cos > -1: two numbers of opposite sign are opposite
(`identities_cases.one_dimension`). A third example, of two logistic losses, is in
`smooth_counterexample.py`.

Where the printed proof breaks: it writes L(theta^MT) = L - t ||g||^2 + t^2 H / 2 with H of
Definition 3, here t^2 H / 2 = T^3 / 4; the true second-order term is T^3 / 6, because the curvature
lies at the far end of the step, where the weight 1 - a is small. With H in the (1-a)-weighted form
(c) fails, as it must."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath as mp

from proofs.comparison import smooth_counterexample
from proofs.problems import Problems
from proofs.tally import BrokenError

EXAMPLES = {
    "one_dimension": (Fraction(0), Fraction(2)),
    "plane": (Fraction(1, 20), Fraction(17, 8)),
}
Vector = tuple[Fraction, Fraction]


def bump(x: Any, end: Any) -> Any:
    """h(x), for rationals and mpmath numbers alike."""
    if x <= 0:
        return 0 * x
    if x <= end:
        return x**3 / 6
    return end**3 / 6 + end**2 / 2 * (x - end) + end * (x - end) ** 2 / 2


def task_losses(x: Any, y: Any, delta: Any, end: Any) -> tuple[Any, Any]:
    """L_1 and L_2."""
    return -2 * x + delta * y + bump(x, end), x + delta * y


def exact(name: str) -> dict[str, Any]:
    """Hypotheses and conclusion of one example in rational arithmetic; no rounding anywhere."""
    delta, t = EXAMPLES[name]
    g1, g2 = (Fraction(-2), delta), (Fraction(1), delta)  # gradients at 0; h'(0) = 0
    s1, s2, p = _dot(g1, g1), _dot(g2, g2), _dot(g1, g2)
    g, pc = _sum(g1, g2, Fraction(1), Fraction(1)), _sum(g1, g2, 1 - p / s1, 1 - p / s2)
    square, xi, constant = _dot(g, g), _dot(pc, pc) / _dot(g, g), t
    # int_0^1 a t w(a) da with w = 1 and w = 2 (1 - a)
    curvature = {"uniform": g[0] ** 2 * t / 2 / square, "remainder": g[0] ** 2 * t / 3 / square}
    forms = {
        form: _conditions(ell, xi, constant, t, (s1, s2, p)) for form, ell in curvature.items()
    }
    plain, surgery = (sum(task_losses(-t * x, -t * y, delta, t)) for x, y in (g, pc))
    return {
        "delta": str(delta),
        "t": str(t),
        "L": str(constant),
        "xi": str(xi),
        "cos_squared": str(p**2 / (s1 * s2)),
        "l": {form: str(ell) for form, ell in curvature.items()},
        "hypotheses": forms,
        "loss_after_plain_step": str(plain),
        "loss_after_pcgrad": str(surgery),
        "guarantee_fails": surgery > plain,
        "refutes": {form: all(forms[form].values()) and surgery > plain for form in forms},
    }


def _conditions(
    ell: Fraction, xi: Fraction, constant: Fraction, t: Fraction, gram: tuple[Fraction, ...]
) -> dict[str, bool]:
    (s1, s2, p), excess = gram, ell - xi * constant
    return {
        "conflict": p < 0,
        "l_at_most_L": ell <= constant,
        "a": p < 0 and -p * (s1 + s2) >= 2 * s1 * s2,  # cos <= -Phi without its square roots
        "b": excess >= 0,
        "c": excess > 0 and t * excess >= 2,
    }


def _dot(u: Vector, v: Vector) -> Fraction:
    return u[0] * v[0] + u[1] * v[1]


def _sum(u: Vector, v: Vector, a: Fraction, b: Fraction) -> Vector:
    return a * u[0] + b * v[0], a * u[1] + b * v[1]


def by_mpmath(name: str, digits: int = 50) -> dict[str, str]:
    """The same example from the loss values alone: derivatives by mp.diff, Definition 3's integral
    by mp.quad.
    """
    with mp.workdps(digits):
        delta, t = (mp.mpf(x.numerator) / x.denominator for x in EXAMPLES[name])

        def loss(x: Any, y: Any) -> Any:
            return sum(task_losses(x, y, delta, t))

        def gradient(i: int) -> Any:
            return mp.matrix(
                [
                    mp.diff(lambda x, y: task_losses(x, y, delta, t)[i], (0, 0), order)
                    for order in ((1, 0), (0, 1))
                ]
            )

        gradients = [gradient(0), gradient(1)]
        (s1, p), (_, s2) = ([mp.fdot(u, v) for v in gradients] for u in gradients)
        g, pc = (
            gradients[0] + gradients[1],
            (1 - p / s1) * gradients[0] + (1 - p / s2) * gradients[1],
        )
        square = mp.fdot(g, g)

        def along(a: Any) -> Any:
            return loss(-a * t * g[0], -a * t * g[1])

        curvature = mp.quad(lambda a: mp.diff(along, a, 2), [0, 1]) / (t**2 * square)
        xi, constant = mp.fdot(pc, pc) / square, t
        return {
            "l": mp.nstr(curvature, 20),
            "xi": mp.nstr(xi, 20),
            "a": mp.nstr(
                p / mp.sqrt(s1 * s2) + 2 * mp.sqrt(s1 * s2) / (s1 + s2), 20
            ),  # not positive: holds
            "b": mp.nstr(curvature - xi * constant, 20),  # not negative: holds
            "c": mp.nstr(t - 2 / (curvature - xi * constant), 20),  # not negative: holds
            "excess_loss_of_pcgrad": mp.nstr(
                loss(-t * pc[0], -t * pc[1]) - loss(-t * g[0], -t * g[1]), 20
            ),
        }


def sampled(problems: Problems, index: int, step: float, digits: int = 50) -> dict[str, Any]:
    """A sampled logistic or softplus instance again, from its float64 data in mpmath: printed
    hypotheses, and margin.

    Definition 3's integral has a closed form: H = g . (grad L(theta) - grad L(theta^MT)) / t.
    """
    if problems.family not in ("logistic", "softplus"):
        raise BrokenError(f"no mpmath form of {problems.family}")
    with mp.workdps(digits):
        tensors = (
            problems.A[index],
            problems.b[index],
            problems.s[index, :, None] * problems.w[index],
        )
        tasks = [tuple(mp.matrix(x.tolist()) for x in task) for task in zip(*tensors, strict=True)]
        t, constant = mp.mpf(step), mp.mpf(float(problems.lipschitz()[index]))

        def gradient(task: Any, theta: Any) -> Any:
            a, b, weights = task
            return a.T * mp.matrix(
                [w / (1 + mp.exp(-z)) for w, z in zip(weights, a * theta + b, strict=True)]
            )

        def loss(theta: Any) -> Any:
            values = (zip(weights, a * theta + b, strict=True) for a, b, weights in tasks)
            return sum(w * mp.log1p(mp.exp(z)) for task in values for w, z in task)

        g1, g2 = (gradient(task, mp.zeros(problems.A.shape[-1], 1)) for task in tasks)
        s1, s2, p = mp.fdot(g1, g1), mp.fdot(g2, g2), mp.fdot(g1, g2)
        g, pc = g1 + g2, (1 - p / s1) * g1 + (1 - p / s2) * g2
        square, after = (
            mp.fdot(g, g),
            sum((gradient(task, -t * g) for task in tasks), mp.zeros(len(g), 1)),
        )
        ell, xi = mp.fdot(g, g - after) / (t * square), mp.fdot(pc, pc) / square
        excess, margin = ell - xi * constant, (loss(-t * g) - loss(-t * pc)) / (t * square)
        holds = bool(p < 0 and -p * (s1 + s2) >= 2 * s1 * s2 and excess > 0 and t * excess >= 2)
        return {
            "family": problems.family,
            "dimension": int(problems.dimension[index]),
            "t": step,
            "hypotheses_hold": holds,
            "cos": mp.nstr(p / mp.sqrt(s1 * s2), 20),
            "l_over_L": mp.nstr(ell / constant, 20),
            "margin": mp.nstr(margin, 20),
            "refutes": holds and bool(margin < 0),
        }


def check() -> dict[str, Any]:
    """All examples by two routes each; BrokenError where the routes disagree."""
    report: dict[str, Any] = {}
    for name in EXAMPLES:
        rational, digits = exact(name), by_mpmath(name)
        excess = Fraction(rational["loss_after_pcgrad"]) - Fraction(
            rational["loss_after_plain_step"]
        )
        pairs = [
            (digits["excess_loss_of_pcgrad"], excess),
            (digits["l"], Fraction(rational["l"]["uniform"])),
            (digits["xi"], Fraction(rational["xi"])),
        ]
        if any(
            abs(mp.mpf(a) - mp.mpf(b.numerator) / b.denominator) > mp.mpf("1e-12") for a, b in pairs
        ):
            raise BrokenError(
                f"counterexample {name}: mpmath {digits} and rationals {rational} disagree"
            )
        report[name] = {"exact": rational, "mpmath": digits}
    return {**report, "smooth": smooth_counterexample.smooth()}


def refuting(examples: dict[str, Any], form: str) -> int:
    """How many of `check`'s examples violate Theorem 2 with H in the given form."""
    count = sum(examples[name]["exact"]["refutes"][form] for name in EXAMPLES)
    return count + (form == "uniform" and examples["smooth"]["refutes"])
