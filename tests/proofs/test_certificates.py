"""Identities, z3 goals and intervals: what is wrong is not proved."""

import re

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
import z3

from proofs import certificates, document
from proofs.algebra import formula, implication, mutation
from proofs.algebra.formula import IdentityError, prove
from proofs.algebra.implication import Goal, GoalError
from proofs.intervals import Interval, dot
from proofs.many_tasks import invariant
from proofs.momentum import three_cycle
from proofs.tally import BrokenError
from system.errors import UserError


@pytest.mark.parametrize("name", certificates.IDENTITIES)
def test_an_identity_is_proved_and_explained(name):
    found = certificates.identity(name)
    assert " = " in found.latex
    assert certificates.says(certificates.IDENTITIES[name])


@pytest.mark.parametrize("name", certificates.GOALS)
def test_a_goal_is_proved_and_each_hypothesis_is_needed(name):
    goal = certificates.goal(name)
    for left_out in goal.hypotheses:
        rest = [h for other, h in goal.hypotheses.items() if other != left_out]
        assert not implication.proves(rest, goal.claim), left_out


def test_the_displayed_formula_is_the_checked_expression():
    # A typed formula could say ‖g^PC‖² = (1 + c²)…; this one is printed from what is proved.
    shown = prove((formula.LENGTH2, (1 - formula.C**2) * formula.APART)).latex
    assert shown == r"\|g^{PC}\|^2 = \|g_1-g_2\|^2 \left(1 - c^{2}\right)"
    with pytest.raises(IdentityError, match="not to 0"):
        prove((formula.LENGTH2, (1 + formula.C**2) * formula.APART))


def test_an_equation_that_says_nothing_is_refused():
    with pytest.raises(IdentityError, match="says nothing"):
        prove((formula.LENGTH2, formula.LENGTH2))


def test_a_false_goal_and_one_without_instances_are_refused():
    x = z3.Real("x")
    with pytest.raises(GoalError, match="does not prove"):
        implication.prove(Goal({"x > 0": x > 0}, x > 1))
    with pytest.raises(GoalError, match="no instance"):
        implication.prove(Goal({"x > 0": x > 0, "x < 0": x < 0}, x > 1))


@pytest.mark.parametrize("name", ["length", "theorem2_bound", "ratio_of_weights", "no_damping"])
def test_mutants_of_an_identity_are_killed(name):
    function = certificates.IDENTITIES[name]
    mutants = list(mutation.mutants(function))
    assert len(mutants) > 3
    for mutant in mutants:
        with pytest.raises(Exception):  # noqa: B017, PT011 - any failure kills
            mutation.run(mutant)


def test_a_mutant_that_the_original_implies_is_told_from_a_survivor():
    x = z3.Real("x")
    original = Goal({"x > 2": x > 2}, x > 1)
    assert mutation.weaker(Goal({"x > 3": x > 3}, x > 1), original, [])
    assert mutation.weaker(Goal({"x > 2": x > 2}, x > 0), original, [])
    assert not mutation.weaker(Goal({"x > 1.5": x > 1.5}, x > 1), original, [])


def test_intervals_contain_what_they_stand_for():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1000))
    for found, value in (
        (Interval(a, a) + Interval(b, b), a + b),
        (Interval(a, a) * Interval(b, b), a * b),
        (Interval(a, a) / Interval(b, b), a / b),
        (Interval(a, a).square(), a * a),
        (Interval(a, a).square().sqrt(), abs(a)),
    ):
        assert ((found.low <= value) & (value <= found.high)).all()
    wide = Interval(np.array([-1.0]), np.array([2.0]))
    assert (wide.square().low, wide.square().high) == pytest.approx((0.0, 4.0))
    assert wide.negative_part().low == -1
    assert dot([wide], [wide]).high >= 4
    with pytest.raises(ZeroDivisionError):
        _ = Interval.of(1) / wide


def test_a_set_that_is_left_is_not_enclosed(monkeypatch):
    # With λ = 1/2 the part across leaves the set: no number of halvings may hide that.
    monkeypatch.setattr(invariant, "CURVATURE", invariant.Fraction(1, 2))
    monkeypatch.setattr(invariant, "HALVINGS", 1)
    with pytest.raises(BrokenError, match="may leave the set"):
        invariant.enclose()


def test_the_boxes_cover_the_set():
    corners = invariant.cover()
    rng = np.random.default_rng(1)
    for sign in (1, -1):
        s, angle = sign * rng.uniform(3, 5, 200), rng.uniform(0, 2 * np.pi, 200)
        points = np.stack([s, 2.2 * np.cos(angle), 2.2 * np.sin(angle)], -1)[:, None]
        low, high = corners[None], corners[None] + invariant.WIDTH
        assert ((low <= points) & (points <= high)).all(-1).any(-1).all()


def test_the_three_cycle_is_proved_and_a_box_elsewhere_is_not(monkeypatch):
    cycle = three_cycle.prove()
    assert cycle.contained
    assert cycle.in_conflict
    assert float(cycle.zero[3]) < -1.1
    with three_cycle.mp.workdps(50):
        point, inverse = three_cycle.newton()
        three_cycle.iv.dps = 50
        inside, _, _ = three_cycle.krawczyk(
            [x + three_cycle.mp.mpf("1e-15") for x in point], inverse
        )
    assert not inside


def test_duals_differentiate():
    x, y = map(three_cycle.Dual, (2.0, 3.0), np.eye(4))
    assert (x * y).slopes[:2] == pytest.approx((3.0, 2.0))
    assert (x / y).slopes[:2] == pytest.approx((1 / 3, -2 / 9))
    assert (x - y).value == -1
    assert (x * x).sqrt(sp).slopes[0] == pytest.approx(1.0)


def test_every_step_of_the_document_names_a_check_that_exists():
    text = document.SOURCE.read_text(encoding="utf-8")
    # Certificates are code in parentheses. Boxes name certificates of their own and are left out.
    cited = re.findall(r"\((`[^()]*`)\)", document.BOX.sub("", text))
    names = {name for group in cited for name in re.findall(r"`((?:z3:)?\w+)`", group)}
    assert len(names) > 60
    known = set(certificates.IDENTITIES) | {f"z3:{name}" for name in certificates.GOALS}
    assert names <= known, names - known
    unused = known - names - {"normal_plane", "hidden_assumption", "z3:printed_step_needs_length"}
    assert len(unused) < 16, unused


def test_the_document_gives_the_three_cycle_in_full():
    with mp.workdps(three_cycle.DIGITS):
        digits = [mp.nstr(x, 25) for x in three_cycle.newton()[0]]
    lines = document.SOURCE.read_text(encoding="utf-8").splitlines()
    for name, number in zip(("y", "u_1", "u_2", "s"), digits, strict=True):
        assert f"- ${name} = {number}$" in lines


def test_the_documents_boxes_are_the_checks_own_words():
    row = {
        **{"statement": "x_1 ≤ g^PC", "reading": "", "verdict": "holds", "decided_by": ["z3"]},
        **{"sentence": "Because.", "checks": [], "counterexample": None},
    }
    text = "a\n<!-- judgement one -->\nearlier\n<!-- end -->\nb\n"
    found = document.filled(text, {"one": row})
    assert "earlier" not in found
    assert "x₁ ≤ gᴾᶜ" in found
    assert document.filled(found, {"one": row}) == found
    with pytest.raises(UserError, match="no judgement one"):
        document.filled(text, {})


def test_a_notebooks_page_needs_no_network_and_shows_no_raw_output(tmp_path):
    output = {"data": {"text/markdown": ["| a |\n|---|\n| $x_1$ |"], "text/plain": ["<object>"]}}
    cells = [
        {"cell_type": "markdown", "source": [r"# Title", "\n\n", r"$$\|g\|^2$$"]},
        {"cell_type": "code", "source": ["x = 1"], "outputs": [output]},
    ]
    notebook, page = tmp_path / "a.ipynb", tmp_path / "a.html"
    notebook.write_text(document.json.dumps({"cells": cells}))
    document.page(notebook, page)
    text = page.read_text(encoding="utf-8")
    assert text.count("<math") == 2
    assert "<table>" in text
    assert "<object>" not in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert len(text) < 20_000  # nbconvert's style sheet alone was 300 kB
