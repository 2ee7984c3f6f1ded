"""Corollary 1: the verdicts that follow from the counts of a report, and its rows of the overview table."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from proofs.attack import violations
from proofs.tally import verdict


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    """From the counts: samples, high dimensions, searches, exact examples."""
    wrong = {}
    for form in ("printed", "repaired"):
        found = sum(violations(rows) for rows in report["attack"][form].values())
        wrong[form] = report[form]["violations"] + report["large"][form]["violations"] + found
    wrong["repaired"] += sum(row["violations"] for row in report["dropped"]["idle_in_the_repaired_step"].values())
    examples = report["counterexamples"]
    steps, cycles = (sum(row["refutes"] for row in examples[name].values()) for name in ("step", "limit"))
    return {
        "corollary1_descent": verdict(wrong["printed"] + steps),
        "corollary1": verdict(report["limit"]["violations"] + cycles),
        "corollary1_descent_repaired": verdict(wrong["repaired"], repaired=True),
        "corollary1_descent_short": verdict(report["short"]["violations"], repaired=True),
        "corollary1_repaired": verdict(wrong["repaired"] + report["limit_repaired"]["violations"], repaired=True),
    }


def overview(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the overview table."""
    words, examples = report["verdicts"], report["counterexamples"]
    step, cycle = examples["step"], examples["limit"]["rational"]
    vectors = ", ".join(f"({', '.join(row)})" for row in step["exact"]["gradients"])
    rise = min(float(Fraction(x)) for x in step["exact"]["loss_after_minus_before"])
    lowest = step["float64"]["cos_g_gpc"][0]
    rising = f"g_i = {vectors}: the loss rises by {rise:.2f} or more, cos ≥ {lowest:.2f} in all 8 orders"
    alternating = f"s = {' ↔ '.join(cycle['s'])} for ever, L − L* = {cycle['loss_at_every_step']}, in every order"

    def row(statement: str, name: str, rests_on: str, margin: float | None, counterexample: str = "") -> dict[str, Any]:
        return {
            **{"statement": f"Corollary 1, {statement}", "verdict": words[name], "rests_on": rests_on},
            **{"smallest_margin": margin, "counterexample": counterexample},
        }

    def accepted(form: str) -> str:
        return f"{report[form]['accepted'] + report['large'].get(form, {'accepted': 0})['accepted']:,} instances"

    def ended(name: str) -> str:
        found = report[name]
        return f"{found['trajectories'] - found['unfinished']:,} of {found['trajectories']:,} trajectories ended"

    margins = {form: report[form]["smallest_margin"] for form in ("printed", "repaired", "short")}
    return [
        row(
            "step as printed: the loss does not rise",
            "corollary1_descent",
            accepted("printed"),
            margins["printed"],
            rising,
        ),
        row("limit as printed", "corollary1", f"proof; {ended('limit')}", None, alternating),
        row(
            "step with t ≤ g·gᴾᶜ/(L‖gᴾᶜ‖²)",
            "corollary1_descent_repaired",
            f"proof; {accepted('repaired')}",
            margins["repaired"],
        ),
        row(
            "step with ‖gᴾᶜ‖ ≤ ‖g‖ besides", "corollary1_descent_short", f"proof; {accepted('short')}", margins["short"]
        ),
        row(
            "limit with t = g·gᴾᶜ/(L‖gᴾᶜ‖²), bounded level sets",
            "corollary1_repaired",
            f"proof; {ended('limit_repaired')}",
            None,
        ),
    ]
