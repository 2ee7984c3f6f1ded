from collections.abc import Callable
from fractions import Fraction

import pytest
import sympy as sp
import torch

import pcgrad
from proofs import corollary1, exact
from proofs.algebra import identities_many
from proofs.identities import IdentityError
from proofs.many_tasks import corollary1_cycle, corollary1_dropped, corollary1_paths
from proofs.many_tasks.corollary1_gradients import angle, equal_angles, lengths, updates
from proofs.many_tasks.corollary1_structure import structure
from proofs.problems import CONVEX, look
from proofs.sampling import draw, sideways, stream
from proofs.tally import BrokenError
from tests.mutants import NAMED


@pytest.mark.parametrize("identity", identities_many.ALL, ids=lambda f: f.__name__)
def test_the_algebra_of_many_tasks_is_proved(identity: Callable[[], str]) -> None:
    assert identity()


def test_a_wrong_update_or_constant_breaks_the_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = identities_many.row
    monkeypatch.setattr(
        identities_many, "row", lambda order, own: [2 * x for x in honest(order, own)]
    )
    for identity in (
        identities_many.stretch,
        identities_many.cyclic_update,
        identities_many.every_order,
    ):
        with pytest.raises(IdentityError):
            identity()
    monkeypatch.setattr(identities_many, "row", honest)
    monkeypatch.setattr(identities_many, "flat_cosine", lambda s: (s**2 - 143) / (s**2 + 288))
    for identity in (identities_many.cycle, identities_many.attraction):
        with pytest.raises(IdentityError):
            identity()


def test_the_literal_algorithm_on_three_vectors_by_hand() -> None:
    """g_1 = (1, 0) meets g_2 = (-1, 1), then g_3 = (0, -1): (1/2, 1/2), then (1/2, 0)."""
    gradients = exact.rationals([(1, 0), (-1, 1), (0, -1)])
    first = exact.projected(gradients, [(1, 2), (0, 2), (0, 1)])[0]
    other = exact.projected(gradients, [(2, 1), (0, 2), (0, 1)])[0]
    assert (first, other) == ((Fraction(1, 2), 0), (Fraction(1, 2), Fraction(1, 2)))
    assert len(list(exact.all_orders(3))) == 8
    assert len(set(exact.all_orders(4))) == 1296


def test_the_core_agrees_with_rationals_on_every_shape() -> None:
    report = structure(240, 0)
    assert report["compared"] >= 240
    assert report["bent_beyond_a_right_angle"] > 0


@pytest.mark.parametrize("mutant", NAMED)
def test_structure_sees_every_mutant_of_the_core(
    monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", NAMED[mutant])
    with pytest.raises(BrokenError, match="misses Algorithm 1"):
        structure(240, 0)


@pytest.mark.parametrize("family", CONVEX)
def test_instances_satisfy_the_hypotheses_and_the_repairs_hold(family: str) -> None:
    for form in ("short", "repaired"):
        report = corollary1.one_step(family, 240, 0, form).report()
        assert report["skipped"] < 0.05 * report["trials"]
        assert report["violations"] == 0
    assert corollary1.one_step(family, 240, 0).report()["skipped"] == 0


def test_the_printed_step_fails_on_quadratics_but_not_with_two_tasks() -> None:
    assert corollary1.one_step("quadratic", 400, 0).report()["violations"] > 0
    report = corollary1.one_step("quadratic", 400, 0, tasks=(2,)).report()
    assert report["violations"] == 0
    assert report["accepted"] == 400


def test_a_repaired_step_or_bound_that_is_too_large_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest, longest = corollary1.descent, corollary1.longest
    monkeypatch.setattr(corollary1, "longest", lambda p, seen, form: 1.1 * longest(p, seen, form))
    assert corollary1.one_step("quadratic", 400, 0, "repaired").report()["violations"] > 0
    monkeypatch.setattr(corollary1, "longest", longest)

    def greedy(problems, point, step, form):  # type: ignore[no-untyped-def]
        measured, bound = honest(problems, point, step, form)
        return measured, 1.1 * bound - 0.1 * problems.loss(problems.start())

    monkeypatch.setattr(corollary1, "descent", greedy)
    assert corollary1.one_step("quadratic", 400, 0, "repaired").report()["violations"] > 0


def test_the_exact_counterexamples_refute_by_every_route() -> None:
    report = corollary1_cycle.check(0)
    assert report["step"]["exact"]["gradients"][0] == ["3", "-1", "-1"]
    for name in ("step", "limit"):
        assert all(route["refutes"] for route in report[name].values())
    assert report["limit"]["rational"]["orders_tried"] == 16
    assert report["runs"]["isotropic, random orders"][-1]["kept"] == corollary1_cycle.RUNS
    assert all(
        row["loss_rises_at_1_over_L"] and row["cos_g_gpc"] > 0.99
        for row in report["one_order_has_no_bound"]
    )


def test_gentler_angles_and_another_step_refute_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not corollary1_cycle.step_in_every_order(3, -3)["refutes"]  # c = -1/3, above 1 - sqrt 2
    mild = corollary1_cycle.step_in_every_order(10, -2)
    assert mild["orders_with_cos_above_half"] == 8
    assert not mild["refutes"]
    assert not corollary1_cycle.step_by_core(10, -2)["refutes"]
    assert not corollary1_cycle.step_by_mpmath(10, -2)["refutes"]
    monkeypatch.setattr(corollary1_cycle, "STEP", Fraction(120, 128))
    assert not corollary1_cycle.rational_cycle()["refutes"]


def test_routes_that_disagree_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", NAMED["mean for sum"])
    with pytest.raises(BrokenError, match="disagree"):
        corollary1_cycle.check(0)


def test_the_stretch_of_equal_angles_in_the_core() -> None:
    dimension = torch.full((50,), 12.0)
    for tasks in (2, 3, 6, 10):
        gradients = equal_angles(tasks, dimension, 12, stream(0, "tests", "angles", tasks))
        c = pcgrad.cosine(gradients @ gradients.mT)[:, 0, 1]
        g, orders = gradients.sum(1), torch.tensor(exact.cyclic_orders(tasks))
        expected = (1 - c).unsqueeze(-1) ** (tasks - 1) * g
        assert torch.allclose(updates(gradients, orders), expected, rtol=1e-9, atol=1e-9)
    assert angle(g, 2 * g).ratio == pytest.approx(torch.full((50,), 2.0))


def test_the_printed_proofs_hidden_assumption_fails_for_all_numbers_of_tasks() -> None:
    rows = lengths((2, 3, 10), 300, 0)
    assert rows["2"]["too_long_for_descent"] == 0 < rows["2"]["longer"]
    assert all(rows[n]["too_long_for_descent"] > 0 for n in ("3", "10"))


def test_every_order_is_tried() -> None:
    report = corollary1.every_order(3, 60, 0)
    assert report["orders"] == 8
    assert 0 < report["violated_in_every_order"] <= report["violated_in_some_order"] < 1
    assert report["largest_ratio_in_class"] > 2


def test_tasks_that_agree_share_their_minimizer() -> None:
    for family in CONVEX:
        rng = stream(0, "tests", family, 0)
        problems = draw(family, 20, rng, (2, 5), tasks=4)
        v = sideways(problems, rng)
        gradients = corollary1_paths.agree(problems, v).gradients(-v)
        size = problems.gradients(problems.start()).norm(dim=-1)
        assert (gradients.norm(dim=-1) <= 1e-9 * (1 + size)).all()


def test_trajectories_reach_the_optimum_cycle_or_leave() -> None:
    report = corollary1_paths.trajectories("quadratic", 120, 400, 0)
    assert report["trajectories"] == 120 - report["left"] - report["plain"]
    assert report["optimum"] > 50
    assert report["cycling"] == report["violations"] > 0
    assert report["conflict_share"] > 0.3
    assert corollary1_paths.trajectories("quadratic", 120, 400, 0, "repaired")["violations"] == 0


def test_a_method_that_stands_still_is_stalled_or_left(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = corollary1_paths.starts("quadratic", 10, stream(0, "tests", "still", 0), "agree")
    honest = look(
        problems, problems.start(), pcgrad.random_orders(10, torch.Generator().manual_seed(0))
    )
    tiny = pcgrad.surgery_coefficients
    monkeypatch.setattr(pcgrad, "surgery_coefficients", lambda g, o: 1e-12 * tiny(g, o))
    ends = corollary1_paths.run(problems, 50, 0)["end"]
    assert (ends == "stalled").sum() == (angle(honest.g, honest.g_pc).cos >= 0.5).sum() > 5


def test_each_hypothesis_is_dropped_once() -> None:
    examples = corollary1_dropped.examples()
    assert set(examples) == {"cos(g, g^PC) >= 1/2", "t <= 1 / L", "convex", "Lipschitz gradient"}
    assert all(example["claim_fails"] for example in examples.values())
    assert examples["convex"]["step_holds"]
    assert corollary1_dropped.opposite()["possible"] == ["2"]
    idle = corollary1.idle(200, 0)
    assert all(row["violations"] == 0 < row["accepted"] for row in idle.values())


def test_the_searches_find_the_printed_step_false_and_leave_the_repaired() -> None:
    search = corollary1.attack.Search(
        "t", lambda p, u: corollary1.searched(p, u, "printed"), "quadratic", tasks=3
    )
    corollary1.attack._evolution(search, stream(0, "tests", "search", 0), 20, [])
    assert search.best["violates"]
    found = corollary1.attacks("repaired", 0, 2)
    assert sum(corollary1.attack.violations(rows) for rows in found.values()) == 0


def test_the_whole_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corollary1, "LARGE", {100: 3})
    settings = {
        "instances": 160,
        "trajectories": 40,
        "updates": 200,
        "lipschitz_instances": 2,
        "search_rounds": 10,
        "high_dimensions": [100],
    }
    report = corollary1.check({"seed": 0, **settings})
    assert report["verdicts"] == {
        "corollary1_descent": "false as stated",
        "corollary1": "false as stated",
        "corollary1_descent_repaired": "holds after repair",
        "corollary1_descent_short": "holds after repair",
        "corollary1_repaired": "holds after repair",
    }
    assert len(report["overview"]) == 5
    assert "(3, -1, -1)" in report["overview"][0]["counterexample"]
    assert sp.Rational(report["counterexamples"]["limit"]["rational"]["t"]) < 1
