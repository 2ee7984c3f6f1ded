from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from conftest import MUTANTS

import pcgrad
from proofs import exact, theorem4
from proofs.algebra import identities_momentum as algebra
from proofs.identities import IdentityError
from proofs.momentum import (
    heavy_ball,
    theorem4_attack,
    theorem4_dropped,
    theorem4_examples,
    theorem4_paths,
    theorem4_repair,
)
from proofs.sampling import stream
from proofs.tally import BrokenError

PLANE_ILL = "dimension 2, condition 100 to 10,000"
MILD = "condition 10 to 100"


@pytest.fixture(scope="module")
def examples() -> dict[str, Any]:
    return theorem4_examples.check()


def draw(
    shape: str = "quadratic", count: int = 40, dimensions: tuple[int, int] = (2, 6)
) -> heavy_ball.Pairs:
    return heavy_ball.draw(shape, count, stream(3, "tests", shape, 0), dimensions)


# --- algebra


@pytest.mark.parametrize("identity", algebra.ALL, ids=lambda identity: identity.__name__)
def test_identity_is_proved_and_explained(identity) -> None:  # type: ignore[no-untyped-def]
    assert "=" in identity() or r"\ge" in identity()
    assert identity.__doc__.endswith(".")


def test_the_printed_step_does_not_have_the_stated_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algebra, "corrected", algebra.printed)
    for identity in (
        algebra.corrected_step,
        algebra.printed_step,
        algebra.no_damping,
    ):
        with pytest.raises(IdentityError):
            identity()


def test_a_wrong_update_breaks_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algebra.identities, "algorithm_1", lambda: algebra.G1 + algebra.G2)
    with pytest.raises(IdentityError):
        algebra.weights_exceed_1()


# --- the method


@pytest.mark.parametrize("shape", list(heavy_ball.SLOPES))
def test_gradients_are_those_of_the_loss_and_the_class_holds(shape: str) -> None:
    pairs = draw(shape)
    theta, found = heavy_ball.begin(pairs, np.random.default_rng(0))
    assert found.float().mean() > 0.8
    assert theorem4_repair.hypotheses(pairs, theta).all()
    step = (
        1e-6
        * theta.norm(dim=-1, keepdim=True)
        * torch.nn.functional.normalize(torch.ones_like(theta), dim=-1)
    )
    inside = torch.arange(6) < pairs.dimension.unsqueeze(-1)
    bent = (pairs.gradients(theta + step * inside) - pairs.gradients(theta - step * inside)) / 2
    along = (pairs.hessians() @ (step * inside)[:, None, :, None])[..., 0]  # the largest curvature
    if shape == "quadratic":
        assert torch.allclose(bent, along, rtol=1e-6, atol=1e-12)
    square = (step * inside).square().sum(-1, keepdim=True)
    curvature = (bent * (step * inside).unsqueeze(1)).sum(-1) / square
    assert (curvature >= pairs.mu * (1 - 1e-6)).all()
    assert (curvature <= pairs.top * (1 + 1e-6)).all()


def test_the_class_is_tested() -> None:
    pairs = draw()
    theta, _ = heavy_ball.begin(pairs, np.random.default_rng(0))
    wrong = {"mu": pairs.top * 1.5, "top": pairs.mu * 0.5, "center": torch.randn_like(pairs.center)}
    for name, value in wrong.items():
        assert not theorem4_repair.hypotheses(
            type(pairs)(**{**vars(pairs), name: value}), theta
        ).all()


def test_commuting_hessians_never_conflict_and_turned_ones_do() -> None:
    pairs = draw()
    theta = torch.randn(
        len(pairs), 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    g = heavy_ball.commuting(pairs).gradients(theta)
    assert ((g[:, 0] * g[:, 1]).sum(-1) >= 0).all()


def test_lanczos_finds_what_eigh_finds() -> None:
    pairs = draw(count=5, dimensions=(15, 15))
    for k, direct in enumerate(heavy_ball.opposed(pairs)):
        g = pairs[torch.tensor([k])].gradients(torch.stack([direct]))[0]
        other = heavy_ball._lanczos(pairs[torch.tensor([k])])
        h = pairs[torch.tensor([k])].gradients(other[None])[0]
        assert float(h[0] @ h[1]) <= 0.9 * float(g[0] @ g[1]) < 0


def test_plane_has_the_hessians_it_is_given() -> None:
    ones = torch.ones(2, dtype=torch.float64)
    for one, two in (((900, 0, 1), (1, 6, 50)), ((3, 0, 3), (2, -1, 2)), ((1, 0, 5), (4, 2, 4))):
        expected = torch.tensor([[[a, b], [b, c]] for a, b, c in (one, two)], dtype=torch.float64)
        assert torch.allclose(
            heavy_ball.plane(one, two, ones, ones).hessians()[0], expected, atol=1e-10
        )


# --- counterexamples


def test_every_example_says_what_it_should(examples: dict[str, Any]) -> None:
    assert all(example.get("refutes", True) for example in examples.values())
    assert examples["printed_line"]["path"][:4] == ["1", "-15", "81", "-351"]
    assert examples["printed_line"]["diverges"]
    assert (examples["printed_slow"]["rate"], examples["printed_slow"]["slower_than_stated"]) == (
        "1/2",
        True,
    )
    assert examples["piecewise"]["path"][:3] == ["792/1225", "-2208/1225", "2592/1225"]
    assert examples["piecewise"]["period"] == 3
    assert examples["quadratic_growth"]["factor_of_two_steps"] == "-27/25"
    always = examples["always_in_conflict"]
    assert always["in_conflict"] == always["steps"]
    assert examples["printed_plane"]["in_conflict"] == examples["printed_plane"]["steps"]
    for name in ("always_in_conflict", "printed_plane", "quadratic_from_rest"):
        assert -1 < float(examples[name]["smallest_cos"]) < 0


def test_the_rational_cycle_by_hand() -> None:
    """Two steps of `quadratic_cycle` written out: no function of the project but Algorithm 1's
    projection inline.
    """
    data = theorem4_examples.CYCLE
    (a, b, c), (p, q, r) = data["hessians"]
    before, now = data["previous"], data["start"]
    for _ in range(4):
        g, h = (
            (a * now[0] + b * now[1], b * now[0] + c * now[1]),
            (p * now[0] + q * now[1], q * now[0] + r * now[1]),
        )
        inner, one, two = g[0] * h[0] + g[1] * h[1], g[0] ** 2 + g[1] ** 2, h[0] ** 2 + h[1] ** 2
        w = (1 - min(inner, 0) / one, 1 - min(inner, 0) / two)
        alpha, beta = Fraction(4, 400) / (w[0] * 1 + w[1] * 3), Fraction(81, 100)
        after = tuple(x - alpha * (w[0] * u + w[1] * v) + beta * (x - y)
                      for x, y, u, v in zip(now, before, g, h, strict=True))  # fmt: skip
        assert after == tuple(-x for x in before)
        before, now = now, after


@pytest.mark.parametrize("field", ["start", "previous", "mu", "L"])
def test_a_changed_number_is_no_counterexample(field: str) -> None:
    data = {**theorem4_examples.CYCLE}
    data[field] = (data[field][0] * 2, data[field][1] * 2)
    if field in ("mu", "L"):  # both, so that the square roots stay rational
        data["mu"], data["L"] = (
            tuple(2 * x for x in theorem4_examples.CYCLE[name]) for name in ("mu", "L")
        )
        data["L"] = tuple(x / (4 if field == "L" else 1) for x in data["L"])
        data["mu"] = tuple(x / (4 if field == "L" else 1) for x in data["mu"])
    assert not theorem4_examples.rational("changed", data)["refutes"]


def test_irrational_roots_are_refused() -> None:
    with pytest.raises(BrokenError, match="not the square"):
        theorem4_examples.root(Fraction(2))


def test_small_condition_numbers_do_not_diverge_from_rest() -> None:
    calm = theorem4_examples.integers
    report = calm("calm", ((9, 0, 1), (2, 1, 5)), (-2, 1), 200, "corrected")
    assert not report["refutes"]
    assert float(report["growth_per_step"]) < 1


@pytest.mark.parametrize("mutant", ["mean", "never", "dropped", "epsilon"])
def test_a_mutant_core_disagrees_with_the_exact_paths(
    monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    with pytest.raises(BrokenError, match="through the core"):
        theorem4_examples.check()


def test_fifty_digits_and_the_core_agree_over_many_steps() -> None:
    """The divergence is no artifact of rounding: the orbit of 50 digits and that of 25 have the
    same size.
    """
    with mp.workdps(25):
        hessians, ends = ((900, 0, 1), (1, 6, 50)), []
        values = [
            sorted(mp.eigsy(mp.matrix([[a, b], [b, c]]), eigvals_only=True)) for a, b, c in hessians
        ]
        mu, top = ([v[k] for v in values] for k in (0, 1))
        begin = (mp.mpf(-2), mp.mpf(1))
        path = theorem4_examples.orbit(
            theorem4_examples.quadratics(*hessians), mu, top, begin, begin, 400, "corrected"
        )["path"]
        ends = mp.sqrt(exact.dot(path[-1], path[-1]) / 5)
    report = theorem4_examples.integers("again", hessians, (-2, 1), 400, "corrected")
    assert abs(float(ends) / float(report["sizes"][-1]) - 1) < 0.05


# --- trajectories


def test_ends_are_told_apart() -> None:
    """One converging, one growing (`quadratic_from_rest`), one cycling (exact cycle through the
    core).
    """
    mu, top = (
        torch.tensor([1.0, 0.276003488741], dtype=torch.float64),
        torch.tensor([900.0, 50.7239965113]).double(),
    )
    pair = heavy_ball.plane((900, 0, 1), (1, 6, 50), mu, top)
    start = torch.tensor([[-2.0, 1.0]], dtype=torch.float64)
    went = theorem4_paths.follow(pair, start, 1000, "corrected")
    assert went["end"][0] == "growing"
    assert float(went["tail"][0]) == pytest.approx(np.log(1.0765), abs=5e-3)
    assert theorem4_paths.follow(pair, start, 2, "corrected")["end"][0] == "standing"
    assert theorem4_paths.follow(pair, start.flip(-1), 5000, "corrected")["end"][0] == "converged"
    assert theorem4_paths.follow(pair, start.flip(-1), 100, "corrected")["end"][0] == "unfinished"
    assert theorem4_paths.follow(pair, start, 1000, "gradient")["end"][0] != "growing"


def test_a_slow_tail_is_slower_than_stated() -> None:
    size = torch.linspace(0, -24, 401, dtype=torch.float64).unsqueeze(-1)
    for stated, slower in ((-0.05, False), (-0.08, True)):
        ends = theorem4_paths._ends(size, torch.tensor([stated], dtype=torch.float64))
        assert (ends["end"][0], bool(ends["slower"])) == ("converged", slower)


def test_printed_diverges_corrected_converges_on_most_quadratics() -> None:
    rows = {
        rule: theorem4_paths.sample("tests", PLANE_ILL, 60, 1500, 0, rule)
        for rule in ("printed", "corrected")
    }
    assert rows["printed"]["violations"] > 20 > 5 > rows["corrected"]["violations"]
    for row in rows.values():
        assert row["accepted"] == sum(row[end] for end in theorem4_paths.ENDS)
        assert row["skipped"] < 0.2 * row["trials"]


def test_losses_that_are_not_quadratic_cycle() -> None:
    row = theorem4_paths.sample("tests", PLANE_ILL, 60, 1500, 0, shape="huber")
    assert row["standing"] > 0
    assert row["slowest"]["log_growth"] > -0.01


def test_minimizers_apart_end_opposite() -> None:
    report = theorem4_paths.apart(40, 1500, 0)
    assert report["opposite"] > 30
    assert report["optimum"] == 0
    assert report["linear"] > 30


# --- repairs


@pytest.mark.parametrize("shape", list(heavy_ball.SLOPES))
@pytest.mark.parametrize("conflict", [True, False])
def test_the_repaired_step_contracts(shape: str, conflict: bool) -> None:
    report = theorem4_repair.one_step(shape, MILD, 300, 0, conflict=conflict).report()
    assert report["violations"] == 0
    assert report["skipped"] < 60
    assert report["smallest_margin"] >= 0


@pytest.mark.parametrize(
    ("mutant", "conflict", "seen"),
    [
        ("mean", True, False),
        ("never", True, False),
        ("dropped", True, False),
        ("always", False, True),
    ],
)
def test_the_contraction_needs_only_positive_weights(
    monkeypatch: pytest.MonkeyPatch, mutant: str, conflict: bool, seen: bool
) -> None:
    """As its proof says: of these mutants of the core only the one with negative weights violates
    it.
    """
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    report = theorem4_repair.one_step("quadratic", MILD, 300, 0, conflict=conflict).report()
    assert (report["violations"] > 0) == seen


def test_a_longer_step_violates_the_contraction(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = heavy_ball.RULES["gradient"]
    monkeypatch.setitem(heavy_ball.RULES, "gradient", lambda mu, top: 1.6 * honest(mu, top))
    families = [
        theorem4_repair.one_step(shape, MILD, 300, 0, conflict=False) for shape in heavy_ball.SLOPES
    ]
    assert sum(tally.violations for tally in families) > 0


@pytest.mark.parametrize("rule", ["gradient", "corrected"])
def test_paths_stay_below_their_bound_and_a_smaller_bound_is_crossed(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert theorem4_repair.paths(PLANE_ILL, 60, 0, rule).report()["violations"] == 0
    honest = heavy_ball.move
    monkeypatch.setattr(heavy_ball, "move", lambda *arguments: 1.05 * honest(*arguments))
    assert theorem4_repair.paths(PLANE_ILL, 60, 0, rule).violations > 0


def test_momentum_in_conflict_is_outside_the_second_repair() -> None:
    pairs = draw(dimensions=(2, 3))
    start, found = heavy_ball.begin(pairs, np.random.default_rng(0))
    assert not theorem4_repair.bounded(pairs, start, found, "corrected").accepted.any()


def test_scipy_contradicts_a_wrong_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    assert theorem4_repair.spectra("log_cosh", 5, 0)["largest_relative_difference"] < 1e-9
    honest = heavy_ball.draw

    def wrong(*arguments):  # type: ignore[no-untyped-def]
        pairs = honest(*arguments)
        return type(pairs)(**{**vars(pairs), "top": 1.01 * pairs.top})

    monkeypatch.setattr(heavy_ball, "draw", wrong)
    with pytest.raises(BrokenError, match="eigenvalues"):
        theorem4_repair.spectra("quadratic", 5, 0)


# --- dropped hypotheses, searches, the report


def test_every_dropped_hypothesis_fails_and_one_is_idle() -> None:
    report = theorem4_dropped.check(200, 0)
    assert set(report) == {*theorem4_dropped.INSTANCES, "strong_convexity_of_one_task"}
    assert report["step"]["corrected"]["path"][:4] == ["1", "-3", "5", "-7"]
    assert report["smoothness"]["gradient"]["path"][:2] == ["1/4", "-1/4"]
    assert report["strong_convexity_of_one_task"]["violations"] == 0


def test_a_converging_instance_is_no_dropped_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = {
        **theorem4_dropped.INSTANCES["step"],
        "longer": {"corrected": Fraction(1), "gradient": Fraction(1)},
    }
    monkeypatch.setitem(theorem4_dropped.INSTANCES, "step", shorter)
    with pytest.raises(BrokenError, match="converges"):
        theorem4_dropped.instance("step")


def test_the_search_iterates_what_the_core_iterates() -> None:
    """Two implementations, one rate: of what a coarse random search likes best."""
    x = np.random.default_rng(0).uniform(-1, 1, (4000, 5))
    rate, conflicts = theorem4_attack.growth(x, 3.0)
    best = int(rate.argmax())
    alone, _ = theorem4_attack.growth(x[best : best + 1], 3.0)
    assert alone[0] == pytest.approx(rate[best], rel=1e-6)
    again = theorem4_attack.confirm(list(x[best]), 3.0)
    assert again["end"] == "growing"
    assert again["log_growth"] == pytest.approx(rate[best], abs=0.02)
    assert again["conflict_share"] == pytest.approx(conflicts[best], abs=0.1)


def test_the_report_is_complete_and_its_verdicts_follow_the_counts() -> None:
    settings = {
        "seed": 0,
        "instances": 40,
        "trajectories": 4,
        "updates": 60,
        "lipschitz_instances": 3,
    }
    report = theorem4.check({**settings, "search_rounds": 1, "high_dimensions": [100]})
    assert report["verdicts"] == {
        "theorem4": "false as stated",
        "theorem4_corrected": "false as stated",
        "theorem4_quadratic": "false as stated",
        "theorem4_repaired": "holds after repair",
        "theorem4_repaired_momentum": "holds after repair",
    }
    assert [row["name"] for row in report["overview"]] == list(report["verdicts"])
    assert report["large"]["100"]["instances"] == 60
    report["repaired"]["violations"] = 1
    assert theorem4.verdicts(report)["theorem4_repaired"] == "false as stated"


def test_an_example_that_refutes_nothing_breaks_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theorem4_examples, "check", lambda: {"quadratic_cycle": {"refutes": False}})
    with pytest.raises(BrokenError, match="refute nothing"):
        theorem4.check({"seed": 0, "updates": 1})
