"""Corollary 1 (Yu et al. 2020, Appendix A.1): PCGrad on more than two convex tasks.

Problem class: L = sum_i L_i, n > 2 tasks, L_i convex and differentiable, grad L Lipschitz with
constant L > 0.
Method:        theta+ = theta - t g^PC, g^PC by Algorithm 1, whose orders are drawn anew at every
step.
Hypotheses:    t <= 1 / L, and cos(g, g^PC) >= 1/2 at every step.
Guarantee:     PCGrad converges to a point with cos phi_ij = -1 for all pairs, or to the optimal
value; by the step
                   L(theta+) <= L(theta).

**False as stated**, the step and the limit:
- the proof needs ||g^PC|| <= ||g||, which the hypotheses do not give: equal angles stretch g by (1
  - c)^(n-1), which is above 2 for n >= 3 (`identities_many.stretch`), and at t = 1 / L the step
  descends only if
  ||g^PC|| <= 2 cos(g, g^PC) ||g||. Exact counterexamples in every order: `corollary1_cycle.py`;
- there the iterates alternate between two values of s for ever, whatever orders are drawn: neither
  end is approached;
- cos = -1 for all pairs is no end: three vectors cannot be pairwise opposite
  (`identities_many.opposite_to_both`).

**Repaired**: t <= g . g^PC / (L ||g^PC||^2) and g . g^PC > 0 give L(theta+) <= L(theta) - t g .
g^PC / 2 (`identities_many.repaired_step`); the step then needs neither 1/2 nor t <= 1 / L. With
equality and cos(g, g^PC) >= 1/2 at every step it gains ||g||^2 / (8 L) or more
(`identities_many.repaired_gain`): g -> 0 if L is bounded below, and the loss tends to its optimal
value if besides L is convex with bounded level sets. The form `short` adds the printed proof's
hidden assumption ||g^PC|| <= ||g|| to the printed hypotheses instead: the loss never rises."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs import attack, exact
from proofs.lipschitz import compare
from proofs.many_tasks import corollary1_cycle, corollary1_dropped
from proofs.many_tasks.corollary1_gradients import Angle, angle, chosen, draw_orders, lengths, slack
from proofs.many_tasks.corollary1_overview import overview, verdicts
from proofs.many_tasks.corollary1_paths import limit
from proofs.many_tasks.corollary1_structure import structure
from proofs.problems import CONVEX, NONCONVEX, Point, Problems, aim_at, look, rounding
from proofs.sampling import LARGE, chunks, draw, stream
from proofs.tally import Tally, Trial, sample, total

TASKS = (3, 4, 5, 6, 7, 8, 9, 10)
MANY_TASKS = 4  # of the problems whose L scipy computes again
MANY = 1  # of the instances of LARGE has ten tasks, a second at dimension 1000
ATTACKED = ("quadratic", "logistic")
SHORTEST = 1e-3  # part of the longest step in a search


def longest(problems: Problems, seen: Angle, form: str) -> Tensor:
    """The longest step of a form, [N]: 1 / L, or g . g^PC / (L ||g^PC||^2) = cos ||g|| / (L
    ||g^PC||).
    """
    bound = 1 / problems.lipschitz()
    return bound * seen.cos / seen.ratio if form == "repaired" else bound


def hypotheses(problems: Problems, point: Point, step: Tensor, form: str = "printed") -> Tensor:
    """Whether an instance is in the class of a form, bool [N]. Convexity and L hold by
    construction.
    """
    seen = angle(point.g, point.g_pc)
    return (
        (slack(seen, form) >= 0)
        & (step > 0)
        & (step <= longest(problems, seen, form) * (1 + 1e-15))
    )


def descent(
    problems: Problems, point: Point, step: Tensor, form: str = "printed"
) -> tuple[Tensor, Tensor]:
    """(measured, bound): L(theta+) and L(theta), repaired L(theta) - t g . g^PC / 2, each [N];
    theta = 0.
    """
    theta = problems.start()
    bound = problems.loss(theta)
    if form == "repaired":
        bound = bound - step * (point.g * point.g_pc).sum(-1) / 2
    return problems.loss(theta - step.unsqueeze(-1) * point.g_pc), bound


Instances = tuple[Problems, Tensor, Tensor]  # problems, orders [N, T, T-1], steps [N]


def instances(
    family: str,
    count: int,
    rng: np.random.Generator,
    *,
    tasks: int,
    form: str = "printed",
    dimensions: tuple[int, int] = (1, 20),
    conditioning: float = 1.0,
) -> Instances:
    """Problems that satisfy a form's hypotheses at the start by construction; every second step is
    the longest.
    """
    problems = draw(family, count, rng, dimensions, conditioning, tasks)
    orders = draw_orders(tasks, count, rng)
    problems = aim_at(
        problems, chosen(tasks, problems.dimension, problems.A.shape[-1], orders, rng, form)
    )
    point = look(problems, problems.start(), orders)
    share = torch.from_numpy(np.where(np.arange(count) % 2 == 0, 1.0, 1 - rng.random(count)))
    return problems, orders, share * longest(problems, angle(point.g, point.g_pc), form)


def trial(problems: Problems, orders: Tensor, step: Tensor, form: str = "printed") -> Trial:
    """Put instances to the descent step of a form."""
    theta = problems.start()
    point = look(problems, theta, orders)
    seen = angle(point.g, point.g_pc)
    measured, bound = descent(problems, point, step, form)
    after = theta - step.unsqueeze(-1) * point.g_pc
    tasks = torch.full_like(step, point.gradients.shape[-2])
    return Trial(
        accepted=hypotheses(problems, point, step, form),
        slack=slack(seen, form),
        margin=bound - measured,
        unit=step * (seen.inner if form == "repaired" else (point.g**2).sum(-1)),
        noise=rounding(problems, theta, (after,), step),
        details={
            "tasks": tasks,
            "dimension": problems.dimension,
            "cos_g_gpc": seen.cos,
            "ratio": seen.ratio,
        }
        | {"t_times_L": step * problems.lipschitz()},
    )


def joined(trials: list[Trial]) -> Trial:
    """Several trials as one."""
    columns = {name: torch.cat([getattr(t, name) for t in trials]) for name in Trial._fields[:-1]}
    details = {name: torch.cat([t.details[name] for t in trials]) for name in trials[0].details}
    return Trial(**columns, details=details)


def one_step(
    family: str,
    trials: int,
    seed: int,
    form: str = "printed",
    *,
    tasks: tuple[int, ...] = TASKS,
    dimensions: tuple[int, int] = (1, 20),
) -> Tally:
    """Test the descent step of a form on fresh instances of one family, in equal parts for each
    number of tasks.
    """

    def put(count: int, rng: np.random.Generator) -> Trial:
        parts = [len(part) for part in np.array_split(np.arange(count), len(tasks))]
        return joined([
            trial(*instances(family, part, rng, tasks=n, form=form, dimensions=dimensions), form)
            for n, part in zip(tasks, parts, strict=True) if part
        ])  # fmt: skip

    return sample(
        f"corollary1/{form}/{'-'.join(map(str, tasks))}", family, trials, seed, put, dimensions[1]
    )


def every_order(tasks: int, count: int, seed: int) -> dict[str, Any]:
    """All (n-1)!^n combinations of orders on quadratics with Hessian L 1, t = 1 / L: what hangs on
    the order.

    The instances satisfy cos(g, g^PC) >= 1/2 in one order that was drawn; here they meet all the
    others."""
    rng = stream(seed, "corollary1/every order", f"{tasks} tasks", 0)
    problems, _, _ = instances(
        "quadratic", count, rng, tasks=tasks, dimensions=(2, 6), conditioning=0.0
    )
    orders = torch.tensor(list(exact.all_orders(tasks)))
    rows = torch.arange(count).repeat_interleave(len(orders))
    result = trial(problems[rows], orders.repeat(count, 1, 1), (1 / problems.lipschitz())[rows])
    shape = (count, len(orders))
    accepted, violated = result.accepted.view(shape), result.violated.view(shape)
    cos, ratio = (result.details[name].view(shape) for name in ("cos_g_gpc", "ratio"))
    spread, lowest = cos.amax(1) - cos.amin(1), cos.amin(1)
    some = violated.any(1)
    return {
        "tasks": tasks,
        "instances": count,
        "orders": len(orders),
        "accepted": int(accepted.sum()),
        "violations": int(violated.sum()),
        "hypothesis_in_every_order": float(accepted.all(1).double().mean()),
        "violated_in_some_order": float(some.double().mean()),
        "violated_in_every_order": float(violated.all(1).double().mean()),
        "share_of_orders_that_violate_where_some_do": float(violated[some].double().mean())
        if some.any()
        else 0.0,
        "spread_of_cos": {
            "median": float(spread.nanmedian()),
            "largest": float(spread.nan_to_num(0).max()),
        },
        "smallest_cos": float(lowest.nan_to_num(1).min()),
        "largest_ratio_in_class": float(torch.where(accepted, ratio, 0).max()),
    }


def large(seed: int, high: list[int]) -> dict[str, dict[str, Any]]:
    """Both steps at high dimensions, prescribed spectra, most with 3 tasks, some with 10: form ->
    report.
    """
    reports: dict[str, dict[str, Any]] = {"printed": {}, "repaired": {}}
    for dimension in high:
        for n, part in ((3, LARGE[dimension] - MANY), (10, MANY)):
            name, purpose = f"quadratic {dimension}, {n} tasks", f"corollary1/large/{n}"
            tallies = {form: Tally(purpose, "quadratic", seed) for form in reports}
            for chunk, size in enumerate(chunks(part, dimension)):
                rng, span = (
                    stream(seed, purpose, f"quadratic {dimension}", chunk),
                    (dimension, dimension),
                )
                problems, orders, step = instances("quadratic", size, rng, tasks=n, dimensions=span)
                point = look(problems, problems.start(), orders)
                other = longest(problems, angle(point.g, point.g_pc), "repaired")
                tallies["printed"].add(trial(problems, orders, step))
                tallies["repaired"].add(trial(problems, orders, other, "repaired"))
            for form, tally in tallies.items():
                reports[form][name] = tally.report()
    return {form: {**total(rows), "families": rows} for form, rows in reports.items()}


def searched(problems: Problems, u: Tensor, form: str) -> Trial:
    """What a search puts to the step: u times the longest step, cyclic orders."""
    orders = torch.tensor(exact.cyclic_orders(problems.w.shape[1])).expand(len(u), -1, -1)
    point = look(problems, problems.start(), orders)
    return trial(
        problems,
        orders,
        u.clamp(min=SHORTEST) * longest(problems, angle(point.g, point.g_pc), form),
        form,
    )


def attacks(form: str, seed: int, rounds: int) -> dict[str, Any]:
    """What scipy's optimizers find against the step of a form: three tasks in the plane."""
    return {
        family: attack.attack(
            attack.Search(f"corollary1/{form}", lambda p, u: searched(p, u, form), family, tasks=3),
            seed,
            rounds,
        )
        for family in ATTACKED
    }


def idle(count: int, seed: int) -> dict[str, Any]:
    """The hypotheses that the repaired step does not need, on instances that violate them."""
    steps = {family: one_step(family, count, seed, "repaired").report() for family in NONCONVEX}
    rng = stream(seed, "corollary1/idle", "quadratic", 0)
    problems, orders, step = instances(
        "quadratic", 20 * count, rng, tasks=3, form="repaired", dimensions=(2, 4)
    )
    result = trial(problems, orders, step, "repaired")
    cos, long = result.details["cos_g_gpc"] < 0.5, result.details["t_times_L"] > 1
    return {
        "cos(g, g^PC) >= 1/2": _counts(result, cos),
        "t <= 1 / L": _counts(result, long),
        "convex": total(steps),
    }


def _counts(result: Trial, which: Tensor) -> dict[str, int]:
    return {
        "accepted": int((result.accepted & which).sum()),
        "violations": int((result.violated & which).sum()),
    }


def lipschitz(count: int, seed: int) -> dict[str, Any]:
    """scipy's opinion on the constants of the sums of many tasks."""
    rows = {}
    for family in CONVEX:
        problems, _, _ = instances(
            family,
            count,
            stream(seed, "lipschitz/tasks", family, 0),
            tasks=MANY_TASKS,
            dimensions=(1, 5),
        )
        rows[family] = compare(problems, seed)
    return rows


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Everything about Corollary 1: the step in three forms, the limit in two, every order, dropped
    hypotheses.
    """
    count, seed, rounds = settings["instances"], settings["seed"], settings["search_rounds"]
    part = max(1, count // 10)
    sizes = {"printed": count, "short": max(1, count // 3), "repaired": count}
    forms = {
        form: {family: one_step(family, n, seed, form).report() for family in CONVEX}
        for form, n in sizes.items()
    }
    pairs = {family: one_step(family, part, seed, tasks=(2,)).report() for family in CONVEX}
    report: dict[str, Any] = {
        form: {**total(rows), "families": rows} for form, rows in forms.items()
    }
    report |= {
        "two_tasks": {**total(pairs), "families": pairs},
        "large": large(seed, settings["high_dimensions"]),
        "attack": {form: attacks(form, seed, rounds) for form in ("printed", "repaired")},
        "lengths_by_tasks": lengths((2, *TASKS), part, seed),
        "every_order": [
            every_order(3, max(2, part), seed),
            every_order(4, max(2, part // 10), seed),
        ],
        "structure": structure(count, seed),
        "limit": limit(settings, "printed"),
        "limit_repaired": limit(settings, "repaired"),
        "lipschitz": lipschitz(max(1, settings["lipschitz_instances"] // 2), seed),
        "counterexamples": corollary1_cycle.check(seed),
        "opposite_for_all_pairs": corollary1_dropped.opposite(),
        "dropped": {**corollary1_dropped.examples(), "idle_in_the_repaired_step": idle(part, seed)},
    }
    report["verdicts"] = verdicts(report)
    return {**report, "overview": overview(report)}
