"""Theorem 4's counterexamples: exact rationals, 50-digit mpmath, and float64 through the core.

| example             | losses                           | alpha_k   | what happens
|
|---------------------|----------------------------------|-----------|-----------------------------------------|
| printed_line        | L_1 = L_2 = 16 theta^2           | printed   | alpha_k L_k = 16: diverges,
integers    |
| printed_slow        | L_1 = L_2 = theta^2 / 256        | printed   | rate 1/2, stated 0
|
| printed_plane       | integer Hessians, from rest      | printed   | diverges, in conflict at
every iterate  |
| piecewise           | L_1 = L_2 = f / 2, no conflict   | corrected | a cycle of three points,
rationals      |
| quadratic_cycle     | conflict at every second iterate | corrected | theta_{k+2} = -theta_k,
rationals       |
| quadratic_growth    | the same, other numbers          | corrected | theta_{k+2} = -27/25 theta_k,
rationals |
| quadratic_from_rest | integer Hessians, from rest      | corrected | diverges
|
| always_in_conflict  | integer Hessians, from rest      | corrected | diverges, in conflict at
every iterate  |

The minimizer 0 is common to both tasks in each of them. In the rational ones L_i = n^2 mu_i, so
that alpha_k = 4 / ((n + 1)^2 mu_k) and beta_k = ((n - 1) / (n + 1))^2 at every k: beta does not
even change. `piecewise`: Lessard, Recht and Packard, SIAM J. Optim. 26 (2016) 57-95, section 4.6.

`quadratic_cycle` and `quadratic_growth` were found by solving for the cycle: with e_1 = (1, 0) and
g_2 = z g_1 for a rational complex number z, both weights are rational, and the two equations leave
a circle for g_1 with rational points."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import isqrt
from typing import Any

import mpmath as mp
import torch

from proofs import exact
from proofs.exact import Vector
from proofs.momentum import heavy_ball
from proofs.tally import BrokenError

Matrix = tuple[Any, Any, Any]  # [[a, b], [b, c]] as (a, b, c)
Gradients = Callable[[Vector], list[Vector]]
ORDERS = ((1,), (0,))
DIGITS = 50
F = Fraction

CYCLE = {
    "hessians": ((F(332, 75), F(-2077, 75), F(327025483, 993675)),
                 (F(61646, 75), F(14114, 75), F(1540918663, 1987350))),
    "mu": (F(1), F(3)), "L": (F(361), F(1083)), "factor": F(-1),
    "start": (F(1), F(0)), "previous": (F(-188451, 85975), F(79494, 85975)),
}  # fmt: skip
GROWTH = {
    "hessians": ((F(88269, 20975), F(-628039, 20975), F(126837081599612, 400697863175)),
                 (F(31048874, 20975), F(6925606, 20975), F(705912040163427, 400697863175))),
    "mu": (F(1), F(6)), "L": (F(361), F(2166)), "factor": F(-27, 25),
    "start": (F(1), F(0)), "previous": (F(-51617542, 31374405), F(19103593, 31374405)),
}  # fmt: skip


def root(x: Any) -> Any:
    """The square root of an mpmath number, or of a rational square; BrokenError where it is not
    rational.
    """
    if not isinstance(x, Fraction):
        return mp.sqrt(x)
    found = Fraction(isqrt(x.numerator), isqrt(x.denominator))
    if found**2 != x:
        raise BrokenError(f"theorem4: {x} is not the square of a rational")
    return found


def coefficients(
    weights: tuple[Any, Any], mu: Any, top: Any, rule: str, longer: Any = 1
) -> tuple[Any, Any]:
    """alpha_k (times `longer`) and beta_k as they are written, for rationals and mpmath numbers
    alike.
    """
    mu_k, top_k = exact.dot(weights, mu), exact.dot(weights, top)
    if rule == "gradient":
        return longer * 2 / (top_k + mu_k), 0 * mu_k
    alpha = (
        4 / (root(top_k) + root(mu_k))
        if rule == "printed"
        else 4 / (top_k + mu_k + 2 * root(top_k * mu_k))
    )
    alpha = longer * alpha
    return alpha, max(abs(1 - root(alpha * mu_k)), abs(1 - root(alpha * top_k))) ** 2


def orbit(
    gradients: Gradients,
    mu: Any,
    top: Any,
    start: Vector,
    previous: Vector,
    steps: int,
    rule: str,
    longer: Any = 1,
) -> dict[str, Any]:
    """theta_0 ... theta_steps, and alpha_k, beta_k, cos^2 (negative in conflict) on the way; exact
    for Fractions.
    """
    path, seen = [start], []
    for _ in range(steps):
        g = gradients(path[-1])
        s1, s2, p = exact.dot(g[0], g[0]), exact.dot(g[1], g[1]), exact.dot(*g)
        weights = (1 - min(p, 0) / s1, 1 - min(p, 0) / s2)
        alpha, beta = coefficients(weights, mu, top, rule, longer)
        momentum = exact.add(path[-1], exact.scale(-1, previous))
        pull = exact.update(g, ORDERS)  # Algorithm 1 itself, not the weights
        previous = path[-1]
        path.append(exact.add(path[-1], exact.scale(-alpha, pull), exact.scale(beta, momentum)))
        seen.append((alpha, beta, p * abs(p) / (s1 * s2)))
    return {"path": path, "alpha": [a for a, _, _ in seen], "beta": [b for _, b, _ in seen],
            "signed_cos_squared": [c for _, _, c in seen]}  # fmt: skip


def through_the_core(
    gradients: Gradients,
    mu: Any,
    top: Any,
    start: Vector,
    previous: Vector,
    steps: int,
    rule: str,
    longer: Any = 1,
) -> list[tuple[float, ...]]:
    """The same path in float64 by `heavy_ball.look` and `heavy_ball.move`."""
    theta, before = (
        torch.tensor([[float(x) for x in v]], dtype=torch.float64) for v in (start, previous)
    )
    both = [torch.tensor([[float(x) for x in v]], dtype=torch.float64) for v in (mu, top)]
    path = [tuple(theta[0].tolist())]
    for _ in range(steps):
        g = torch.tensor(
            [[[float(x) for x in v] for v in gradients(path[-1])]], dtype=torch.float64
        )
        theta, before = (
            heavy_ball.move(heavy_ball.look(g, *both), theta, before, rule, float(longer)),
            theta,
        )
        path.append(tuple(theta[0].tolist()))
    return path


def quadratics(one: Matrix, two: Matrix) -> Gradients:
    """g_i = H_i theta."""
    return lambda theta: [
        tuple(exact.dot(row, theta) for row in ((h[0], h[1]), (h[1], h[2]))) for h in (one, two)
    ]


def scalar(slope: Callable[[Any], Any]) -> Gradients:
    """Two identical tasks in one dimension, slope = L_1' = L_2'."""
    return lambda theta: [(slope(theta[0]),), (slope(theta[0]),)]


def bounded(h: Matrix, mu: Any, top: Any) -> bool:
    """Whether mu <= H <= L, without eigenvalues: both differences have nonnegative trace and
    determinant.
    """
    (a, b, c) = h
    return all(
        x + z >= 0 and x * z >= b * b for x, z in ((a - mu, c - mu), (top - a, top - c))
    )  # the off-diagonal entry enters squared


def line(name: str, curvature: Fraction) -> dict[str, Any]:
    """Two identical quadratics, L(theta) = curvature theta^2 / 2, printed alpha_k: exact, and
    through the core.
    """
    half, zero = (curvature / 2,) * 2, (Fraction(1),)
    gradients = scalar(lambda x: curvature / 2 * x)
    found = orbit(gradients, half, half, zero, zero, 6, "printed")
    path = [theta[0] for theta in found["path"]]
    core = through_the_core(
        scalar(lambda x: float(curvature) / 2 * x), half, half, zero, zero, 6, "printed"
    )
    agree(name, [(float(x),) for x in path], core)
    alpha, beta = found["alpha"][0], found["beta"][0]
    return {
        "losses": f"L₁ = L₂ = {curvature / 4} θ²", "mu_k": str(curvature), "L_k": str(curvature),
        "alpha": str(alpha), "alpha_times_L": str(alpha * curvature), "rate": str(root(beta)), "stated_rate": "0",
        "path": [str(x) for x in path], "diverges": all(abs(b) > abs(a) for a, b in pairwise(path)),
        "slower_than_stated": 0 < beta < 1,
    }  # fmt: skip


def piecewise_slope(x: Any) -> Any:
    """f'(x), between 1 and 25 times as steep as the identity line."""
    return 25 * x if x < 1 else (x + 24 if x < 2 else 25 * x - 24)


def piecewise() -> dict[str, Any]:
    """The cycle of Lessard, Recht and Packard as two tasks f / 2, with the corrected alpha_k,
    beta_k of the theorem.
    """
    half = (F(1, 2), F(1, 2)), (F(25, 2), F(25, 2))
    start, previous = (F(792, 1225),), (F(2592, 1225),)
    gradients = scalar(lambda x: piecewise_slope(x) / 2)
    found = orbit(gradients, *half, start, previous, 6, "corrected")
    path = [theta[0] for theta in found["path"]]
    agree(
        "piecewise",
        [(float(x),) for x in path],
        through_the_core(gradients, *half, start, previous, 6, "corrected"),
    )
    with mp.workdps(DIGITS):
        mu, top, first, before = (tuple(_mpf(x) for x in v) for v in (*half, start, previous))
        far = orbit(gradients, mu, top, first, before, 300, "corrected")["path"]
        away = max(abs(far[k][0] - far[k % 3][0]) for k in range(len(far)))
    return {
        "losses": "L_1 = L_2 = f / 2, f' = 25 x for x < 1, x + 24 for 1 <= x < 2, 25 x - 24 from 2 on",
        "alpha": str(found["alpha"][0]), "beta": str(found["beta"][0]), "path": [str(x) for x in path],
        "period": next((k for k in range(1, 6) if path[k] == path[0] and path[k - 1] == previous[0]), 0),
        "refutes": path[3] == path[0] and path[2] == previous[0] and path[4] == path[1] and path[0] != 0,
        "mpmath": {"steps": 300, "largest_distance_from_the_cycle": mp.nstr(away, 5)},
    }  # fmt: skip


def rational(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """A pair of quadratics whose iterates repeat up to a factor after two steps: rationals, mpmath,
    float64.

    The method is homogeneous: theta_{k+2} = s theta_k at k = -1 and 0 holds for ever.
    """
    gradients, both = quadratics(*data["hessians"]), (data["mu"], data["L"])
    found = orbit(gradients, *both, data["start"], data["previous"], 4, "corrected")
    path, s = [data["previous"], *found["path"]], data["factor"]
    repeats = all(path[k + 2] == exact.scale(s, path[k]) for k in range(3))
    class_holds = all(
        bounded(*row) and row[1] > 0 for row in zip(data["hessians"], *both, strict=True)
    )
    for unit in (F(1), F(1, 2**30)):  # the method is homogeneous, and so must the core be
        first, before = (exact.scale(unit, data[place]) for place in ("start", "previous"))
        core = through_the_core(gradients, *both, first, before, 4, "corrected")
        agree(name, [tuple(float(unit * x) for x in v) for v in path[1:]], core)
    with mp.workdps(DIGITS):
        mu, top, first, before = (
            tuple(_mpf(x) for x in v) for v in (*both, data["start"], data["previous"])
        )
        hessians = [tuple(_mpf(x) for x in h) for h in data["hessians"]]
        far = orbit(quadratics(*hessians), mu, top, first, before, 20, "corrected")["path"]
        ratio = mp.sqrt(exact.dot(far[20], far[20]) / exact.dot(far[0], far[0]))
        largest = [
            mp.nstr(mp.eigsy(mp.matrix([[a, b], [b, c]]), eigvals_only=True).T, 15)
            for a, b, c in hessians
        ]
    return {
        "hessians": [[str(x) for x in h] for h in data["hessians"]],
        "mu": [str(x) for x in both[0]], "L": [str(x) for x in both[1]], "eigenvalues": largest,
        "theta_0": [str(x) for x in path[1]], "theta_minus_1": [str(x) for x in path[0]],
        "alpha": [str(x) for x in found["alpha"][:2]], "beta": [str(x) for x in found["beta"][:2]],
        "signed_cos_squared": [str(x) for x in found["signed_cos_squared"][:2]], "factor_of_two_steps": str(s),
        "hypotheses_hold": class_holds, "repeats": repeats, "refutes": class_holds and repeats and abs(s) >= 1,
        "mpmath": {"steps": 20, "growth": mp.nstr(ratio, 15)},
    }  # fmt: skip


def integers(
    name: str, hessians: tuple[Matrix, Matrix], start: tuple[int, int], steps: int, rule: str
) -> dict[str, Any]:
    """Integer Hessians from rest, mu_i and L_i their eigenvalues: 50 digits, and float64 through
    the core.

    The two routes must agree as long as rounding allows; what is reported is the path of 50 digits.
    """
    with mp.workdps(DIGITS):
        values = [
            sorted(mp.eigsy(mp.matrix([[a, b], [b, c]]), eigvals_only=True)) for a, b, c in hessians
        ]
        mu, top = ([v[k] for v in values] for k in (0, 1))
        begin = tuple(mp.mpf(x) for x in start)
        found = orbit(quadratics(*hessians), mu, top, begin, begin, steps, rule)
        sizes = [mp.sqrt(exact.dot(v, v)) for v in found["path"]]
        core = through_the_core(quadratics(*hessians), mu, top, begin, begin, 20, rule)
        agree(name, [tuple(float(x) for x in v) for v in found["path"][:21]], core, 1e-6)
        growth = (sizes[-1] / sizes[steps // 2]) ** (mp.mpf(1) / (steps - steps // 2))
        conflicts = sum(c < 0 for c in found["signed_cos_squared"])
        return {
            "hessians": [[[a, b], [b, c]] for a, b, c in hessians], "start": list(start), "rule": rule, "steps": steps,
            "mu": [mp.nstr(x, 12) for x in mu], "L": [mp.nstr(x, 12) for x in top], "in_conflict": conflicts,
            "smallest_cos": mp.nstr(-mp.sqrt(max(0, -min(found["signed_cos_squared"]))), 12),
            "largest_rate_stated": mp.nstr(mp.sqrt(max(found["beta"])), 12), "growth_per_step": mp.nstr(growth, 12),
            "sizes": [mp.nstr(x / sizes[0], 12) for x in sizes[:: max(1, steps // 10)]],
            "refutes": bool(growth > 1 and sizes[-1] > 1000 * sizes[0]),
        }  # fmt: skip


def agree(name: str, path: list[Any], core: list[Any], tolerance: float = 1e-9) -> None:
    """BrokenError where float64 through the core differs from the exact path."""
    for k, (a, b) in enumerate(zip(path, core, strict=True)):
        if max(abs(x - y) for x, y in zip(a, b, strict=True)) > tolerance * max(
            abs(x) for x in (*a, 1e-30)
        ):
            raise BrokenError(f"theorem4: {name} at step {k}: exactly {a}, through the core {b}")


def _mpf(x: Fraction) -> Any:
    return mp.mpf(x.numerator) / x.denominator


def check() -> dict[str, Any]:
    """All of them."""
    from_rest, always = ((900, 0, 1), (1, 6, 50)), ((900, 0, 1), (58, 190, 640))
    return {
        "printed_line": line("printed_line", F(64)),
        "printed_slow": line("printed_slow", F(1, 64)),
        "printed_plane": integers("printed_plane", always, (-11, 5), 50, "printed"),
        "piecewise": piecewise(),
        "quadratic_cycle": rational("quadratic_cycle", CYCLE),
        "quadratic_growth": rational("quadratic_growth", GROWTH),
        "quadratic_from_rest": integers(
            "quadratic_from_rest", from_rest, (-2, 1), 400, "corrected"
        ),
        "always_in_conflict": integers("always_in_conflict", always, (-11, 5), 400, "corrected"),
    }
