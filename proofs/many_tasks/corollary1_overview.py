"""Corollary 1: the verdicts that follow from the counts of a report, and its rows of the overview
table.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from proofs.attack import violations
from proofs.tally import overview_row, verdict


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    """From the counts: samples, high dimensions, searches, exact examples."""
    wrong = {}
    for form in ("printed", "repaired"):
        found = sum(violations(rows) for rows in report["attack"][form].values())
        wrong[form] = report[form]["violations"] + report["large"][form]["violations"] + found
    wrong["repaired"] += sum(
        row["violations"] for row in report["dropped"]["idle_in_the_repaired_step"].values()
    )
    examples = report["counterexamples"]
    steps, cycles = (
        sum(row["refutes"] for row in examples[name].values()) for name in ("step", "limit")
    )
    return {
        "corollary1_descent": verdict(wrong["printed"] + steps),
        "corollary1": verdict(report["limit"]["violations"] + cycles),
        "corollary1_descent_repaired": verdict(wrong["repaired"], repaired=True),
        "corollary1_descent_short": verdict(report["short"]["violations"], repaired=True),
        "corollary1_repaired": verdict(
            wrong["repaired"] + report["limit_repaired"]["violations"], repaired=True
        ),
    }


def overview(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the overview table."""
    words, examples = report["verdicts"], report["counterexamples"]
    step, cycle = examples["step"], examples["limit"]["rational"]
    vectors = ", ".join(f"({', '.join(row)})" for row in step["exact"]["gradients"])
    rise = min(float(Fraction(x)) for x in step["exact"]["loss_after_minus_before"])
    lowest = step["float64"]["cos_g_gpc"][0]
    rising = (
        f"g_i = {vectors}: the loss rises by {rise:.2f} or more, cos ≥ {lowest:.2f} in all 8 orders"
    )
    alternating = f"s = {' ↔ '.join(cycle['s'])} for ever, L − L* = {cycle['loss_at_every_step']}, in every order"

    def accepted(form: str) -> str:
        return f"{report[form]['accepted'] + report['large'].get(form, {'accepted': 0})['accepted']:,} instances"

    def ended(name: str) -> str:
        found = report[name]
        return f"{found['trajectories'] - found['unfinished']:,} of {found['trajectories']:,} trajectories ended"

    margins = {form: report[form]["smallest_margin"] for form in ("printed", "repaired", "short")}
    short = "Corollary 1, step with t ≤ g·gᴾᶜ/(L‖gᴾᶜ‖²)"
    limit = "Corollary 1, limit with t = g·gᴾᶜ/(L‖gᴾᶜ‖²), bounded level sets"
    rows = (
        ("corollary1_descent", "Corollary 1, step as printed: the loss does not rise", accepted("printed"),
         margins["printed"], rising),
        ("corollary1", "Corollary 1, limit as printed", f"proof; {ended('limit')}", None, alternating),
        ("corollary1_descent_repaired", short, f"proof; {accepted('repaired')}", margins["repaired"]),
        ("corollary1_descent_short", "Corollary 1, step with ‖gᴾᶜ‖ ≤ ‖g‖ besides", f"proof; {accepted('short')}",
         margins["short"]),
        ("corollary1_repaired", limit, f"proof; {ended('limit_repaired')}"),
    )  # fmt: skip
    return [overview_row(words, *cells) for cells in rows]
