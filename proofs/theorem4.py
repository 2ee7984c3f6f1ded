"""Theorem 4 (Yu et al. 2020, Appendix A.4): PCGrad with heavy-ball momentum on two strongly convex
tasks.

Problem class: L = L_1 + L_2, L_i mu_i-strongly convex and L_i-smooth.
Method:        theta_{k+1} = theta_k - alpha_k g^PC + beta_k (theta_k - theta_{k-1}), with R =
||g_1|| / ||g_2||,
               mu_k = (1 - c / R) mu_1 + (1 - c R) mu_2, L_k likewise, alpha_k = 4 / (sqrt L_k +
               sqrt mu_k) as printed, beta_k = max{|1 - sqrt(alpha_k mu_k)|, |1 - sqrt(alpha_k
               L_k)|}^2.
Guarantee:     theta_k converges linearly.

The formulas speak of conflict only; elsewhere g^PC = g and both weights are taken as 1
(`heavy_ball.py`).

**False as stated**, in four ways:
- the printed alpha_k is not scale-invariant: alpha_k L_k > 4 from some scale on, and the method
  diverges; below it the rate is not the stated one. With 4 / (sqrt L_k + sqrt mu_k)^2 it is
  (`identities_momentum`: `printed_step`, `corrected_step`);
- with that **corrected** alpha_k still false: the mean-value form lets the Hessian change with k,
  and a product of matrices of spectral radius rho need not shrink. Even without conflict there is a
  cycle of three points;
- and false for its best case, **quadratics** with one minimizer: the weights change with the
  direction of theta, and in the plane this suffices for exact cycles and for divergence, with L_i /
  mu_i = 361 in every task and at every k;
- without a common minimizer the method does not approach the minimizer of L at all: it settles
  where cos = -1.

**Repaired** (`theorem4_repair.py`): no momentum and alpha_k <= 2 / (L_k + mu_k) contract the
distance to a common minimizer by (L_k - mu_k) / (L_k + mu_k), for every strongly convex and smooth
pair; with momentum the stated rate holds up to a factor 1 + 2 k where the weights are constant, as
for quadratics whose Hessians commute.

References: Polyak (1964) for the method; Lessard, Recht and Packard, SIAM J. Optim. 26 (2016),
section 4.6, for the cycle; Nesterov, Introductory Lectures (2004), theorem 2.1.12, for the repair.
"""

from __future__ import annotations

from typing import Any

from proofs.momentum import (
    theorem4_attack,
    theorem4_dropped,
    theorem4_examples,
    theorem4_paths,
    theorem4_repair,
)
from proofs.momentum.heavy_ball import SLOPES
from proofs.momentum.theorem4_attack import DECADES
from proofs.momentum.theorem4_paths import CLASSES
from proofs.momentum.theorem4_repair import CONDITIONS, contraction, hypotheses, instances, trial
from proofs.tally import BrokenError, overview_row, total, verdict

__all__ = ["check", "contraction", "hypotheses", "instances", "trial"]
OF_QUADRATICS = ("quadratic_cycle", "quadratic_growth", "quadratic_from_rest", "always_in_conflict")


def trajectories(settings: dict[str, Any]) -> dict[str, Any]:
    """Trajectories by form of the statement: printed, quadratic (corrected), general (corrected,
    not quadratic).
    """
    count, updates, seed = settings["trajectories"], settings["updates"], settings["seed"]
    sample, half = theorem4_paths.sample, max(1, count // 2)
    forms = {
        "printed": {
            name: sample("printed", name, count, max(1, updates // 4), seed, "printed")
            for name in CLASSES
        },
        "quadratic": {name: sample("quadratic", name, count, updates, seed) for name in CLASSES},
        "general": {
            f"{shape}, {name}": sample(f"general/{shape}", name, half, updates, seed, shape=shape)
            for name in CLASSES
            for shape in ("log_cosh", "huber")
        },
    }
    return {form: {**theorem4_paths.sums(rows), "families": rows} for form, rows in forms.items()}


def repaired(settings: dict[str, Any]) -> dict[str, Any]:
    """The contraction on fresh instances, and both repairs along trajectories."""
    count, seed = settings["instances"], settings["seed"]
    families = {
        f"{shape}, {condition}{'' if conflict else ', no conflict'}": theorem4_repair.one_step(
            shape, condition, count if conflict else max(1, count // 4), seed, conflict=conflict
        ).report()
        for shape in SLOPES
        for condition in CONDITIONS
        for conflict in (True, False)
    }
    walked = {
        rule: {
            name: theorem4_repair.paths(name, settings["trajectories"], seed, rule).report()
            for name in CLASSES
        }
        for rule in ("gradient", "corrected")
    }
    return {
        "repaired": {**total(families), "families": families},
        "repaired_paths": {**total(walked["gradient"]), "families": walked["gradient"]},
        "momentum_paths": {**total(walked["corrected"]), "families": walked["corrected"]},
    }


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    """From the counts and the exact examples."""
    examples, found = report["counterexamples"], theorem4_attack.violations(report["attack"])
    printed = examples["printed_line"]["diverges"] + examples["printed_plane"]["refutes"]
    quadratic = sum(examples[name]["refutes"] for name in OF_QUADRATICS) + found["corrected"]
    quadratic += report["quadratic"]["violations"]
    high = sum(row["violations"] for row in report["large"].values())
    steps = (
        report["repaired"]["violations"]
        + report["repaired_paths"]["violations"]
        + found["repaired"]
        + high
    )
    return {
        "theorem4": verdict(report["printed"]["violations"] + printed),
        "theorem4_corrected": verdict(
            quadratic + examples["piecewise"]["refutes"] + report["general"]["violations"]
        ),
        "theorem4_quadratic": verdict(quadratic),
        "theorem4_repaired": verdict(steps, repaired=True),
        "theorem4_repaired_momentum": verdict(
            report["momentum_paths"]["violations"], repaired=True
        ),
    }


def fastest(report: dict[str, Any], *forms: str) -> dict[str, float]:
    """The smallest margin (minus the growth of log S per update): of quadratics, sampled or
    searched, and `forms`.
    """
    found = [
        row["smallest_margin"] for family in DECADES for row in report["attack"][family].values()
    ]
    return {
        "smallest_margin": min(
            m
            for m in (*found, *(report[form]["smallest_margin"] for form in ("quadratic", *forms)))
            if m is not None
        )
    }


def overview(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the overview table."""
    words, examples = report["verdicts"], report["counterexamples"]
    line, three, growth = (
        examples["printed_line"],
        examples["piecewise"],
        examples["quadratic_growth"],
    )
    rest = examples["quadratic_from_rest"]
    hessians = ", ".join(f"H{i + 1} = {h}" for i, h in enumerate(rest["hessians"]))

    def ended(form: str) -> str:
        found = report[form]
        return f"{found['accepted'] - found.get('unfinished', 0):,} of {found['accepted']:,} trajectories ended"

    diverges = f"{line['losses']}: θ = {', '.join(line['path'][:5])}, …"
    cycle = f"L₁ = L₂ = f/2, α = {three['alpha']}, β = {three['beta']}: θ = {' → '.join(three['path'][:4])}"
    factor = f"θ(k+2) = {growth['factor_of_two_steps']} θ(k) in rationals"
    pair = f"{hessians} from {tuple(rest['start'])}: × {rest['growth_per_step'][:6]} per step"
    high = sum(row["instances"] for row in report["large"].values())
    steps = f"proof; {report['repaired']['accepted'] + high:,} instances"
    rows = (
        ("theorem4", "Theorem 4 as printed", ended("printed"), report["printed"], diverges),
        ("theorem4_corrected", "Theorem 4 with α = 4/(√L + √μ)²", ended("general"), fastest(report, "general"), cycle),
        ("theorem4_quadratic", "Theorem 4 with α = 4/(√L + √μ)², quadratics with one minimizer",
         ended("quadratic"), fastest(report), f"{pair}; {factor}"),
        ("theorem4_repaired", "Theorem 4 without momentum, α ≤ 2/(L + μ)", steps, report["repaired"], ""),
        ("theorem4_repaired_momentum", "Theorem 4, α = 4/(√L + √μ)², quadratics with commuting Hessians",
         f"proof; {report['momentum_paths']['accepted']:,} trajectories", report["momentum_paths"], ""),
    )  # fmt: skip
    return [
        overview_row(words, name, statement, rests, found["smallest_margin"], example)
        for name, statement, rests, found, example in rows
    ]


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Theorem 4: trajectories, examples, searches, both repairs, dropped hypotheses."""
    seed, updates, examples = settings["seed"], settings["updates"], theorem4_examples.check()
    broken = [name for name, example in examples.items() if not example.get("refutes", True)]
    if broken:
        raise BrokenError(f"theorem4: {', '.join(broken)} refute nothing")
    report: dict[str, Any] = {
        **trajectories(settings),
        **repaired(settings),
        "large": theorem4_repair.large(seed, updates, settings["high_dimensions"]),
        "attack": theorem4_attack.search(seed, settings["search_rounds"]),
        "lipschitz": {
            shape: theorem4_repair.spectra(shape, settings["lipschitz_instances"], seed)
            for shape in SLOPES
        },
        "minimizers_apart": theorem4_paths.apart(settings["trajectories"], updates, seed),
        "dropped": theorem4_dropped.check(settings["instances"], seed),
        "counterexamples": examples,
    }
    report["verdicts"] = verdicts(report)
    return {**report, "overview": overview(report)}
