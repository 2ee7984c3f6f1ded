from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
import torch
from conftest import MUTANTS

import pcgrad
from proofs import attack, identities, theorem3
from proofs.algebra import identities_cases as algebra
from proofs.comparison import theorem3_examples
from proofs.comparison.quadratics import Quadratic
from proofs.comparison.theorem3_cases import bound_trial, cases
from proofs.identities import IdentityError
from proofs.problems import CONVEX, look
from proofs.sampling import stream
from proofs.tally import BrokenError, sample


@pytest.mark.parametrize("case", [1, 2])
@pytest.mark.parametrize("family", CONVEX)
def test_repaired_if_holds_and_few_trials_are_skipped(family: str, case: int) -> None:
    report = theorem3.one_direction(family, 200, 0, "remainder", case).report()
    assert report["violations"] == 0
    assert report["skipped"] < 0.2 * report["trials"]
    assert report["smallest_margin"] < 1e-3


def test_instances_of_case_1_reach_tau_and_no_further() -> None:
    problems, step = theorem3.instances(
        "logistic", 100, stream(0, "t", "logistic", 0), "uniform", 1
    )
    here = theorem3.hypotheses(problems, problems.start(), step, "uniform")
    assert (here.first & ~here.second).all()
    assert (step / here.tau)[::2].median() > 1 - 1e-6
    assert (step / here.tau)[1::2].min() < 0.5
    assert (here.tau * problems.lipschitz()).max() <= 2 * (1 + 1e-9)  # tau_against_plain_limit
    beyond = theorem3.hypotheses(problems, problems.start(), 1.05 * here.tau, "uniform")
    assert not (beyond.first | beyond.second).any()


def test_printed_if_is_violated_in_case_2() -> None:
    assert theorem3.one_direction("huber", 200, 0, "uniform", 2).report()["violations"] > 0
    assert theorem3.one_direction("quadratic", 200, 0, "uniform", 2).report()["violations"] == 0


@pytest.mark.parametrize("mutant", ["mean", "dropped", "never"])
def test_mutants_of_the_core_contradict_the_bound_and_the_flat_quadratics(
    monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    assert sample("theorem3/bound", "pairs", 300, 0, bound_trial).report()["violations"] > 0
    flat = theorem3.equal_eigenvalues(300, 0).report()
    assert (
        flat["violations"] > 0 or flat["undecided"] > 290
    )  # never: both steps are one, which `check` refuses


def test_rounding_must_not_hide_the_bound_or_the_flat_quadratics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS["never"])
    with pytest.raises(BrokenError, match="rounding hides"):
        theorem3.check({"seed": 0, "instances": 20, "search_rounds": 1, "high_dimensions": [100]})


def test_bound_and_flat_quadratics_follow_the_cases_on_both_sides_of_tau() -> None:
    for report in (
        sample("theorem3/bound", "pairs", 500, 0, bound_trial).report(),
        theorem3.equal_eigenvalues(500, 0).report(),
    ):
        assert report["violations"] == 0
        assert report["undecided"] < 0.1 * report["accepted"]
    drawn = bound_trial(500, np.random.default_rng(0))
    ratio = drawn.details["t_over_tau"]
    assert ((ratio > 0.9) & (ratio < 1)).any()
    assert ((ratio > 1) & (ratio < 1.1)).any()


def test_a_wrong_tau_contradicts_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the factor 1/2 of its denominator."""

    def wrong(*arguments: torch.Tensor) -> object:
        here, step = cases(*arguments), arguments[-1]
        tau = here.tau / 2
        first, second = (
            here.first & (step <= tau),
            here.second | ((here.d > 0) & (here.n > 0) & (step >= tau)),
        )
        return here._replace(tau=tau, first=first, second=second)

    monkeypatch.setattr("proofs.comparison.theorem3_cases.cases", wrong)
    assert sample("theorem3/bound", "pairs", 300, 0, bound_trial).report()["violations"] > 0


def test_only_if_fails_for_the_losses() -> None:
    report = theorem3.converse("quadratic", 300, 0).report()
    assert report["violations"] > 0.2 * report["accepted"]
    assert report["skipped"] < 0.2 * report["trials"]
    found = attack.attack(theorem3._search("only_if", "softplus"), 0, 2)
    assert attack.violations(found) > 0


def test_the_search_finds_nothing_against_the_repaired_if() -> None:
    found = attack.attack(theorem3._search("if_repaired", "huber"), 0, 2)
    assert attack.violations(found) == 0
    assert (
        min(row["smallest_margin"] for row in found.values() if row["smallest_margin"] is not None)
        < 0.1
    )


def test_the_first_cases_counterexample_exactly_by_mpmath_and_through_the_core() -> None:
    late = theorem3_examples.Late()
    report = late.report()
    assert report["refutes"] == {"uniform": True, "remainder": False}
    assert report["tau"] == {"uniform": "20/31", "remainder": "30/47"}
    pair = torch.tensor([[float(x) for x in g] for g in late.pair], dtype=torch.float64)
    update = pcgrad.surgery_coefficients(pair @ pair.T, pcgrad.fixed_orders(2)).sum(0) @ pair
    surgery = sum(late.losses(tuple((-float(late.t) * update).tolist())))
    assert float(surgery) == pytest.approx(float(Fraction(report["loss_after_pcgrad"])), abs=1e-12)


def test_the_first_cases_counterexample_is_convex_and_as_smooth_as_it_says() -> None:
    late = theorem3_examples.Late()
    steps = [Fraction(k, 5) for k in range(-4, 5)]
    for task in range(2):
        for direction in ((Fraction(1), Fraction(0)), (Fraction(1), Fraction(-1)), late.v, late.w):
            values = [late.losses(tuple(s * x for x in direction))[task] for s in steps]
            square = sum(x * x for x in direction)
            bends = [(a - 2 * b + c) / (steps[1] - steps[0]) ** 2 / square
                     for a, b, c in zip(values, values[1:], values[2:], strict=False)]  # fmt: skip
            assert all(0 <= bend <= 1 for bend in bends)


def test_a_constant_curvature_is_no_counterexample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theorem3_examples, "bump", lambda x, end: end * x**2 / 2)
    with pytest.raises(BrokenError, match="first case"):
        theorem3_examples.Late().report()


def test_exact_quadratics_break_one_hypothesis_each_and_the_core_agrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert all(row["pcgrad_is_worse"] for row in theorem3_examples.dropped().values())
    assert all(row["refutes"] for row in theorem3_examples.only_if().values())
    enough = {
        "case 1: t <= tau": ((), Quadratic((-1, 0), (1, -1), (1, 1), Fraction(1, 2)))
    }  # t < tau = 2/3
    monkeypatch.setattr(theorem3_examples, "DROPPED", enough)
    with pytest.raises(BrokenError):
        theorem3_examples.dropped()
    monkeypatch.setattr(
        theorem3_examples, "ONLY_IF", {"flat": Quadratic((-2, 1), (1, 0), (1, 1), 2)}
    )
    with pytest.raises(BrokenError):
        theorem3_examples.only_if()


def test_idle_hypotheses_are_told_from_the_table() -> None:
    table = algebra.case_table()
    assert sum(row["idle"] for row in theorem3.dropped(table).values()) == 4
    table.append({"N": "< 0", "D": "> 0"})
    assert sum(row["idle"] for row in theorem3.dropped(table).values()) == 2


def test_identities_and_the_case_table() -> None:
    for identity in algebra.ALL:
        assert identity()
    rows = {(row["N"], row["D"]): row for row in algebra.case_table()}
    assert {
        ("< 0", "< 0"),
        ("= 0", "< 0"),
        ("> 0", "< 0"),
        ("> 0", "= 0"),
        ("> 0", "> 0"),
    } < rows.keys()
    assert all(
        row["bound_holds"] == row["a_case_holds"] for row in rows.values() if not row["undefined"]
    )


def test_a_wrong_update_or_constant_breaks_the_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "algorithm_1", lambda: identities.G)
    for identity in (algebra.tau_numerator, algebra.tau_denominator, algebra.bound_factors):
        with pytest.raises(IdentityError):
            identity()
    monkeypatch.undo()
    monkeypatch.setattr(algebra, "DENOMINATOR", 2 * algebra.DENOMINATOR)
    wrong = set()
    for identity in algebra.ALL:
        try:
            identity()
        except IdentityError:
            wrong.add(identity.__name__)
    expected = {"tau_denominator", "bound_factors", "denominator_sign", "tau_against_plain_limit"}
    assert wrong == expected | {"zero_numerator", "larger_curvature"}


def test_a_wrong_case_breaks_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = algebra.printed_cases
    monkeypatch.setattr(
        algebra, "printed_cases", lambda gram, ell, t: honest(gram, ell, t * sp.Rational(9, 10))
    )
    with pytest.raises(IdentityError, match="disagree"):
        algebra.case_table()


def test_report_has_every_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theorem3, "LARGE", {100: 20})
    settings = {"seed": 0, "instances": 20, "search_rounds": 1, "high_dimensions": [100]}
    report = theorem3.check(settings)
    assert report["verdicts"] == {
        "theorem3_bound": "holds",
        "theorem3_if": "false as stated",
        "theorem3_if_repaired": "holds after repair",
        "theorem3_only_if": "false as stated",
        "theorem3_equal_eigenvalues": "holds",
    }
    assert {row["verdict"] for row in report["overview"]} == set(report["verdicts"].values())
    assert report["large"]["accepted"] >= 20


def test_pcgrads_first_case_needs_two_dimensions() -> None:
    problems, step = theorem3.instances(
        "quadratic", 20, stream(0, "t", "quadratic", 0), "uniform", 1, (1, 1)
    )
    assert not theorem3.hypotheses(problems, problems.start(), step, "uniform").first.any()
    assert (look(problems, problems.start()).cos.abs() > 1 - 1e-12).all()
