from fractions import Fraction

import mpmath as mp
import pytest
import torch
from conftest import MUTANTS

import pcgrad
from proofs import counterexample, theorem2
from proofs.problems import CONSTANT_HESSIAN, CONVEX, look
from proofs.sampling import stream


@pytest.mark.parametrize("family", CONVEX)
def test_repaired_holds_and_few_trials_are_skipped(family: str) -> None:
    report = theorem2.one_step(family, 300, 0, "remainder").report()
    assert report["violations"] == 0
    assert report["skipped"] < 0.2 * report["trials"]
    assert report["smallest_margin"] < 1e-3  # the edge, where both losses agree, is reached


@pytest.mark.parametrize("family", CONVEX)
def test_printed_fails_exactly_where_the_hessian_varies(family: str) -> None:
    report = theorem2.one_step(family, 300, 0, "uniform").report()
    assert (report["violations"] == 0) == (family in CONSTANT_HESSIAN)


@pytest.mark.parametrize("mutant", ["mean", "dropped"])
def test_mutants_of_the_core_are_seen_by_the_repaired_theorem(monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    healthy = theorem2.instances("quadratic", 400, stream(0, "theorem2/remainder", "quadratic", 0), "remainder")
    monkeypatch.setattr(theorem2, "instances", lambda *arguments: healthy)
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    problems, _ = healthy
    point = look(problems, problems.start())
    length = (point.g_pc**2).sum(-1) / (point.g**2).sum(-1)
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    violations = theorem2.one_step("quadratic", 400, 0, "remainder").report()["violations"]
    assert violations > 0 or ((length / xi - 1).abs() > 0.1).any()  # a shorter step may keep the guarantee, not xi


def test_hypotheses_are_tested_one_by_one() -> None:
    problems, step = theorem2.instances("quadratic", 200, stream(3, "t", "quadratic", 0), "remainder")
    theta = problems.start()
    assert theorem2.hypotheses(problems, theta, step, "remainder").all.all()
    too_short = theorem2.hypotheses(problems, theta, 0.5 * step.clamp(max=2.5 / problems.lipschitz()), "remainder")
    assert too_short.a.all()
    assert too_short.b.all()
    assert not too_short.c.any()


def test_opposing_inverts_xi() -> None:
    ratio, xi = torch.tensor([0.2, 3.0, 50.0], dtype=torch.float64), torch.tensor([0.01, 0.5, 0.9], dtype=torch.float64)
    cos = theorem2.opposing(ratio, xi)
    gram = torch.stack([ratio**2, ratio * cos, ratio * cos, torch.ones(3, dtype=torch.float64)], -1).view(3, 2, 2)
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
        assert all(a - 2 * b + c >= 0 for a, b, c in zip(values, values[1:], values[2:], strict=False))


def test_a_linear_bump_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a constant Hessian the routes disagree with the cubic's numbers: the check notices a wrong example."""
    monkeypatch.setattr(counterexample, "bump", lambda x, end: x**2 / 2)
    with pytest.raises(counterexample.BrokenError):
        counterexample.check()


def test_a_sampled_violation_survives_fifty_digits() -> None:
    reports = {name: theorem2.one_step(name, 300, 0, "uniform").report() for name in ("logistic", "softplus")}
    worst = theorem2.worst_sampled(reports, 300, 0)
    assert worst is not None
    assert worst["refutes"]
    margin = min(report["smallest_margin"] for report in reports.values())
    assert float(worst["margin"]) == pytest.approx(margin, rel=1e-6)


def test_without_b_or_c_the_guarantee_fails() -> None:
    rows = theorem2.without_c(300, 0)
    assert rows[0]["guarantee_fails"] == 0
    assert rows[-1]["guarantee_fails"] > 0.5
    assert all(row["instances"] > 100 and row["guarantee_fails"] > 0.1 for row in theorem2.without_b(300, 0))
