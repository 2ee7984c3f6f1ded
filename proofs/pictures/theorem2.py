"""Tables and pictures of the notebook theorem2, from the checks' JSON or from the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import pcgrad
from proofs.comparison.counterexample import EXAMPLES, task_losses
from proofs.pictures.common import BLUE, COLORS, GRAY, PLAIN, SURGERY, VERMILION, panels, table
from proofs.problems import Point
from proofs.sampling import Array


def counterexample_picture() -> Figure:
    """Draw both exact counterexamples: the loss along the plain step, and level sets."""
    figure, (left, right) = panels(2, 4.0)
    _, t = (float(x) for x in EXAMPLES["one_dimension"])
    x = np.linspace(-0.6, 2.9, 200)
    left.plot(x, [sum(task_losses(v, 0.0, 0.0, t)) for v in x], color="black", lw=1.6, label="$L$")
    a = np.linspace(0, t, 50)
    left.plot(
        a, -a + a**2 / 2, color=GRAY, ls="--", label="parabola of the printed proof, $\\ell = 1$"
    )
    left.plot(0, 0, "o", color=SURGERY, ms=9, label="PCGrad stays: 0")
    plain = sum(task_losses(t, 0.0, 0.0, t))
    left.plot(t, plain, "o", color=PLAIN, ms=9, label=f"plain step: {plain:.3f}")
    left.annotate(
        "", (t, plain), (0, 0), arrowprops={"arrowstyle": "->", "color": PLAIN, "lw": 1.2}
    )
    left.set(title="one dimension, $\\cos\\varphi = -1$", xlabel="$\\theta$", ylabel="$L(\\theta)$")
    left.legend(frameon=False, fontsize=8, loc="upper center")

    delta, t = (float(x) for x in EXAMPLES["plane"])
    point = Point.of(torch.tensor([[[-2.0, delta], [1.0, delta]]], dtype=torch.float64))
    x, y = np.meshgrid(np.linspace(-0.4, 2.7, 160), np.linspace(-0.62, 0.12, 120))
    level = np.vectorize(lambda u, v: sum(task_losses(u, v, delta, t)))(x, y)
    heights = np.arange(-0.8, 1.01, 0.1)
    lines = right.contour(x, y, level, heights, colors=GRAY, linewidths=0.6)
    right.clabel(lines, heights[::2], fontsize=7, fmt="%.1f")
    for step, color, name in ((point.g, PLAIN, "plain step"), (point.g_pc, SURGERY, "PCGrad")):
        end: tuple[Any, Any] = tuple(-t * step[0].numpy())
        value = sum(task_losses(end[0], end[1], delta, t))
        right.annotate("", end, (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6})
        right.plot(*end, "o", color=color, ms=7, label=f"{name}: $L = {value:.3f}$")
    right.plot(0, 0, "o", color="black", ms=6, label="start: $L = 0$")
    right.set(title="the plane, $-1 < \\cos\\varphi < 0$", xlabel="$x$", ylabel="$y$")
    right.legend(fontsize=8, loc="lower right", framealpha=1)
    return figure


def conditions(phi: Array) -> tuple[Array, Array, Array, Array]:
    """Return cos φ, Φ, ξ and whether (a) holds on a grid with the given values of Φ."""
    cos, phi = np.meshgrid(np.linspace(-1, -1e-3, 400), phi)
    ratio = (1 + np.sqrt(1 - phi**2)) / phi  # ‖g₁‖/‖g₂‖ ≥ 1
    entries = np.stack([ratio**2, ratio * cos, ratio * cos, np.ones_like(cos)], -1)
    gram = torch.from_numpy(entries).unflatten(-1, (2, 2))
    xi, a = pcgrad.curvature_bounding_measure(gram), pcgrad.condition_a(gram)
    return cos, phi, xi[..., 0, 1].numpy(), a[..., 0, 1].numpy()


def region() -> Figure:
    """Draw where in (cos φ, Φ) condition (a) holds, and ξ ≤ ℓ/L, which (b) requires."""
    figure, (ax, right) = panels(2, 4.2)
    cos, phi, xi, a = conditions(np.linspace(1e-3, 1, 400))
    ax.contourf(cos, phi, a, [0.5, 1.5], colors=["#DDEAF4"])
    ax.contourf(cos, phi, xi, [0, 1], colors=["#F6D5C0"])
    lines = ax.contour(cos, phi, xi, [0.1, 0.25, 0.5, 1.0], colors=VERMILION, linewidths=1.2)
    ax.clabel(lines, fmt="$\\xi = %g$", fontsize=8)
    ax.plot([-1, 0], [1, 0], color=BLUE, lw=1.6)
    ax.annotate("(a): $\\cos\\varphi \\leq -\\Phi$", (-0.36, 0.5), color=BLUE, fontsize=9)
    ax.annotate("(b): $\\xi \\leq \\ell/L \\leq 1$", (-0.36, 0.62), color=VERMILION, fontsize=9)
    ax.set(
        title="(b) implies (a): (a) is idle",
        xlabel="$\\cos\\varphi_{12}$",
        ylabel="$\\Phi(g_1, g_2)$",
    )
    # (c) has no step where ξ ≥ ℓ/L.
    needed = np.where(xi < 0.5, 2 / np.maximum(0.5 - xi, 1e-9), np.nan)
    image = right.contourf(
        cos, phi, np.log10(needed), np.linspace(0.6, 2, 15), cmap="viridis", extend="max"
    )
    bar = figure.colorbar(image, ax=right, ticks=[0.6, 1, 1.5, 2])
    bar.ax.set_yticklabels(["4", "10", "32", "100"])
    bar.set_label("$t\\,L$ that (c) asks for")
    right.set(
        title="(c) at $\\ell = L/2$: never below $t = 4/L$",
        xlabel="$\\cos\\varphi_{12}$",
        ylabel="$\\Phi(g_1, g_2)$",
    )
    return figure


def coverage(report: dict[str, Any]) -> Figure:
    """Draw, by family, how often PCGrad's step is no worse and how often (a)–(c) hold."""
    figure, (left, right) = panels(2, 3.4)
    for color, (family, rows) in zip(COLORS, report["coverage"].items(), strict=True):
        steps, name = [row["step"] for row in rows], family.replace("_", " ")
        left.semilogx(
            steps, [row["no_worse"] for row in rows], "o-", color=color, label=name, base=2
        )
        covered = [100 * row["printed"] for row in rows]
        right.semilogx(steps, covered, "o-", color=color, label=name, base=2)
        sharp = [100 * row["theorem_c"] for row in rows]
        right.semilogx(steps, sharp, ":", color=color, base=2)
    left.set(title="PCGrad's step is no worse", xlabel="$t\\,L$", ylabel="share of conflicts")
    left.set(ylim=(-0.02, 1.02))
    right.set(
        title="(a)–(c) hold; dotted: with $\\ell^2/L$", xlabel="$t\\,L$", ylabel="% of conflicts"
    )
    right.axvline(2, color="black", lw=0.8, ls="--")
    right.legend(frameon=False, fontsize=7)
    return figure


def coverage_table(report: dict[str, Any]) -> str:
    """Format the coverage by family at the step where it is largest."""
    rows = []
    for family, steps in report["coverage"].items():
        best = max(steps, key=lambda row: row["printed"])
        shares = (best["printed"], best["theorem_c"], best["remainder"], best["no_worse"])
        rows.append([family.replace("_", " "), best["step"], *(f"{x:.1%}" for x in shares)])
    headers = ("family", "t L", "(a)–(c) as printed", "with ℓ²/L", "with the exact remainder",
               "PCGrad's step is no worse")  # fmt: skip
    return table(headers, rows)
