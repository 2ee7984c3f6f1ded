"""Counterexamples: hypotheses ticked off, two routes, and gentler instances that refute nothing."""

import dataclasses

import pytest
import torch

import pcgrad
from proofs import judgement, three_tasks
from proofs.comparison import counterexample, theorem3_examples
from proofs.descent import escape
from proofs.descent.descent_examples import changes, sharp_step
from proofs.judgement import Check, Counterexample, judge
from proofs.many_tasks import corollary1_cycle
from proofs.momentum import theorem4_examples, three_cycle
from proofs.tally import BrokenError

ALL = {
    "corollary1, step": corollary1_cycle.ascending,
    "theorem2": counterexample.printed,
    "theorem3, if": lambda: theorem3_examples.Late().counterexample(),
    "theorem3, only if": theorem3_examples.only_if,
    "theorem4, printed": theorem4_examples.printed,
    "ascent": three_tasks.ascending,
    "stationary points": three_tasks.moving,
}


@pytest.mark.parametrize("name", ALL)
def test_a_counterexample_has_ticked_hypotheses_and_two_routes(name):
    found = ALL[name]()
    assert found.hypotheses
    assert all(found.hypotheses.values())
    assert len(found.routes) >= 2
    assert all(found.routes.values())


def test_a_broken_hypothesis_or_a_lonely_route_is_no_counterexample():
    good = {"kind": "exact example", "says": "x", "violated": "y"}
    with pytest.raises(BrokenError, match="breaks a hypothesis: convex"):
        Counterexample(hypotheses={"convex": False}, routes={"a": True, "b": True}, **good)
    for routes in ({"a": True}, {"a": True, "b": False}):
        with pytest.raises(BrokenError, match="two routes"):
            Counterexample(hypotheses={"convex": True}, routes=routes, **good)


def verdict(checks, **words):
    return judge("x", "s", "t", checks, sentence="w", **words).verdict


def test_the_verdict_follows_from_what_ran():
    proof, z3, fine = Check("proof", "a", True), Check("z3", "b", True), Check("samples", "c", True)
    bad = Check("samples", "c", False)
    assert verdict([proof, fine]) == "holds"
    assert verdict([z3], reading="r") == "holds in this reading"
    assert verdict([fine]) == verdict([fine], reading="r") == "open"  # samples never prove
    assert verdict([fine, bad]) == "false as stated"
    example = Counterexample("interval", "s", {"h": True}, "v", {"a": True, "b": True})
    found = judge("x", "s", "t", [proof], sentence="w", counterexample=example)
    assert (found.verdict, found.decided_by) == ("false as stated", ["proof", "interval"])
    assert verdict([], counterexample=example, misprint=True) == "misprint"
    with pytest.raises(BrokenError, match="failed"):
        verdict([Check("proof", "a", False)])
    with pytest.raises(BrokenError, match="failed"):
        verdict([bad], counterexample=example)
    assert set(judgement.VERDICTS) >= {"holds", "misprint", "open"}


def test_the_walk_by_three_routes_and_a_start_without_conflict(monkeypatch):
    walk = escape.walk(200)
    assert all(walk.hypotheses.values())
    assert all(walk.routes.values())
    monkeypatch.setattr(escape, "START", (escape.Fraction(12, 7), escape.Fraction(3)))
    assert not escape.premises().conflict_for_ever


def test_a_wrong_core_breaks_the_walk_and_the_cycle(monkeypatch):
    honest = pcgrad.surgery_coefficients
    monkeypatch.setattr(pcgrad, "surgery_coefficients", lambda g, o: 1.01 * honest(g, o))
    with pytest.raises(BrokenError, match="disagree"):
        escape.walk(200)
    monkeypatch.setattr(
        pcgrad, "surgery_coefficients", lambda g, o: torch.eye(2, dtype=g.dtype).expand_as(g)
    )
    with pytest.raises(BrokenError, match="leaves the three-cycle"):
        three_cycle.prove()


def test_gentler_angles_refute_nothing(monkeypatch):
    monkeypatch.setattr(corollary1_cycle, "ROW", (10, -1))
    assert corollary1_cycle.ascent_in_rationals()[1] <= 0
    assert not corollary1_cycle.ascent_by_core()


def test_another_step_does_not_alternate(monkeypatch):
    monkeypatch.setattr(corollary1_cycle, "STEP", corollary1_cycle.Fraction(1, 2))
    assert not corollary1_cycle.cycle_in_rationals()[0]


def test_a_linear_bump_keeps_theorem_2(monkeypatch):
    # Without curvature at the end of the step Definition 3 and the remainder agree.
    monkeypatch.setattr(counterexample, "bump", lambda x, end: x * x / 2)
    with pytest.raises(BrokenError):
        counterexample.printed()


def test_the_late_curvature_must_be_late():
    late = theorem3_examples.Late()
    assert late.ell_remainder < late.ell
    late.t = late.t / 4
    with pytest.raises(BrokenError):
        late.counterexample()


def test_the_drawn_cycle_without_conflict_is_one():
    path = theorem4_examples.piecewise_path()
    assert path[3:6] == path[:3]
    assert path[2] == theorem4_examples.BEFORE


def test_one_over_l_is_sharp_by_exact_instances():
    assert all(sharp_step().values())
    with pytest.raises(BrokenError, match="do not conflict"):
        changes([(1, 1), (1, 2)], (1,))


def test_only_if_needs_pcgrad_to_be_better(monkeypatch):
    honest = theorem3_examples.ONLY_IF["long_step"]
    equal = dataclasses.replace(honest, t=0)
    monkeypatch.setitem(theorem3_examples.ONLY_IF, "long_step", equal)
    with pytest.raises(BrokenError, match="refutes nothing"):
        theorem3_examples.only_if()
