"""Tables and pictures of the overview notebook, across statements."""

from __future__ import annotations

import csv
import math
from typing import Any

import mpmath as mp
import numpy as np
import torch
from matplotlib.figure import Figure

import pcgrad
from proofs.comparison.two_steps import opposing
from proofs.momentum import theorem4_examples as examples
from proofs.momentum.three_cycle import ONE, TWO, spectrum
from proofs.pictures.common import BLUE, ORANGE, PURPLE, VERMILION, folder, panels, table
from proofs.pictures.theorem2 import conditions
from proofs.problems import Point
from proofs.sampling import Array

STATEMENTS = (
    "theorem1",
    "opposite_points",
    "proposition1",
    "corollary1",
    "three_tasks",
    "theorem2",
    "theorem3",
    "theorem4",
)


def kill_table(report: dict[str, Any]) -> str:
    """Format the mutation test of the certificates as a Markdown table."""
    rows = []
    for name, key in (("identities", "identities_killed"), ("inequalities (z3)", "goals_killed")):
        found = report[key]
        counts = (found["mutants"], found["killed"], len(found["weaker"]), len(found["survivors"]))
        rows.append([name, *counts])
    headers = ("", "mutants", "no longer proved", "follow from the original")
    return table((*headers, "survive with a reason"), rows)


def conflicts_table(report: dict[str, Any]) -> str:
    """Format how often an update still conflicts with a task, for normal gradients."""
    keys = ("pcgrad", "projected", "plain")
    rows = [
        [row["tasks"], row["dimension"], *(f"{row[key]:.1%}" for key in keys)]
        for row in report["conflicts"]
    ]
    headers = ("tasks", "dimension", "PCGrad's update", "some projected gradient", "the plain sum")
    return table(headers, rows)


def conflict_path(method: str, network: str) -> dict[str, Array]:
    """Return Φ, ξ and cos φ of a typical conflict along Figure 4's runs, mean over seeds.

    The runs (`$PCGRAD_RESULTS/runs/triad/<method>/*/metrics.csv`) record the mean of Φ and, among
    the pairs in conflict, the median of ξ. cos φ is the cosine that belongs to both; it exists
    where ξ ≤ 1.

    Returns:
        Arrays by name; empty if the experiment was not run.
    """
    values: dict[str, dict[int, list[float]]] = {}
    for path in sorted((folder() / "runs" / "triad" / method).glob("*/metrics.csv")):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values.setdefault(row["metric"], {}).setdefault(int(row["step"]), []).append(
                    float(row["value"])
                )
    phi, xi = (
        values.get(f"{name}_{network}", {}) for name in ("magnitude_similarity", "xi_median")
    )
    steps = [
        step for step in sorted(phi) if step in xi and not np.isnan(xi[step] + phi[step]).any()
    ]
    if not steps:
        return {}
    mean_phi, mean_xi = (np.array([np.mean(of[step]) for step in steps]) for of in (phi, xi))
    # Φ = 2/(r + 1/r) solved for the ratio r ≥ 1 of the lengths.
    ratio = torch.from_numpy((1 + np.sqrt(1 - mean_phi**2)) / mean_phi)
    cos = np.where(mean_xi <= 1, opposing(ratio, torch.from_numpy(mean_xi)).numpy(), np.nan)
    return {"step": np.array(steps, dtype=float), "phi": mean_phi, "xi": mean_xi, "cos": cos}


def region_with_runs() -> Figure:
    """Draw where in (cos φ, Φ) Theorem 2's conditions can hold, and where Figure 4's runs are.

    The right panel shows the step that (c) requires along those runs.
    """
    figure, (left, right) = panels(2, 4.2)
    cos, phi, xi, a = conditions(np.geomspace(1e-5, 1, 400))
    left.contourf(cos, phi, a, [0.5, 1.5], colors=["#DDEAF4"])
    lines = left.contour(cos, phi, xi, [0.25, 0.5, 0.75, 0.9, 1.0], colors=VERMILION, linewidths=1)
    left.clabel(lines, fmt="$\\xi = %g$", fontsize=7, inline=False)
    looks = {("sac", "actor"): (BLUE, "o"), ("sac", "q1"): (PURPLE, "s"),
             ("sac_pcgrad", "actor"): (ORANGE, "o"),
             ("sac_pcgrad", "q1"): ("black", "s")}  # fmt: skip
    words = {"actor": "actor", "q1": "critic"}
    for (method, network), (color, marker) in looks.items():
        path = conflict_path(method, network)
        if path:
            name = (
                f"{method.replace('_', ' + ').upper().replace('PCGRAD', 'PCGrad')}, "
                f"{words[network]}"
            )
            left.plot(path["cos"], path["phi"], marker, color=color, ms=3, alpha=0.6, label=name)
            step = 2 / np.where(path["xi"] < 1, 1 - path["xi"], np.nan)
            right.plot(path["step"], step, marker, color=color, ms=3, alpha=0.7, label=name)
    left.set(
        yscale="log",
        xlabel="$\\cos\\varphi_{12}$ of a typical conflict",
        ylabel="$\\Phi(g_1, g_2)$",
    )
    left.set_title("blue: (a); left of $\\xi = \\ell/L$: (b)")
    right.axhline(2, color=VERMILION, lw=1)
    right.annotate(
        "$t = 2/L$: plain descent's limit",
        (0.02, 2.2),
        (0.02, 2.2),
        ("axes fraction", "data"),
        fontsize=8,
    )
    right.set(yscale="log", xlabel="collection", ylabel="$t\\,L$ that (c) asks for")
    right.set_title("(c) along Figure 4's runs, at best ($\\ell = L$)")
    for ax in (left, right):
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7, framealpha=0.9, loc="lower left" if ax is left else "upper right")
    return figure


def three_tasks() -> Figure:
    """Draw how far PCGrad overshoots with n tasks, and runs that never reach the optimum."""
    figure, (left, right) = panels(2, 3.8)
    for tasks, color in ((2, BLUE), (3, VERMILION), (5, ORANGE), (10, PURPLE)):
        c = np.linspace(-1 / (tasks - 1), 0, 100)
        left.plot(c, (1 - c) ** (tasks - 1), color=color, label=f"{tasks} tasks")
    left.axhline(2, color="black", lw=0.8, ls="--")
    left.annotate("above: the loss rises at $t = 1/L$", (-0.98, 2.04), fontsize=8)
    left.set(title="$g^{PC} = (1-c)^{n-1} g$ at equal angles", xlabel="$c$", ylabel="stretch")
    left.legend(frameon=False, fontsize=8)
    loss = _three_task_losses(40)
    flat = 36 * math.sqrt(2) - 48  # s²/6 at (1 − c)² = 2
    right.semilogy(loss["sum"], color=BLUE, label="gradient of the sum, $t = \\frac{1}{2L}$")
    right.semilogy(
        loss["pcgrad"], color=VERMILION, lw=0.8, label="PCGrad, random orders, $t = 1/L$"
    )
    right.axhline(flat, color="black", lw=0.8, ls="--", label="exact 2-cycle (every order)")
    right.set(title="three convex tasks, $\\cos(g, g^{PC}) \\geq 1/2$ throughout", xlabel="updates",
              ylabel="$L - L^*$", ylim=(1e-6, 20))  # fmt: skip
    right.legend(frameon=False, fontsize=8)
    return figure


def _three_task_losses(updates: int) -> dict[str, list[float]]:
    """L − L* of Lᵢ = s²/18 + uᵢ·θ from s = 2, s = Σ θ (`corollary1_cycle`)."""
    u = torch.tensor([[8.0, -4, -4], [-4, 8, -4], [-4, -4, 8]], dtype=torch.float64) / 3
    generator, found = torch.Generator().manual_seed(0), {}
    for method, step in (("pcgrad", 1.0), ("sum", 0.5)):
        theta, losses = torch.full((3,), 2 / 3, dtype=torch.float64), []
        for _ in range(updates):
            losses.append(float(theta.sum() ** 2 / 6))
            # Gradients of s²/18 + uᵢ·θ.
            g = u + theta.sum() / 9
            pull = g.sum(0)
            if method == "pcgrad":
                pull = Point.of(g[None], pcgrad.random_orders(3, generator)).g_pc[0]
            theta = theta - step * pull
        found[method] = losses
    return found


def two_cases(similarity: float = 0.5, curvature: float = 0.7) -> Figure:
    """Draw where Theorem 3's bound B(t) = t(Dt − N) says that PCGrad is no worse.

    There is one panel for each of two values of ℓ/L, at one Φ.
    """
    figure, (left, right) = panels(2, 3.8)
    for ax, ell in ((left, curvature), (right, 1.0)):
        cos, t = np.meshgrid(np.linspace(-0.999, -1e-3, 400), np.geomspace(0.03, 100, 400))
        # ‖g‖² in units of ‖g₁‖² + ‖g₂‖², like the numerator and the denominator of τ.
        together = 1 + similarity * cos
        numerator = cos * (cos + similarity)
        denominator = (together * ell - (1 - cos**2) * (1 - similarity * cos)) / 2
        ax.contourf(cos, t, denominator * t >= numerator, [0.5, 1.5], colors=["#F6D5C0"])
        tau = (numerator / denominator)[0]
        ax.plot(cos[0], np.where(tau > 0, tau, np.nan), color=VERMILION, label="$\\tau$")
        ax.axvline(-similarity, color=BLUE, lw=1)
        ax.axhline(2 / ell, color="black", lw=0.8, ls="--", label="$2/\\ell$")
        ax.annotate(
            "$\\cos\\varphi = -\\Phi$",
            (-similarity, 40),
            (4, 0),
            textcoords="offset points",
            color=BLUE,
        )
        ax.set(yscale="log", ylim=(0.03, 100), xlabel="$\\cos\\varphi_{12}$", ylabel="$t\\,L$")
        ax.set_title(f"$\\Phi = {similarity:g}$, $\\ell/L = {ell:g}$")
    left.annotate("case 2: $t \\geq \\tau$", (-0.99, 20), fontsize=8)
    left.annotate("case 1: $t \\leq \\tau$", (-0.42, 0.06), fontsize=9)
    left.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def momentum(steps: int = 120) -> Figure:
    """Draw Theorem 4's counterexamples.

    Left, a pair of quadratics on which the heavy ball diverges; right, the cycle on a piecewise
    quadratic.
    """
    figure, (left, right) = panels(2, 3.8)
    mu, top = spectrum(mp)
    start = mp.mpf(-11), mp.mpf(5)  # from rest
    gradients = examples.quadratics(ONE, TWO)
    rules = {
        "printed": ("$\\alpha_k$ as printed", ORANGE),
        "corrected": ("$\\alpha_k$ with its square", VERMILION),
    }
    for rule, (label, color) in rules.items():
        path = examples.orbit(gradients, mu, top, start, start, steps, rule)
        sizes = [mp.norm(theta) / mp.norm(start) for theta in path]
        left.plot([float(mp.log10(size)) for size in sizes], color=color, label=label)
    left.set(title="one minimizer, in conflict at every step", xlabel="updates", ylim=(-4, 8))
    left.set_ylabel("$\\log_{10}$ distance to the minimizer / first")
    left.legend(frameon=False, fontsize=8)
    x = np.linspace(-2.2, 2.6, 300)
    slope = np.array([examples.piecewise_slope(v) for v in x])
    right.plot(x, slope, color="black", lw=1.2, label="$f'$, between 1 and 25 steep")
    points = [theta[0] for theta in examples.piecewise_path()[:3]]
    for k, point in enumerate(points):
        place = (float(point), float(examples.piecewise_slope(point)))
        right.plot(*place, "o", color=VERMILION, ms=8)
        right.annotate(
            f"$\\theta_{k} = {point}$", place, (6, -12), textcoords="offset points", fontsize=8
        )
    right.set(
        title="$L_1 = L_2 = f/2$: the corrected method cycles", xlabel="$\\theta$", xlim=(-2.3, 3.4)
    )
    right.legend(frameon=False, fontsize=8)
    return figure
