from fractions import Fraction

import mpmath as mp
import pytest
import torch
from conftest import MUTANTS

import pcgrad
from proofs import attack, theorem2
from proofs.comparison import counterexample, smooth_counterexample, theorem2_dropped
from proofs.comparison.quadratics import Quadratic
from proofs.comparison.two_steps import (
    curvature,
    curvature_by_losses,
    opposing,
    ray,
    smallest_curvature,
)
from proofs.problems import CONSTANT_HESSIAN, CONVEX, look
from proofs.sampling import stream
from proofs.tally import BrokenError


@pytest.mark.parametrize("family", CONVEX)
def test_repaired_holds_and_few_trials_are_skipped(family: str) -> None:
    report = theorem2.one_step(family, 300, 0, "remainder").report()
    assert report["violations"] == 0
    assert report["skipped"] < 0.2 * report["trials"]
    assert report["smallest_margin"] < 1e-3  # the edge, where both losses agree, is reached


@pytest.mark.parametrize("family", CONVEX)
def test_pointwise_holds(family: str) -> None:
    report = theorem2.one_step(family, 200, 0, "pointwise").report()
    assert report["violations"] == 0
    assert (
        report["accepted"] > 0.55 * report["trials"]
    )  # log_sum_exp skips a third, all together a tenth


@pytest.mark.parametrize("family", CONVEX)
def test_smallest_curvature_is_below_both_means_and_seen_somewhere(family: str) -> None:
    problems, step = theorem2.instances(family, 60, stream(5, "t", family, 0), "remainder")
    problems, step = problems[step.isfinite()], step[step.isfinite()]
    point = look(problems, problems.start())
    lowest, slack = smallest_curvature(problems, point, step), 1e-9 * problems.lipschitz()
    for form in theorem2.WEIGHTINGS:
        assert (lowest <= curvature(problems, point, step, form) + slack).all()
    places = torch.linspace(0, 1, 400, dtype=torch.float64)
    square = (point.g**2).sum(-1)
    hessians = torch.stack([
        torch.einsum("nd,nde,ne->n", point.g, problems.hessian(-(a * step)[:, None] * point.g), point.g) for a in places
    ])  # fmt: skip
    seen = hessians.amin(0) / square
    assert (lowest <= seen + 0.02 * problems.lipschitz()).all()
    assert (
        lowest >= seen - 0.02 * problems.lipschitz()
    ).double().mean() > 0.9  # a short piece may fall between


def test_along_g_alone_the_plain_step_and_its_curvature_are_the_same() -> None:
    problems, step = theorem2.instances("logistic", 30, stream(6, "t", "logistic", 0), "remainder")
    line = ray(problems)
    whole, alone = look(problems, problems.start()), look(line, line.start())
    for form in theorem2.WEIGHTINGS:
        ways = [
            curvature_by_losses(*pair, step, form) for pair in ((problems, whole), (line, alone))
        ]
        assert torch.allclose(*ways, rtol=1e-7, equal_nan=True)


@pytest.mark.parametrize("family", CONVEX)
def test_printed_fails_exactly_where_the_hessian_varies(family: str) -> None:
    report = theorem2.one_step(family, 300, 0, "uniform").report()
    assert (report["violations"] == 0) == (family in CONSTANT_HESSIAN)


@pytest.mark.parametrize("mutant", ["mean", "dropped"])
def test_mutants_of_the_core_are_seen_by_the_repaired_theorem(
    monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    healthy = theorem2.instances(
        "quadratic", 400, stream(0, "theorem2/remainder", "quadratic", 0), "remainder"
    )
    monkeypatch.setattr(theorem2, "instances", lambda *arguments: healthy)
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    problems, _ = healthy
    point = look(problems, problems.start())
    length = (point.g_pc**2).sum(-1) / (point.g**2).sum(-1)
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    violations = theorem2.one_step("quadratic", 400, 0, "remainder").report()["violations"]
    assert (
        violations > 0 or ((length / xi - 1).abs() > 0.1).any()
    )  # a shorter step may keep the guarantee, not xi


def test_hypotheses_are_tested_one_by_one() -> None:
    problems, step = theorem2.instances(
        "quadratic", 200, stream(3, "t", "quadratic", 0), "remainder"
    )
    theta = problems.start()
    assert theorem2.hypotheses(problems, theta, step, "remainder").all.all()
    too_short = theorem2.hypotheses(
        problems, theta, 0.5 * step.clamp(max=2.5 / problems.lipschitz()), "remainder"
    )
    assert too_short.a.all()
    assert too_short.b.all()
    assert not too_short.c.any()


def test_opposing_inverts_xi() -> None:
    ratio, xi = (
        torch.tensor([0.2, 3.0, 50.0], dtype=torch.float64),
        torch.tensor([0.01, 0.5, 0.9], dtype=torch.float64),
    )
    cos = opposing(ratio, xi)
    gram = torch.stack(
        [ratio**2, ratio * cos, ratio * cos, torch.ones(3, dtype=torch.float64)], -1
    ).view(3, 2, 2)
    assert torch.allclose(pcgrad.curvature_bounding_measure(gram)[:, 0, 1], xi, rtol=1e-9)
    assert pcgrad.condition_a(gram)[:, 0, 1].all()


@pytest.mark.parametrize("name", counterexample.EXAMPLES)
def test_counterexample_exactly_by_mpmath_and_through_the_core(name: str) -> None:
    exact, digits = counterexample.exact(name), counterexample.by_mpmath(name)
    assert exact["refutes"] == {"uniform": True, "remainder": False}
    assert not exact["hypotheses"]["remainder"]["c"]
    assert mp.mpf(digits["a"]) <= 0 <= mp.mpf(digits["b"])
    assert mp.mpf(digits["c"]) >= 0
    assert mp.mpf(digits["excess_loss_of_pcgrad"]) > 0.4

    delta, t = (float(value) for value in counterexample.EXAMPLES[name])
    pair = torch.tensor([[-2.0, delta], [1.0, delta]], dtype=torch.float64)
    update = pcgrad.surgery_coefficients(pair @ pair.T, pcgrad.fixed_orders(2)).sum(0) @ pair
    loss = sum(counterexample.task_losses(*(-t * update).tolist(), delta, t))
    assert loss == pytest.approx(float(Fraction(exact["loss_after_pcgrad"])), abs=1e-12)


def test_the_plane_counterexample_is_not_degenerate_and_both_tasks_are_convex() -> None:
    delta, t = counterexample.EXAMPLES["plane"]
    assert Fraction(counterexample.exact("plane")["cos_squared"]) < 1
    points = [Fraction(k, 7) for k in range(-14, 40)]
    for task in range(2):
        values = [counterexample.task_losses(x, Fraction(0), delta, t)[task] for x in points]
        assert all(
            a - 2 * b + c >= 0 for a, b, c in zip(values, values[1:], values[2:], strict=False)
        )


def test_a_linear_bump_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a constant Hessian the routes disagree with the cubic's numbers: the check notices a
    wrong example.
    """
    monkeypatch.setattr(counterexample, "bump", lambda x, end: x**2 / 2)
    with pytest.raises(counterexample.BrokenError):
        counterexample.check()


def test_a_sampled_violation_survives_fifty_digits() -> None:
    reports = {
        name: theorem2.one_step(name, 300, 0, "uniform").report()
        for name in ("logistic", "softplus")
    }
    worst = theorem2.worst_sampled(reports, 300, 0)
    assert worst is not None
    assert worst["refutes"]
    margin = min(report["smallest_margin"] for report in reports.values())
    assert float(worst["margin"]) == pytest.approx(margin, rel=1e-6)


def test_without_b_or_c_the_guarantee_fails() -> None:
    rows = theorem2_dropped.without_c(300, 0)
    assert rows[0]["guarantee_fails"] == 0
    assert rows[-1]["guarantee_fails"] > 0.5
    assert all(
        row["instances"] > 100 and row["guarantee_fails"] > 0.1
        for row in theorem2_dropped.without_b(300, 0)
    )


def test_each_exact_quadratic_breaks_its_own_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    report = theorem2_dropped.exact_instances()
    assert {"b", "c", "curvature", "lipschitz"} == report.keys()
    assert Fraction(report["c"]["t"]) < Fraction(report["c"]["tau"])
    for other in (
        Quadratic((-3, 1), (1, 0), (1, 1), 4),
        Quadratic((-2, 1), (1, -1), (1, 1), 1),
    ):  # keeps all; breaks b
        monkeypatch.setattr(theorem2_dropped, "EXACT", {"c": other})
        with pytest.raises(BrokenError):
            theorem2_dropped.exact_instances()


def test_the_core_is_asked_about_every_exact_quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS["mean"])
    with pytest.raises(BrokenError, match="the core finds"):
        theorem2_dropped.exact_instances()


def test_a_and_l_at_most_l_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    report = theorem2_dropped.idle(400, 0)
    assert report["a"]["idle"]
    assert report["a"]["instances"] > 200
    assert 0.99 < report["l_at_most_L"]["largest_l_over_L"] < 1 + 1e-8
    monkeypatch.setattr(pcgrad, "condition_a", lambda gramian: pcgrad.cosine(gramian) <= -0.99)
    assert not theorem2_dropped.idle(400, 0)["a"]["idle"]


def test_the_conditions_are_nested_and_conservative() -> None:
    rows = theorem2_dropped.conservative(200, 0)["rows"]
    assert [row["t_times_L"] for row in rows] == list(theorem2_dropped.STEPS)
    for row in rows:
        assert row["repaired"] <= row["tight"] <= row["pcgrad_no_worse"]
        assert row["printed_but_worse"] <= row["printed"]
        if row["t_times_L"] < 2:
            assert row["printed"] == row["repaired"] == row["tight"] == 0  # t >= 2 / l >= 2 / L
    assert 0 < max(row["tight"] for row in rows) < 0.3 < min(row["pcgrad_no_worse"] for row in rows)


def test_the_search_refutes_the_printed_form_and_nothing_else() -> None:
    found = {
        name: {"softplus": attack.attack(theorem2._search(name, "softplus"), 0, 4)}
        for name in theorem2.SECTIONS
    }
    assert attack.violations(found["printed"]["softplus"]) > 0
    assert (
        attack.violations(found["repaired"]["softplus"])
        == attack.violations(found["pointwise"]["softplus"])
        == 0
    )
    confirmed = theorem2.confirmed(found["printed"])
    assert confirmed is not None
    assert confirmed["refutes"]
    assert confirmed["violates_by_quadrature"]
    assert theorem2.confirmed({"softplus": found["repaired"]["softplus"]}) is None


def test_the_smooth_counterexample_is_proved_and_the_core_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = smooth_counterexample.smooth()
    assert report["refutes"]
    assert report["repaired_c_fails"]
    assert Fraction(report["cos_squared"]) < 1
    pair = torch.tensor([[-0.5, 0.0], [4 / 101, -1 / 101]], dtype=torch.float64)
    update = pcgrad.surgery_coefficients(pair @ pair.T, pcgrad.fixed_orders(2)).sum(0) @ pair

    def loss(theta: torch.Tensor) -> float:
        x, y = (float(v) for v in theta)
        return float(mp.log1p(mp.exp(-x)) + mp.log1p(mp.exp(4 * x - y) / 100))

    excess = loss(-2 * update) - loss(-2 * pair.sum(0))
    assert excess == pytest.approx(float(report["excess_loss_of_pcgrad"]), abs=1e-12)
    monkeypatch.setattr(smooth_counterexample, "STEP", Fraction(1))
    assert not smooth_counterexample.smooth()["refutes"]


def test_high_dimensions_hold_and_must_have_their_instances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = theorem2.large(0, [100, 300])
    assert report["violations"] == 0
    assert report["accepted"] >= 40
    monkeypatch.setattr(theorem2, "LARGE_SHARES", {"quadratic": 0.5, "softplus": 0.25})
    with pytest.raises(BrokenError, match="fewer than 20"):
        theorem2.large(0, [100, 300])
