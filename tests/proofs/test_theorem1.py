import math
from fractions import Fraction

import pytest
import torch
from conftest import MUTANTS, make

import pcgrad
from proofs import identities, theorem1
from proofs.algebra import identities_descent
from proofs.attack import Search, attack, violations
from proofs.descent import convergence, descent_examples, escape, paths
from proofs.problems import CONVEX, look, rounding
from proofs.tally import BrokenError


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
def test_mutants_of_the_core_violate_the_step(
    monkeypatch: pytest.MonkeyPatch, mutant: str, conflict: bool
) -> None:
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
            family,
            problems.A.flip(2),
            problems.b.flip(2),
            problems.w.flip(2),
            problems.s,
            problems.dimension,
        )
        theta, step = problems.start() - 0.1, 1 / problems.lipschitz()
        error = (problems.loss(theta) - turned.loss(theta)).abs()
        assert (error <= rounding(problems, theta, (theta,), step)).all()


def test_trajectories_end_where_they_say() -> None:
    problems = make("least_squares", 30)
    result = paths.run(problems, 300)
    best = paths.optimal_value(problems)
    assert {"opposite", "optimum"} & set(result["end"])
    assert (result["end"] == "unfinished").sum() == len(result["left"])
    left = problems[result["left"]]
    assert (left.loss(result["theta"]) >= best[result["left"]] - 1e-9).all()


def test_a_wrong_update_is_seen_along_trajectories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pcgrad, "surgery_coefficients", lambda g, o: 2 * MUTANTS["never"](g, o)
    )  # step 2 / L
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
    found = paths.optimal_value(problems)
    assert (found - expected <= 1e-9 * problems.loss(problems.start())).all()


def test_the_step_holds_in_high_dimension_and_a_search_finds_its_edge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(theorem1, "LARGE", {100: 4})
    report = theorem1.large(("quadratic", "softplus"), 0, [100])
    assert report["accepted"] == report["trials"] == 4
    assert report["violations"] == 0
    found = attack(Search("theorem1", theorem1.searched, "quadratic"), 0, 20)
    assert violations(found) == 0
    assert (
        min(row["smallest_margin"] for row in found.values()) < 1e-3
    )  # attained for Hessian L 1 and t = 1 / L


def test_a_search_finds_a_bound_that_is_too_low_by_a_hundredth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = theorem1.descent

    def lower(problems, theta, step):  # type: ignore[no-untyped-def]
        measured, bound = honest(problems, theta, step)
        return measured, bound + 0.01 * (bound - problems.loss(theta))

    monkeypatch.setattr(theorem1, "descent", lower)
    assert violations(attack(Search("theorem1", theorem1.searched, "quadratic"), 0, 20)) > 0


def test_one_over_l_is_sharp_by_exact_instances() -> None:
    for row in descent_examples.sharp_step():
        assert Fraction(row["rise"]) > 0 >= Fraction(row["rise_at_1_over_L"])
        delta, c = Fraction(row["delta"]), Fraction(row["delta"]) ** 2 / 4
        eta = 1 - (1 - c) / (1 + c)
        assert eta < 2 * delta / (1 + delta)  # identities_descent.sharpness
        squared = 1 + c  # ||g_1||^2; 1 - c^2 = eta (2 - eta), t = (1 + delta) / 2
        assert Fraction(row["rise"]) == (1 + delta) / 2 * eta * (2 - eta) * squared * (
            2 * delta - (1 + delta) * eta
        )


def test_each_dropped_hypothesis_fails_the_claim_once() -> None:
    examples = {name: {"refutes": True} for name in escape.EXAMPLES}
    for rows in (descent_examples.convex_limit(examples), descent_examples.general_limit(examples)):
        assert all(row["claim_fails"] for row in rows.values())
    assert descent_examples.rough()["walks"]["t = 1"] == ["9/4", "-9/4", "9/4", "-9/4", "9/4"]


def test_exact_steps_go_through_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS["dropped"])
    for example in (
        descent_examples.sharp_step,
        descent_examples.long_step,
        descent_examples.rough,
    ):
        with pytest.raises(BrokenError, match="the core's update"):
            example()


def test_pcgrad_walks_off_to_infinity() -> None:
    report = escape.check(400)
    for name, row in report.items():
        assert row["refutes"]
        walk = row["mpmath"]["walk"]
        x, y, cos = ([float(place[key]) for place in walk] for key in ("x", "y", "one_plus_cos"))
        assert x == sorted(x)
        assert y == sorted(y, reverse=True)
        assert y[-1] > row["premises"]["y_stays_above"]
        assert cos == sorted(cos, reverse=True)
        end = (
            math.hypot(x[-1], y[-1]) - x[-1] if name == "attained" else math.log1p(math.exp(-x[-1]))
        )
        assert float(walk[-1]["loss_above_infimum"]) == pytest.approx(
            2 * end + y[-1] ** 2, rel=1e-9
        )


def test_the_escape_is_convex_and_its_constant_right() -> None:
    """Against finite differences of the losses as the docstring writes them, inside the unit disk
    too.
    """
    torch.manual_seed(0)
    theta = 3 * torch.randn(300, 2, dtype=torch.float64)

    def attained(point: torch.Tensor) -> torch.Tensor:
        r = (point**2).sum().sqrt()
        return torch.where(r <= 1, (r**2 + 1) / 2, r) - point[0]

    def not_attained(point: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(-point[0])

    for name, h in {"attained": attained, "not_attained": not_attained}.items():
        both = torch.func.vmap(torch.func.hessian(lambda p, h=h: 2 * h(p) + p[1] ** 2))(theta)
        own = torch.func.vmap(torch.func.hessian(lambda p, h=h: h(p) + (p[1] - 1) ** 2 / 2))(theta)
        assert torch.linalg.eigvalsh(both).max() <= escape.CONSTANT[name] + 1e-12
        assert torch.linalg.eigvalsh(own).min() >= -1e-12
        slope = torch.func.grad(h)
        for point in theta[theta.norm(dim=-1) > 1][:20]:
            expected = torch.tensor(escape.slopes(name, *point.tolist(), math), dtype=torch.float64)
            torch.testing.assert_close(slope(point), expected)


@pytest.mark.parametrize(
    ("name", "start"), [("attained", (2, 1)), ("not_attained", (2, Fraction(5, 4)))]
)
def test_an_escape_without_conflict_is_not_claimed(
    monkeypatch: pytest.MonkeyPatch, name: str, start: tuple[Fraction, Fraction]
) -> None:
    monkeypatch.setitem(escape.START, name, tuple(Fraction(x) for x in start))
    assert not escape.check(20)[name]["refutes"]


def test_a_wrong_core_breaks_the_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS["never"])
    with pytest.raises(BrokenError, match="disagree"):
        escape.check(50)


@pytest.mark.parametrize("identity", identities_descent.ALL, ids=lambda identity: identity.__name__)
def test_identity_is_proved_and_explained(identity) -> None:  # type: ignore[no-untyped-def]
    assert any(sign in identity() for sign in ("=", r"\ge"))
    assert identity.__doc__.endswith(".")


@pytest.mark.parametrize("name", ["weights", "square_summable", "sharpness"])
def test_a_wrong_update_breaks_the_identity(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    honest = identities.algorithm_1
    monkeypatch.setattr(identities, "algorithm_1", lambda: honest() / 2 + identities.G1 / 3)
    with pytest.raises(identities.IdentityError):
        getattr(identities_descent, name)()


def test_longer_steps_raise_the_loss_and_allowed_ones_do_not() -> None:
    rows = {row["t_times_L"]: row for row in convergence.longer_steps("quadratic", 20, 150, 0)}
    assert rows[0.5]["bound_fails"] == rows[1.0]["bound_fails"] == rows[1.0]["loss_rises"] == 0
    assert rows[1.5]["loss_rises"] > 10
    assert rows[2.1]["diverged"] > 0
    ends = ("optimum", "opposite", "diverged", "stalled", "unfinished")
    assert all(sum(row[end] for end in ends) == row["trajectories"] for row in rows.values())


def test_settling_tells_a_point_from_a_circle() -> None:
    steps = torch.arange(200, dtype=torch.float64)
    spiral = torch.stack([0.9**steps, 0 * steps], -1)
    circle = torch.stack([steps.cos(), steps.sin()], -1)
    there, around = (convergence.settling(path.unsqueeze(1)) for path in (spiral, circle))
    assert there["last_half"]["largest"] < 1e-4
    assert there["last_quarter"]["largest"] < 1e-6
    assert around["last_half"]["largest"] == pytest.approx(0.5, abs=0.01)
    assert around["last_quarter"]["largest"] > 0.009


def test_the_gap_at_opposite_ends_is_that_of_the_losses() -> None:
    problems = make("softplus", 30)
    result = paths.run(problems, 300, keep=30)
    opposite = torch.from_numpy(result["end"] == "opposite") & (result["updates"] > 0)
    last = torch.stack([track[track.isfinite().all(-1)][-1] for track in result["path"].unbind(1)])
    first = problems.loss(problems.start())
    gap = (problems.loss(last) - paths.optimal_value(problems)) / (
        first - paths.optimal_value(problems)
    )
    found = convergence.remaining_gap([result])["gap_at_opposite"]
    assert found["100%"] == pytest.approx(float(gap[opposite].max()))
    assert found["0%"] == pytest.approx(float(gap[opposite].min()))
    assert (1 + look(problems, last).cos[opposite] <= paths.OPPOSITE).all()


def test_the_limit_as_printed_is_refuted_by_the_escape_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {
        "seed": 0,
        "instances": 20,
        "trajectories": 3,
        "updates": 20,
        "lipschitz_instances": 1,
    }
    monkeypatch.setattr(theorem1, "LARGE", {100: 2})
    monkeypatch.setattr(theorem1, "WALK", 20)
    monkeypatch.setattr(theorem1, "ATTACKED", ("quadratic",))
    report = theorem1.check({**settings, "search_rounds": 1, "high_dimensions": [100]})
    words = {
        "theorem1_descent": "holds",
        "theorem1": "false as stated",
        "theorem1_repaired": "holds after repair",
    }
    assert report["verdicts"] == words
    assert [row["verdict"] for row in report["overview"]] == list(words.values())
    monkeypatch.setitem(escape.START, "attained", (Fraction(2), Fraction(1)))
    monkeypatch.setitem(escape.START, "not_attained", (Fraction(2), Fraction(5, 4)))
    assert (
        theorem1.check({**settings, "search_rounds": 1, "high_dimensions": [100]})["verdicts"][
            "theorem1"
        ]
        == "holds"
    )
