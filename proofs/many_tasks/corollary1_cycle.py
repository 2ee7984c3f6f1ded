"""Corollary 1 is false, step and limit: exact counterexamples with three convex tasks, for every
order of Algorithm 1.

**Step.** L_i = ||theta||^2 / 6 + g_i . theta with g_1 = (x, y, y), g_2 = (y, x, y), g_3 = (y, y, x)
from theta = 0, where L = 1 and t = 1 / L. `smallest` finds x = 3, y = -1: in each of the 8
combinations of orders cos(g, g^PC) > 1/2 and the loss rises.

**Limit.** L_i = s^2 / 18 + u_i . theta with s = theta_1 + theta_2 + theta_3, u_1 = (8, -4, -4) / 3
and permutations of
it: the sum is s^2 / 6, L = 1, optimal value 0. The gradients depend on s alone, and *every* order
sends s to (1 - t kappa(s)) s with kappa = (1 - c)^2 (`identities_many.cycle`). Where t kappa = 2
the iterates alternate between s and -s for ever, at one loss above the optimum, with cos(g, g^PC) >
1/2 at every step:
- in rationals: s = 3, t = 121 / 128 < 1 / L;
- at t = 1 / L: c = 1 - sqrt 2, s^2 = 216 sqrt 2 - 288.
Both attract the starts around them (`identities_many.attraction`). Nothing here depends on how the
orders are drawn.

**One order.** Without asking for every order, ||g^PC|| / ||g|| has no bound, at cos(g, g^PC) -> 1
(`unbounded`): three gradients of sum 0 may have g^PC /= 0, so that with n >= 3 the optimum need not
even be a fixed point."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import mpmath as mp
import sympy as sp
import torch
from torch import Tensor

import pcgrad
from proofs import exact
from proofs.algebra.identities_many import flat_cosine
from proofs.problems import Problems, look, rounding
from proofs.tally import BrokenError

STEP = Fraction(121, 128)  # of the rational cycle, at s = 3: 2 / kappa
START = Fraction(3)
SURD = 216 * sp.sqrt(2) - 288  # s^2 of the cycle at t = 1 / L
RUNS, NEAR = 200, 0.05  # random runs, started at (1, 1, 1) plus NEAR times a normal vector
STEPS = (10, 100, 1000)
Loss = Callable[..., Any]


def symmetric(x: Any, y: Any) -> list[exact.Vector]:
    """(x, y, y), (y, x, y), (y, y, x)."""
    return [(x, y, y), (y, x, y), (y, y, x)]


def step_in_every_order(x: int, y: int) -> dict[str, Any]:
    """The step from 0 at t = 1 / L = 1 in all 8 orders, in rationals; L(theta) = ||theta||^2 / 2 +
    g . theta.
    """
    gradients = exact.rationals(symmetric(x, y))
    g = exact.add(*gradients)
    ends = [exact.update(gradients, orders) for orders in exact.all_orders(3)]
    rises = [exact.dot(end, end) / 2 - exact.dot(g, end) for end in ends]
    half = [any(g) and exact.cosine_above_half(g, end) for end in ends]
    square = exact.dot(g, g)
    cosines = [
        exact.dot(g, end) ** 2 / (square * exact.dot(end, end)) if any(end) and square else 0
        for end in ends
    ]
    return {
        "gradients": [[str(entry) for entry in row] for row in gradients],
        "c": str(exact.dot(*gradients[:2]) / exact.dot(gradients[0], gradients[0])),
        "loss_after_minus_before": [str(rise) for rise in sorted(set(rises))],
        "cos_g_gpc_squared": [str(cos) for cos in sorted(set(cosines))],
        "orders": len(ends),
        "orders_with_cos_above_half": sum(half),
        "orders_in_which_the_loss_rises": sum(rise > 0 for rise in rises),
        "refutes": all(half) and all(rise > 0 for rise in rises),
    }


def smallest(limit: int = 12) -> dict[str, Any]:
    """The first refuting pair of whole numbers by x + |y|, all 8 orders tried for each."""
    for size in range(2, limit):
        for y in range(-1, -size, -1):
            found = step_in_every_order(size + y, y)
            if found["refutes"]:
                return found
    raise BrokenError("corollary1: no small whole numbers refute the descent step")


def step_by_core(x: int, y: int) -> dict[str, Any]:
    """The same in float64 through the core, on `Problems`: A = 1, b = 3 g_i, s = 1/3 add 3
    ||g_i||^2 / 2 to L_i.
    """
    orders = torch.tensor(list(exact.all_orders(3)))
    count, gradients = len(orders), torch.tensor(symmetric(x, y), dtype=torch.float64)
    one = torch.eye(3, dtype=torch.float64).expand(count, 3, 3, 3)
    shape = (count, 3, 3)
    thirds, threes = (
        torch.full((count, 3), 1 / 3, dtype=torch.float64),
        torch.full((count,), 3.0, dtype=torch.float64),
    )
    b, w = (3 * gradients).expand(shape), torch.ones(shape, dtype=torch.float64)
    problems = Problems("quadratic", one, b, w, thirds, threes)
    theta = problems.start()
    point, step = look(problems, theta, orders), 1 / problems.lipschitz()
    after = theta - step.unsqueeze(-1) * point.g_pc
    rise = problems.loss(after) - problems.loss(theta)
    cos = torch.nn.functional.cosine_similarity(point.g, point.g_pc, dim=-1)
    return {
        "L": float(problems.lipschitz()[0]),
        "cos_g_gpc": [float(cos.min()), float(cos.max())],
        "loss_after_minus_before": [float(rise.min()), float(rise.max())],
        "refutes": bool(
            (rise > rounding(problems, theta, (after,), step)).all() and (cos > 0.5).all()
        ),
    }


def step_by_mpmath(x: int, y: int, digits: int = 50) -> dict[str, Any]:
    """The same from the values of the three losses alone: gradients by mp.diff, cosines and losses
    in 50 digits.
    """
    with mp.workdps(digits):
        tasks = [_quadratic(row) for row in symmetric(mp.mpf(x), mp.mpf(y))]
        zero = (mp.mpf(0),) * 3
        rises, cosines = [], []
        for orders in exact.all_orders(3):
            after, cos = _mp_step(tasks, zero, orders, mp.mpf(1))
            rises.append(sum(loss(*after) - loss(*zero) for loss in tasks))
            cosines.append(cos)
        return {
            "cos_g_gpc": [mp.nstr(min(cosines), 20), mp.nstr(max(cosines), 20)],
            "loss_after_minus_before": [mp.nstr(min(rises), 20), mp.nstr(max(rises), 20)],
            "refutes": bool(min(cosines) > 0.5 and min(rises) > 0),
        }


def _quadratic(row: exact.Vector) -> Loss:
    return lambda *theta: exact.dot(theta, theta) / 6 + exact.dot(row, theta)


def _flat(row: exact.Vector) -> Loss:
    return lambda *theta: sum(theta) ** 2 / 18 + exact.dot(row, theta)


def _mp_step(
    tasks: list[Loss], theta: exact.Vector, orders: exact.Orders, step: Any
) -> tuple[exact.Vector, Any]:
    """theta+ and cos(g, g^PC) from the losses alone."""
    units = [tuple(int(i == k) for i in range(len(theta))) for k in range(len(theta))]
    gradients = [tuple(mp.diff(loss, theta, unit) for unit in units) for loss in tasks]
    g, g_pc = exact.add(*gradients), exact.update(gradients, orders)
    cos = exact.dot(g, g_pc) / mp.sqrt(exact.dot(g, g) * exact.dot(g_pc, g_pc))
    return exact.add(theta, exact.scale(-step, g_pc)), cos


def flat_gradients(s: Any, third: Any = Fraction(1, 3)) -> list[exact.Vector]:
    """g_i = (s / 9) (1, 1, 1) + u_i, in numbers of any kind."""
    return [tuple(s / 9 + third * (8 if k == i else -4) for k in range(3)) for i in range(3)]


def rational_cycle() -> dict[str, Any]:
    """From s = 3 and from s = -3, in every order: where s goes, and the loss, exactly."""
    after, above, moves = set(), [], set()
    for s in (START, -START):
        gradients = flat_gradients(s)
        g = exact.add(*gradients)
        for orders in exact.all_orders(3):
            g_pc = exact.update(gradients, orders)
            after.add((s, s - STEP * sum(g_pc)))
            above.append(exact.cosine_above_half(g, g_pc))
            moves.add(exact.dot(g, g_pc) ** 2 / (exact.dot(g, g) * exact.dot(g_pc, g_pc)))
    alternates = after == {(START, -START), (-START, START)}
    value = START**2 / 6
    return {
        "t": str(STEP),
        "L": "1",
        "c": str(flat_cosine(sp.Rational(START))),
        "s": [str(START), str(-START)],
        "loss_at_every_step": str(value),
        "optimal_value": "0",
        "cos_g_gpc_squared": [str(cos) for cos in sorted(moves)],
        "slope_of_the_map": str(_slope(sp.Rational(START**2))),
        "orders_tried": len(above),
        "refutes": alternates and all(above) and STEP <= 1 and value > 0,
    }


def _slope(square: sp.Expr) -> sp.Expr:
    """ds+/ds at the cycle, of `identities_many.attraction`."""
    return sp.radsimp(sp.simplify(-1 + sp.Rational(8, 3) * (1 + 2 * flat_cosine(sp.sqrt(square)))))


def surd_cycle() -> dict[str, Any]:
    """The cycle at t = 1 / L in surds: two steps of the literal algorithm in cyclic orders, one in
    the official code's.

    That s changes its sign in all 8 orders is `identities_many.cycle`.
    """
    s = sp.sqrt(SURD)
    third, half = sp.Rational(1, 3), sp.Rational(1, 2)
    start = (s / 3, s / 3, s / 3)
    theta, path, aligned = start, [s], []
    for _ in range(2):
        gradients = flat_gradients(sum(theta), third)
        theta, cos = _surd_step(gradients, exact.cyclic_orders(3), theta)
        path.append(sp.radsimp(sp.expand(sum(theta))))
        aligned.append(cos)
    moved, cos = _surd_step(flat_gradients(s, third), pcgrad.fixed_orders(3).tolist(), start)
    fixed = sp.radsimp(sp.expand(sum(moved) + s)) == 0 and bool(cos > half)
    returns = all(sp.radsimp(sp.expand(a - b)) == 0 for a, b in zip(theta, start, strict=True))
    alternates = all(sp.radsimp(sp.expand(a + b)) == 0 for a, b in pairwise(path))
    return {
        "t": "1",
        "s_squared": str(SURD),
        "c": str(sp.radsimp(sp.simplify(flat_cosine(s)))),
        "cos_g_gpc_cyclic": [str(cos) for cos in aligned],
        "loss_at_every_step": str(sp.expand(SURD / 6)),
        "slope_of_the_map": f"{_slope(SURD)} = {sp.N(_slope(SURD), 6)}",
        "cos_g_gpc_fixed": f"{float(cos):.6f}",
        "refutes": returns and alternates and fixed and all(cos == 1 for cos in aligned),
    }


def _surd_step(
    gradients: list[exact.Vector], orders: exact.Orders, theta: exact.Vector
) -> tuple[exact.Vector, Any]:
    g, g_pc = exact.add(*gradients), exact.update(gradients, orders)
    g_pc = tuple(sp.radsimp(sp.expand(sp.radsimp(x))) for x in g_pc)
    inner, squares = (
        sp.radsimp(sp.expand(x))
        for x in (exact.dot(g, g_pc), exact.dot(g, g) * exact.dot(g_pc, g_pc))
    )
    cos = sp.sqrt(sp.radsimp(sp.expand(inner**2 / squares))) * sp.sign(inner)
    return exact.add(theta, exact.scale(-1, g_pc)), cos


def cycle_by_mpmath(updates: int = 60, digits: int = 50) -> dict[str, Any]:
    """From beside the rational cycle, in 50 digits from the losses alone and cyclic orders: the
    distance to it.
    """
    with mp.workdps(digits):
        tasks = [_flat(tuple(mp.mpf(8 if k == i else -4) / 3 for k in range(3))) for i in range(3)]
        theta, step = (mp.mpf(11) / 10,) * 3, mp.mpf(STEP.numerator) / STEP.denominator
        distance, lowest = [abs(sum(theta) - 3)], mp.mpf(1)
        for _ in range(updates):
            theta, cos = _mp_step(tasks, theta, exact.cyclic_orders(3), step)
            distance.append(abs(abs(sum(theta)) - 3))
            lowest = min(lowest, cos)
        slope = (distance[-1] / distance[-3]) ** mp.mpf("0.5")
        return {
            "updates": updates,
            "distance_before": mp.nstr(distance[0], 6),
            "distance_after": mp.nstr(distance[-1], 6),
            "shrinks_per_update_by": mp.nstr(slope, 10),
            "smallest_cos": mp.nstr(lowest, 10),
            "refutes": bool(distance[-1] < distance[0] / 1000 and lowest > 0.5),
        }


def runs(shape: str, orders: str, seed: int, step: float = 1.0) -> list[dict[str, Any]]:
    """Random runs in float64 through the core: the share that kept cos >= 1/2 at every step so far,
    and the loss.

    `shape` is isotropic (||theta||^2 / 6 + u_i . theta) or flat (the limit's L_i); both have the
    optimal value 0."""
    generator = torch.Generator().manual_seed(seed)
    theta = 1 + NEAR * torch.randn(RUNS, 3, generator=generator, dtype=torch.float64)
    u = torch.tensor([[8.0, -4, -4], [-4, 8, -4], [-4, -4, 8]], dtype=torch.float64) / 3
    kept, rows = torch.ones(RUNS, dtype=torch.bool), []
    fixed = {"cyclic": torch.tensor(exact.cyclic_orders(3)), "fixed": pcgrad.fixed_orders(3)}
    for k in range(1, STEPS[-1] + 1):
        along = theta if shape == "isotropic" else theta.sum(-1, keepdim=True).expand(-1, 3) / 3
        gradients = along.unsqueeze(1) / 3 + u
        drawn = (
            pcgrad.random_orders(3, generator, batch=(RUNS,))
            if orders == "random"
            else fixed[orders]
        )
        weights = pcgrad.surgery_coefficients(gradients @ gradients.mT, drawn).sum(-2)
        g, g_pc = gradients.sum(-2), (weights.unsqueeze(-2) @ gradients).squeeze(-2)
        kept &= (g * g_pc).sum(-1) >= 0.5 * g.norm(dim=-1) * g_pc.norm(dim=-1)
        theta = theta - step * g_pc
        if k in STEPS:
            rows.append(
                {"steps": k, "runs": RUNS, "kept": int(kept.sum()), **_spread(theta, shape, kept)}
            )
    return rows


def by_core(seed: int) -> dict[str, Any]:
    """The rational cycle's map in float64 through the core, from starts around it, orders drawn at
    random.
    """
    last = runs("flat", "random", seed, float(STEP))[-1]
    error = abs((last["smallest_loss"] or 0.0) - float(START**2 / 6))
    return {**last, "distance_to_the_loss": error, "refutes": last["kept"] == RUNS and error < 1e-9}


def _spread(theta: Tensor, shape: str, kept: Tensor) -> dict[str, float | None]:
    loss = (theta**2).sum(-1) / 2 if shape == "isotropic" else theta.sum(-1) ** 2 / 6
    return {
        "smallest_loss": float(loss[kept].min()) if kept.any() else None,
        "median_loss": float(loss.median()),
    }


def unbounded() -> list[dict[str, Any]]:
    """The official code's fixed orders, exact: g_i = m u_i + (-1, 0, 1) for growing m; g = (-3, 0,
    3).
    """
    orders, rows = pcgrad.fixed_orders(3).tolist(), []
    for size in (10, 100, 1000):
        gradients = [exact.add(exact.scale(size, u), (-1, 0, 1)) for u in symmetric(2, -1)]
        gradients = exact.rationals(gradients)
        g, g_pc = exact.add(*gradients), exact.update(gradients, orders)
        inner, squares = exact.dot(g, g_pc), (exact.dot(g, g), exact.dot(g_pc, g_pc))
        rows.append({
            "m": size,
            "ratio": float(squares[1] / squares[0]) ** 0.5,
            "cos_g_gpc": float(inner) / float(squares[0] * squares[1]) ** 0.5,
            "loss_rises_at_1_over_L": squares[1] > 2 * inner,
        })  # fmt: skip
    return rows


def check(seed: int) -> dict[str, Any]:
    """All of the above; BrokenError where the routes to one example disagree."""
    found = smallest()
    x, y = (int(found["gradients"][0][k]) for k in (0, 1))
    step = {"exact": found, "float64": step_by_core(x, y), "mpmath": step_by_mpmath(x, y)}
    step["larger"] = step_in_every_order(10, -4)
    limit = {
        "rational": rational_cycle(),
        "surds": surd_cycle(),
        "mpmath": cycle_by_mpmath(),
        "float64": by_core(seed),
    }
    for name, routes in (("descent step", step), ("limit", limit)):
        if len({route["refutes"] for route in routes.values()}) > 1:
            raise BrokenError(
                f"corollary1: the routes to the counterexample of the {name} disagree: {routes}"
            )
    kinds = [
        ("flat", "random"),
        ("isotropic", "random"),
        ("isotropic", "cyclic"),
        ("isotropic", "fixed"),
    ]
    return {
        "step": step,
        "limit": limit,
        "runs": {f"{shape}, {orders} orders": runs(shape, orders, seed) for shape, orders in kinds},
        "one_order_has_no_bound": unbounded(),
        "largest_stretch": {str(n): (1 + 1 / (n - 1)) ** (n - 1) for n in range(2, 11)},
    }
