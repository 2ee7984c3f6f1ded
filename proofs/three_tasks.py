"""More than two tasks: ascent, remaining conflict, fixed points, moments of the update.

For T = 3, with vᵢⱼ = gᵢ − min(0, gᵢ·gⱼ) gⱼ/‖gⱼ‖² and wᵢⱼₖ = vᵢⱼ − min(0, vᵢⱼ·gₖ) gₖ/‖gₖ‖²,
task i contributes wᵢⱼₖ or wᵢₖⱼ with probability 1/2 each, independently:

    E g^PC = ½ Σᵢ (wᵢⱼₖ + wᵢₖⱼ),   Var g^PC = ¼ Σᵢ ‖wᵢⱼₖ − wᵢₖⱼ‖².
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

import pcgrad
from proofs import exact
from proofs.certificates import certified
from proofs.judgement import Check, Counterexample, Judgement, judge
from proofs.settings import Theory

ASCENDING = ((1, 0), (-4, -2), (1, 1))
STATIONARY = ((-2, -1), (1, 0), (1, 1))  # their sum is 0
TASKS, DIMENSIONS = (2, 3, 5, 10), (5, 1000)
TRIPLES, DRAWS = 200, 200_000


@dataclass(frozen=True)
class Conflicts:
    """How often an update still conflicts with a task, for normal gradients."""

    tasks: int
    dimension: int
    draws: int
    pcgrad: float  # share of draws in which g^PC conflicts with some task
    plain: float  # the same for the sum of the gradients
    projected: float  # the same for some gᵢ^PC
    standard_error: float  # of `pcgrad`


@dataclass(frozen=True)
class Moments:
    """The closed forms, compared with exact enumeration and with the core's random orders."""

    triples: int
    exact: bool  # whether all triples agree in rationals
    largest_error_of_mean: float  # in standard errors
    largest_relative_error_of_variance: float


@dataclass(frozen=True)
class Report:
    """The results of checking more than two tasks."""

    judgements: list[Judgement]
    conflicts: list[Conflicts]
    moments: Moments


def products(gradients: tuple[tuple[int, int], ...]) -> list[Fraction]:
    """Return g·g^PC in every order, exactly."""
    rows = exact.rationals(gradients)
    g = exact.add(*rows)
    return [exact.dot(g, exact.update(rows, orders)) for orders in exact.all_orders(len(rows))]


def by_core(gradients: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """Return g^PC in every order, computed by the core, [orders, 2]."""
    rows = torch.tensor(gradients, dtype=torch.float64)
    orders = torch.tensor(list(exact.all_orders(len(gradients))))
    gramian = (rows @ rows.mT).expand(len(orders), -1, -1)
    return pcgrad.surgery_coefficients(gramian, orders).sum(-2) @ rows


def ascending() -> Counterexample:
    """Three gradients for which every order gives an ascent direction."""
    found = products(ASCENDING)
    core = by_core(ASCENDING) @ torch.tensor(ASCENDING, dtype=torch.float64).sum(0)
    mean = sum(found, Fraction(0)) / len(found)
    return Counterexample(
        "exact example",
        f"g_i = {', '.join(map(str, ASCENDING))}: g · g^PC from {max(found)} to {min(found)} in "
        f"the {len(found)} orders, mean {mean}",
        {
            "three gradients, none zero": all(map(any, ASCENDING)),
            "g ≠ 0": exact.add(*exact.rationals(ASCENDING)) != (0, 0),
        },
        "g · g^PC < 0 in every order, and in the mean",
        {
            "rationals": all(x < 0 for x in found) and mean < 0,
            "the core in float64": bool((core < 0).all())
            and abs(float(core.mean()) - float(mean)) < 1e-12,
        },
    )


def moving() -> Counterexample:
    """A Pareto stationary point that is not a fixed point, in any order."""
    rows = exact.rationals(STATIONARY)
    updates = [exact.update(rows, orders) for orders in exact.all_orders(3)]
    core = by_core(STATIONARY).norm(dim=-1)
    return Counterexample(
        "exact example",
        f"g_i = {', '.join(map(str, STATIONARY))} with Σ g_i = 0: ‖g^PC‖ ≥ {float(core.min()):.3f} "
        f"in every order",
        {"Pareto stationary (0 is a convex combination)": exact.add(*rows) == (0, 0)},
        "g^PC ≠ 0 in every order",
        {
            "rationals": all(any(x != 0 for x in v) for v in updates),
            "the core in float64": bool((core > 1e-9).all()),
        },
    )


def conflicts(tasks: int, dimension: int, draws: int, seed: int) -> Conflicts:
    """Return the shares of conflicts that remain, among normal gradients."""
    generator = torch.Generator().manual_seed(seed + 100 * tasks + dimension)
    gradients = torch.randn(draws, tasks, dimension, generator=generator, dtype=torch.float64)
    gramian = gradients @ gradients.mT
    orders = pcgrad.random_orders(tasks, generator, batch=(draws,))
    coefficients = pcgrad.surgery_coefficients(gramian, orders)
    # A product that is zero in exact arithmetic must not count as a conflict.
    scale = 1e-9 * gramian.diagonal(dim1=-2, dim2=-1).amax(-1)
    projected = coefficients @ gramian  # gᵢ^PC · gⱼ
    off = ~torch.eye(tasks, dtype=torch.bool)
    shares = {
        "pcgrad": (projected.sum(-2) < -scale[:, None]).any(-1),
        "plain": (gramian.sum(-2) < -scale[:, None]).any(-1),
        "projected": ((projected < -scale[:, None, None]) & off).any(-1).any(-1),
    }
    means = {name: float(which.double().mean()) for name, which in shares.items()}
    error = (means["pcgrad"] * (1 - means["pcgrad"]) / draws) ** 0.5
    return Conflicts(tasks, dimension, draws, **means, standard_error=error)


def closed_forms(gradients: list[exact.Vector]) -> tuple[exact.Vector, Any]:
    """Return (E g^PC, Var g^PC) of three gradients, exactly."""

    def less(v: exact.Vector, g: exact.Vector) -> exact.Vector:
        return exact.add(v, exact.scale(-min(0, exact.dot(v, g)) / exact.dot(g, g), g))

    mean, variance = exact.scale(0, gradients[0]), Fraction(0)
    for i in range(3):
        j, k = (n for n in range(3) if n != i)
        one = less(less(gradients[i], gradients[j]), gradients[k])
        two = less(less(gradients[i], gradients[k]), gradients[j])
        mean = exact.add(mean, exact.scale(Fraction(1, 2), exact.add(one, two)))
        apart = exact.add(one, exact.scale(-1, two))
        # A fair coin between two vectors has a quarter of their squared distance as variance.
        variance += exact.dot(apart, apart) / 4
    return mean, variance


def moments(seed: int) -> Moments:
    """Compare the closed forms on random integer triples.

    All triples are compared with the enumeration of all orders, exactly, and the first three also
    with the core's random orders.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    equal, worst_mean, worst_variance = True, 0.0, 0.0
    for number in range(TRIPLES):
        whole = rng.integers(-5, 6, (3, 3))
        # A zero gradient has no direction to project on.
        if not np.abs(whole).sum(1).all():
            continue
        rows = exact.rationals(whole.tolist())
        mean, variance = closed_forms(rows)
        updates = [exact.update(rows, orders) for orders in exact.all_orders(3)]
        average = exact.scale(Fraction(1, len(updates)), exact.add(*updates))
        spread = sum(
            (exact.dot(d, d) for v in updates if (d := exact.add(v, exact.scale(-1, mean)))),
            Fraction(0),
        ) / len(updates)
        equal &= average == mean and spread == variance
        # The core's random orders are tried on the first three triples only.
        if number >= 3 or variance == 0:
            continue
        gradients = torch.from_numpy(whole.astype(float))
        orders = pcgrad.random_orders(3, generator, batch=(DRAWS,))
        gramian = (gradients @ gradients.mT).expand(DRAWS, 3, 3)
        found = pcgrad.surgery_coefficients(gramian, orders).sum(-2) @ gradients
        apart = found.mean(0) - torch.tensor([float(x) for x in mean], dtype=torch.float64)
        error = (float(variance) / DRAWS) ** 0.5
        worst_mean = max(worst_mean, float(apart.norm()) / error)
        total = float(found.var(0, correction=0).sum())
        worst_variance = max(worst_variance, abs(total / float(variance) - 1))
    return Moments(TRIPLES, equal, worst_mean, worst_variance)


def judgements(rows: list[Conflicts], found: Moments) -> list[Judgement]:
    """Return the verdicts on more than two tasks."""
    shown = {
        dimension: ", ".join(f"{row.pcgrad:.0%}" for row in rows if row.dimension == dimension)
        for dimension in DIMENSIONS
    }
    two = [row for row in rows if row.tasks == 2]
    remain = Counterexample(
        "exact example",
        f"g_i = {', '.join(map(str, ASCENDING))}: g^PC ascends L in every order, so that it "
        f"conflicts with a task in each",
        {"three gradients, none zero": all(map(any, ASCENDING))},
        f"conflict remains; of normal gradients in R^5 the update conflicts with a task in "
        f"{shown[5]} of the draws for T = {', '.join(map(str, TASKS))}",
        {
            "rationals": all(x < 0 for x in products(ASCENDING)),
            "the core in float64, normal gradients": all(
                row.pcgrad > 0 for row in rows if row.tasks > 2 and row.dimension == 5
            ),
        },
    )
    none_for_two = Check(
        "samples",
        "two tasks",
        all(row.pcgrad == 0 and row.projected == 0 for row in two),
        f"{sum(row.draws for row in two):,} pairs without conflict after surgery",
    )
    return [
        judge(
            "descent_direction",
            "ours",
            "For T ≥ 3, g^PC is a descent direction of L in some order, or in the mean",
            certified("z3:positive_weights"),
            sentence="There are three gradients on which all 8 orders ascend; Corollary 1 avoids "
            "this by assuming cos(g, g^PC) ≥ 1/2.",
            counterexample=ascending(),
        ),
        judge(
            "no_conflict_two",
            "Section 2.4",
            "T = 2: after surgery neither the update nor a projected gradient conflicts with a "
            "task",
            [*certified("own_products", "product"), none_for_two],
            sentence="g_i · g^PC = (1 − c²)‖g_i‖² ≥ 0.",
        ),
        judge(
            "no_conflict_many",
            "ours",
            "T ≥ 3: after surgery the update conflicts with no task",
            [],
            sentence="A projection against one task can bring back a conflict with another.",
            counterexample=remain,
        ),
        judge(
            "fixed_points",
            "ours",
            "g^PC = 0 implies Pareto stationarity, for every T and all orders",
            certified("z3:positive_weights"),
            sentence="g^PC = Σ w_j g_j with w_j ≥ 1, because projections only add to coefficients.",
        ),
        judge(
            "stationary_points",
            "ours",
            "T ≥ 3: PCGrad rests at Pareto stationary points",
            [],
            sentence="For T ≥ 3 the converse fails, and random orders leave variance there: no "
            "convergence.",
            counterexample=moving(),
        ),
        judge(
            "random_orders",
            "ours",
            "T = 3: E g^PC = ½ Σ(w_ijk + w_ikj) and Var g^PC = ¼ Σ‖w_ijk − w_ikj‖² over random "
            "orders",
            [Check("exact example", "all orders", found.exact,
                   f"equal in rationals on {found.triples} triples, all 8 orders each"),
             *certified("fair_coin"),
             Check("samples", "the core's orders", found.largest_error_of_mean < 5.0,
                   f"{DRAWS:,} draws: the mean to {found.largest_error_of_mean:.1f} standard "
                   f"errors, the variance to {found.largest_relative_error_of_variance:.1%}")],
            sentence="Each task's order is a fair coin, so that means add and variances add.",
        ),
    ]  # fmt: skip


def check(settings: Theory) -> Report:
    """Check the exact examples, the shares of conflicts and the closed forms."""
    seed, draws = settings["seed"], min(20_000, 10 * settings["instances"])
    rows = [
        conflicts(tasks, dimension, draws if dimension == 5 else draws // 20, seed)
        for dimension in DIMENSIONS
        for tasks in TASKS
    ]
    found = moments(seed)
    return Report(judgements(rows, found), rows, found)
