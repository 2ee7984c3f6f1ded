import pytest
import torch
from conftest import MUTANTS

import pcgrad
from proofs import lipschitz, proposition1, theorem1
from proofs.attack import Search, attack, violations
from proofs.descent import convergence, descent_examples, escape, paths
from proofs.problems import NONCONVEX, look
from proofs.sampling import stream

SETTINGS = {
    "seed": 0,
    "instances": 30,
    "trajectories": 3,
    "updates": 20,
    "lipschitz_instances": 1,
    "search_rounds": 1,
    "high_dimensions": [100],
}


@pytest.mark.parametrize("family", NONCONVEX)
def test_step_and_steps_hold_on_problems_with_negative_curvature(family: str) -> None:
    for tally in (proposition1.one_step(family, 200, 0), proposition1.many_steps(family, 100, 0)):
        report = tally.report()
        assert report["accepted"] == report["trials"]
        assert report["violations"] == 0
        assert report["undecided"] < report["accepted"] / 2
    assert proposition1.concave_share(family, 100, 0) > 0.5


def test_concave_share_sees_convex_problems() -> None:
    assert proposition1.concave_share("least_squares", 50, 0) == 0


@pytest.mark.parametrize("mutant", ["mean", "dropped"])
def test_mutants_of_the_core_violate_the_step(monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", MUTANTS[mutant])
    reports = [
        proposition1.one_step("indefinite", 400, 0, conflict=side).report()
        for side in (True, False)
    ]
    assert sum(report["violations"] for report in reports) > 0


def test_the_sum_of_the_steps_is_that_of_a_loop() -> None:
    problems, step = proposition1.instances("wave", 20, stream(0, "t", "wave", 0))
    measured, bound, _ = proposition1.least(problems, problems.start(), step, 3)
    for k in range(20):
        one, theta, seen = (
            problems[torch.tensor([k])],
            torch.zeros(1, problems.A.shape[-1], dtype=torch.float64),
            [],
        )
        first = one.loss(theta)
        for _ in range(3):
            point = look(one, theta)
            square = float((point.g**2).sum())
            seen.append(square * (1 - float(point.cos) ** 2) if float(point.cos) < 0 else square)
            theta = theta - step[k] * point.g_pc
        assert float(measured[k]) == pytest.approx(min(seen), rel=1e-6, abs=1e-12)
        assert float(bound[k]) == pytest.approx(
            2 * float(first - one.loss(theta)) / (3 * float(step[k])), rel=1e-6
        )


def test_a_wrong_constant_of_the_sum_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = proposition1.least

    def quarter(problems, theta, step, updates):  # type: ignore[no-untyped-def]
        measured, bound, noise = honest(problems, theta, step, updates)
        return measured, bound / 4, noise

    monkeypatch.setattr(proposition1, "least", quarter)
    assert proposition1.many_steps("indefinite", 300, 0).report()["violations"] > 0


def test_a_step_twice_too_long_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = lipschitz.Problems.lipschitz
    monkeypatch.setattr(lipschitz.Problems, "lipschitz", lambda problems: honest(problems) / 2)
    assert proposition1.one_step("indefinite", 300, 0).report()["violations"] > 0
    found = attack(Search("proposition1", theorem1.searched, "indefinite"), 0, 10)
    assert violations(found) > 0


def test_searches_of_the_indefinite_family_have_negative_curvature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = Search("proposition1", theorem1.searched, "indefinite")
    put: list[torch.Tensor] = []
    honest = theorem1.trial
    monkeypatch.setattr(
        theorem1, "trial", lambda p, t: put.append(p.hessian(p.start())) or honest(p, t)
    )
    search.score(stream(0, "t", "x", 0).uniform(-1, 1, (50, search.size)))
    assert (torch.linalg.eigvalsh(put[0])[:, 0] < 0).double().mean() > 0.3


@pytest.mark.parametrize("family", proposition1.BOUNDED)
def test_trajectories_end_where_they_say(family: str) -> None:
    problems = paths.starts(family, 40, stream(0, "t", family, 0))
    result = paths.run(problems, 1500, stationary=True, keep=40)
    last = torch.stack([track[track.isfinite().all(-1)][-1] for track in result["path"].unbind(1)])
    point, first = look(problems, last), look(problems, problems.start())
    small = point.g.norm(dim=-1) <= paths.NEAR * first.g.norm(dim=-1)
    ends = {
        name: torch.from_numpy(result["end"] == name)
        for name in ("stationary", "opposite", "product")
    }
    assert ends["stationary"].any()
    assert ends["opposite"].any()
    assert small[ends["stationary"]].all()
    assert (1 + point.cos[ends["opposite"]] <= paths.OPPOSITE).all()
    assert not small[ends["opposite"] | ends["product"]].any()
    assert (paths.guaranteed(point) <= paths.NEAR**2 * paths.guaranteed(first))[
        ends["product"]
    ].all()


def test_standing_still_elsewhere_is_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcgrad, "surgery_coefficients", lambda g, o: torch.zeros_like(g))
    report = convergence.trajectories("wave", 20, 20, 0, stationary=True, statement="proposition1")
    assert report["stalled"] > 10
    assert report["violations"] >= report["stalled"]


def test_a_linear_loss_reaches_neither_end() -> None:
    example = descent_examples.unbounded()
    assert example["claim_fails"]
    assert [float(x) for x in example["losses"]] == [0, -4, -8, -12, -16]


def test_verdicts_follow_from_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theorem1, "LARGE", {100: 2})
    monkeypatch.setattr(proposition1, "ATTACKED", ("wave",))
    monkeypatch.setattr(proposition1, "WALK", 20)
    words = {
        **{"proposition1_descent": "holds", "proposition1": "false as stated"},
        "proposition1_repaired": "holds after repair",
    }
    report = proposition1.check(SETTINGS)
    assert report["verdicts"] == words
    assert {row["verdict"] for row in report["overview"]} == set(words.values())
    assert report["convergence"]["trajectories"] == 2 * 3 * len(proposition1.BOUNDED)
    monkeypatch.setattr(
        proposition1, "general_limit", lambda _: descent_examples.general_limit(_) | harmless()
    )
    monkeypatch.setattr(
        escape, "check", lambda _: {**report["counterexamples"], "attained": unharmed(report)}
    )
    assert proposition1.check(SETTINGS)["verdicts"]["proposition1"] == "holds"


def harmless() -> dict[str, object]:
    """`unbounded` as if it did not refute."""
    row = descent_examples.unbounded()
    return {"bounded below (not among the printed hypotheses)": {**row, "claim_fails": False}}


def unharmed(report: dict) -> dict:  # type: ignore[type-arg]
    """`escape` as if it did not refute."""
    return {**report["counterexamples"]["attained"], "refutes": False}
