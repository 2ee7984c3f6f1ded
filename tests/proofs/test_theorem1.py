import pytest
import torch
from conftest import MUTANTS, make

import pcgrad
from proofs import convergence, theorem1
from proofs.problems import CONVEX, look, rounding


def test_the_descent_step_holds_and_its_margin_is_reported() -> None:
    for family in CONVEX:
        report = theorem1.one_step(family, 200, 0).report()
        assert report["accepted"] == report["trials"] == 200
        assert report["violations"] == 0
        assert 0 < report["smallest_margin"] < 2


def test_without_the_half_the_bound_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = theorem1.descent

    def twice(problems, theta, step):  # type: ignore[no-untyped-def]
        measured, bound = honest(problems, theta, step)
        return measured, 2 * bound - problems.loss(theta)

    monkeypatch.setattr(theorem1, "descent", twice)
    assert all(theorem1.one_step(family, 200, 0).report()["violations"] > 0 for family in CONVEX)


@pytest.mark.parametrize(
    ("mutant", "conflict"), [("mean", True), ("mean", False), ("always", False), ("dropped", False)]
)
def test_mutants_of_the_core_violate_the_step(monkeypatch: pytest.MonkeyPatch, mutant: str, conflict: bool) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    assert theorem1.one_step("quadratic", 400, 0, conflict=conflict).report()["violations"] > 0


def test_the_step_is_attained_on_equal_eigenvalues() -> None:
    example = theorem1.rising_step()
    assert example["loss after t = 1/2"] == example["bound at t = 1/2"]


def test_past_one_over_l_the_bound_fails_and_the_loss_rises_before_two_over_l() -> None:
    rows = {row["t_times_L"]: row for row in theorem1.without_step_bound(400, 0)}
    assert rows[1.0]["bound_fails"] == rows[1.0]["loss_rises"] == 0
    assert rows[1.1]["bound_fails"] == 1
    assert 0 < rows[1.5]["loss_rises"] < 1
    assert rows[2.0]["loss_rises"] == 1


def test_rounding_bounds_the_error_of_the_losses() -> None:
    """Against the same losses with rows in another order, where only rounding differs."""
    for family in CONVEX:
        problems = make(family, 50)
        turned = type(problems)(
            family, problems.A.flip(2), problems.b.flip(2), problems.w.flip(2), problems.s, problems.dimension
        )
        theta, step = problems.start() - 0.1, 1 / problems.lipschitz()
        error = (problems.loss(theta) - turned.loss(theta)).abs()
        assert (error <= rounding(problems, theta, (theta,), step)).all()


def test_trajectories_end_where_they_say() -> None:
    problems = make("least_squares", 30)
    result = convergence.run(problems, 300)
    best = convergence.optimal_value(problems)
    assert {"opposite", "optimum"} & set(result["end"])
    assert (result["end"] == "unfinished").sum() == len(result["left"])
    left = problems[result["left"]]
    assert (left.loss(result["theta"]) >= best[result["left"]] - 1e-9).all()


def test_a_wrong_update_is_seen_along_trajectories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", lambda g, o: 2 * MUTANTS["never"](g, o))  # step 2 / L
    assert convergence.trajectories("quadratic", 40, 20, 0)["violations"] > 0


def test_standing_still_elsewhere_is_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", lambda g, o: torch.zeros_like(g))
    report = convergence.trajectories("quadratic", 20, 20, 0)
    assert report["stalled"] == report["trajectories"] - report["opposite"] - report["optimum"] > 10
    assert report["violations"] >= report["stalled"]


def test_newton_finds_the_minimum_that_lstsq_finds() -> None:
    problems = make("least_squares", 20)
    theta = torch.linalg.lstsq(
        problems.hessian(problems.start()), -look(problems, problems.start()).g, driver="gelsd"
    ).solution
    expected = problems.loss(theta)
    found = convergence.optimal_value(problems)
    assert (found - expected <= 1e-9 * problems.loss(problems.start())).all()
