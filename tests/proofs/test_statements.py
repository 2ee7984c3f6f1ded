"""The sampled statements: they hold on the core, and mutants of the core or of a bound are seen."""

from dataclasses import replace

import pytest
import torch

import pcgrad
from proofs import (
    corollary1,
    opposite_points,
    proposition1,
    theorem1,
    theorem2,
    theorem3,
    three_tasks,
)
from proofs.comparison import coverage
from proofs.descent import convergence, noise, paths
from proofs.descent.rates import rates
from proofs.momentum import theorem4_repair
from proofs.problems import CONVEX, NONCONVEX, Point
from proofs.sampling import stream
from tests.mutants import NAMED


@pytest.mark.parametrize("family", [*CONVEX, *NONCONVEX])
def test_the_descent_step_holds(family):
    report = theorem1.one_step(family, 60, 0)
    assert report.violations == 0
    assert report.accepted > 50
    assert theorem1.one_step(family, 30, 0, conflict=False).violations == 0


@pytest.mark.parametrize("mutant", ["mean for sum", "no conflict test", "a dropped task"])
def test_a_mutant_of_the_core_violates_some_statement(monkeypatch, mutant):
    monkeypatch.setattr(pcgrad, "surgery_coefficients", NAMED[mutant])
    step = theorem1.one_step("quadratic", 200, 0)
    plain = theorem1.one_step("quadratic", 200, 0, conflict=False)
    assert step.violations + plain.violations > 0


def test_a_bound_without_its_half_is_caught(monkeypatch):
    honest = theorem1.descent

    def doubled(problems, theta, point, step):
        measured, bound = honest(problems, theta, point, step)
        return measured, 2 * bound - problems.loss(theta)

    monkeypatch.setattr(theorem1, "descent", doubled)
    assert theorem1.one_step("quadratic", 200, 0).violations > 0


def test_the_walk_meets_the_stopping_rule_and_has_no_location():
    # A rule that asks for the cosine alone files the walk under `opposite`: confirmation.
    start = theorem1.escape.FAR
    _, cos = theorem1.escape.far_step(start)
    assert 1 + cos <= paths.OPPOSITE
    assert convergence.walk(100).ends == {"walking": 1}


def test_steps_that_shrink_geometrically_have_a_location_and_harmonic_ones_do_not():
    progress, rows = paths.Progress(2), torch.arange(2)
    for k in range(1, 200):
        change = torch.tensor([[0.5**k], [1 / k]], dtype=torch.float64)
        located = progress.located(rows, change)
    assert located.tolist() == [True, False]


@pytest.mark.parametrize("family", ["quadratic", "logistic"])
def test_trajectories_end_where_they_say(family):
    found = convergence.trajectories(family, 20, 1000, 0)
    assert found.violations == 0
    assert found.ends.get("opposite", 0) > 0
    assert sum(found.ends.values()) == found.trajectories


def test_standing_still_elsewhere_is_a_contradiction(monkeypatch):
    monkeypatch.setattr(pcgrad, "surgery_coefficients", lambda g, o: torch.zeros_like(g))
    found = convergence.trajectories("quadratic", 10, 100, 0)
    assert found.violations > 0


def test_the_rates_hold_and_a_better_rate_would_not():
    found = rates(20, 0)
    assert found.of_sublinear <= 1
    assert found.of_linear <= 1 + 1e-9
    assert found.of_linear > 0.9  # attained by isotropic quadratics: no constant can be better


def test_the_sum_of_the_steps_holds_and_half_of_it_does_not(monkeypatch):
    assert proposition1.many_steps("cauchy", 40, 0).violations == 0
    honest = proposition1.least

    def tenth(*arguments):
        measured, bound, noise, unit = honest(*arguments)
        return measured, bound / 10, noise, unit

    monkeypatch.setattr(proposition1, "least", tenth)
    assert proposition1.many_steps("cauchy", 40, 0).violations > 0


def test_many_tasks_the_repaired_step_holds_and_a_longer_one_does_not(monkeypatch):
    assert corollary1.one_step("quadratic", 80, 0).violations == 0
    honest = corollary1.longest
    monkeypatch.setattr(corollary1, "longest", lambda p, s: 2.5 * honest(p, s))
    assert corollary1.one_step("quadratic", 80, 0).violations > 0


@pytest.mark.parametrize("form", theorem2.FORMS)
def test_theorem_2_holds_in_every_form_that_is_proved(form):
    for family in ("quadratic", "softplus"):
        report = theorem2.one_step(family, 60, 0, form)
        assert report.violations == 0
        assert report.accepted > 10


def test_theorem_2_with_too_large_a_curvature_is_caught(monkeypatch):
    honest = theorem2.effective

    def generous(problems, point, step, form, *, fast):
        return 3 * honest(problems, point, step, form, fast=fast)

    monkeypatch.setattr(theorem2, "effective", generous)
    problems, point, _ = theorem2.instances("quadratic", 200, stream(0, "x", "y", 0), "remainder")
    trial = theorem2.trial(problems, point, 1.2 / problems.lipschitz(), "remainder")
    assert trial.violated.any()


def test_b_implies_a_on_the_core():
    report = theorem2.implied(400, 0)
    assert report.violations == 0
    assert report.accepted > 20


def test_coverage_is_by_family_and_nothing_below_two_over_l():
    rows = coverage.coverage(100, 0)
    assert set(rows) == set(CONVEX)
    assert coverage.short(rows) == 0
    assert coverage.largest(rows)["quadratic"] > coverage.largest(rows)["softplus"]
    for steps in rows.values():
        assert all(row.theorem_c <= row.printed + 1e-12 for row in steps)


@pytest.mark.parametrize("case", [1, 2])
def test_theorem_3_if_holds_with_the_exact_remainder(case):
    report = theorem3.one_direction("softplus", 40, 0, case)
    assert report.violations == 0
    assert report.accepted > 20


def test_a_wrong_tau_contradicts_the_bound(monkeypatch):
    honest = theorem3.bound_trial
    report = theorem3.sample("x", "pairs", 500, 0, honest)
    assert report.violations == 0

    def wrong(count, rng):
        trial = honest(count, rng)
        return trial._replace(margin=-trial.margin)

    assert theorem3.sample("x", "pairs", 500, 0, wrong).violations > 100


@pytest.mark.parametrize("shape", ["quadratic", "log_cosh", "huber"])
def test_the_step_without_momentum_contracts(shape):
    report = theorem4_repair.one_step(shape, "condition 10 to 100", 40, 0)
    assert report.violations == 0
    assert report.accepted > 20


def test_commuting_hessians_never_conflict():
    found = theorem4_repair.commuting(20, 0)
    assert found.conflicts == 0
    assert found.smallest_margin > 0


def test_the_map_across_the_front_is_the_formulas():
    assert opposite_points.multiplier_error() < 1e-6
    assert opposite_points.largest_ratio(1.0) == 1.0
    assert opposite_points.largest_ratio(0.5) == pytest.approx(5.828, abs=1e-3)


def test_a_drift_that_is_off_is_seen():
    row = noise.drift(1.2, 0.8, 0.02, 0.02, 2, 0)
    assert row.agrees
    assert not replace(row, formula=1.05 * row.formula).agrees


def test_plain_sgd_has_no_drift_at_the_optimum_and_pcgrad_has():
    half = noise.Fraction(1, 2)
    assert noise.exact_drift(half, half) == 0
    assert noise.exact_drift(half, half / 2) < 0


def test_the_closed_forms_of_three_tasks_and_wrong_ones():
    found = three_tasks.moments(0)
    assert found.exact
    assert found.largest_error_of_mean < 5
    rows = three_tasks.exact.rationals([(2, 0), (-1, 1), (-1, -1)])
    mean, variance = three_tasks.closed_forms(rows)
    assert len(mean) == 2
    assert variance >= 0


def test_two_tasks_are_left_without_conflict_and_three_are_not():
    two, three = (three_tasks.conflicts(n, 5, 500, 0) for n in (2, 3))
    assert two.pcgrad == two.projected == 0
    assert three.pcgrad > 0
    assert three.projected > 0


def test_a_trial_computes_the_point_once_or_is_given_it(monkeypatch):
    # `trial` once computed it three times for one instance: half of the time.
    count, honest = [], Point.of
    monkeypatch.setattr(Point, "of", lambda *arguments: count.append(1) or honest(*arguments))
    rng = stream(0, "x", "y", 0)
    drawn = {
        theorem1.trial: theorem1.instances("quadratic", 4, rng),
        corollary1.trial: corollary1.instances("quadratic", 4, rng, tasks=3),
        theorem2.trial: (*theorem2.instances("quadratic", 4, rng, "remainder"), "remainder"),
        theorem3.trial: (*theorem3.instances("quadratic", 4, rng, 1), "remainder"),
    }
    for trial, instances in drawn.items():
        count.clear()
        trial(*instances)
        assert len(count) == (trial is theorem1.trial)
