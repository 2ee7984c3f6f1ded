"""Tables and pictures of the notebook theorem1: drawn from the check's JSON, or from the formulas
themselves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from proofs.descent import escape
from proofs.pictures.common import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PLAIN,
    SURGERY,
    VERMILION,
    panels,
    table,
)
from proofs.problems import Problems, look


def descent_table(report: dict[str, Any]) -> str:
    """Markdown: Theorem 1's step per family, with scipy's opinion on L."""
    rows = {**report["descent"]["families"], "all": report["descent"]}
    columns = [
        "trials",
        "accepted",
        "skipped",
        "undecided",
        "violations",
        "smallest_margin",
        "L_by_scipy",
        "found_/_L",
    ]
    for name, row in report["lipschitz"].items():
        rows[name] |= {"L_by_scipy": row["instances"], "found_/_L": row["largest_found_over_L"]}
    return table(rows, columns)


def two_ends() -> Figure:
    """PCGrad and plain gradient descent from the same starts on two quadratics: where each of them
    ends.
    """
    figure, axes = panels(2, 4.2)
    pairs = ((-1.0, 0.6), (1.0, -0.5)), ((0.0, 0.0), (0.0, 0.0))
    titles = (
        "different minimizers: ends where $\\cos\\varphi = -1$",
        "one minimizer: ends at the optimum",
    )
    for ax, centers, title in zip(axes, pairs, titles, strict=True):
        a = torch.tensor([[[1.0, 0.0], [0.0, 2.5]], [[2.2, 1.0], [-0.3, 0.8]]], dtype=torch.float64)
        b = -(a @ torch.tensor(centers, dtype=torch.float64).unsqueeze(-1)).squeeze(-1)
        ones = torch.ones(1, 2, dtype=torch.float64)
        problems = Problems(
            "quadratic",
            a[None],
            b[None],
            ones[..., None].expand(1, 2, 2),
            ones,
            torch.tensor([2.0]),
        )
        x, y = np.meshgrid(np.linspace(-1.7, 1.7, 121), np.linspace(-1.3, 1.3, 101))
        grid = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2))
        level = problems[torch.zeros(len(grid), dtype=torch.int64)].loss(grid).reshape(x.shape)
        ax.contour(x, y, level, 18, colors=GRAY, linewidths=0.5, alpha=0.7)
        starts = ((-1.4, 1.0), (-0.6, -1.1), (1.4, 1.1))
        for k, start in enumerate(starts):
            for method, color in (("g", PLAIN), ("g_pc", SURGERY)):
                path = _path(problems, start, method)
                label = {"g": "gradient of the sum", "g_pc": "PCGrad"}[method] if k == 0 else None
                ax.plot(*path.T, color=color, lw=1.6, label=label)
                ax.plot(*path[-1], marker="*", ms=12, color=color, mec="black", mew=0.5, zorder=4)
        for name, place in zip(("min $L_1$", "min $L_2$"), centers, strict=True):
            ax.plot(*place, marker="x", color="black", zorder=5)
            if centers[0] != centers[1]:
                ax.annotate(name, place, xytext=(4, -11), textcoords="offset points", fontsize=8)
        ax.set(title=title, xlabel="$\\theta_1$", ylabel="$\\theta_2$")
    axes[0].legend(frameon=False, fontsize=8, loc="upper center")
    return figure


def _path(problems: Problems, start: tuple[float, float], method: str, updates: int = 200) -> Any:
    theta, step = torch.tensor([start], dtype=torch.float64), 0.25 / float(problems.lipschitz())
    points = [theta[0].numpy()]
    for _ in range(updates):
        theta = theta - step * getattr(look(problems, theta), method)
        points.append(theta[0].numpy())
    return np.array(points)


def ends_and_steps(report: dict[str, Any]) -> Figure:
    """How the trajectories of every family end, and what happens past t = 1 / L."""
    figure, (left, right) = panels(2)
    families = report["convergence"]["families"]
    names, base = [name.replace("_", " ") for name in families], np.zeros(len(families))
    for end, color in (
        ("opposite", ORANGE),
        ("optimum", GREEN),
        ("unfinished", GRAY),
        ("stalled", "black"),
    ):
        shares = np.array([row[end] / row["trajectories"] for row in families.values()])
        label = {"opposite": "$\\cos\\varphi\\to-1$"}.get(end, end)
        left.barh(names, shares, left=base, color=color, label=label)
        base += shares
    left.invert_yaxis()
    left.set(title="where trajectories end", xlabel="share of trajectories", xlim=(0, 1))
    left.legend(
        frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.16)
    )
    rows = report["without_step_bound"]["sampled"]
    steps = [row["t_times_L"] for row in rows]
    right.plot(
        steps,
        [row["bound_fails"] for row in rows],
        "o-",
        color=VERMILION,
        label="descent bound fails",
    )
    right.plot(steps, [row["loss_rises"] for row in rows], "s-", color=BLUE, label="loss rises")
    right.axvline(1, color="black", lw=0.8, ls="--")
    right.set(
        title="dropping $t \\leq 1/L$ (equal eigenvalues)",
        xlabel="$t\\,L$",
        ylabel="share of instances",
    )
    right.legend(frameon=False, fontsize=8)
    return figure


def walk_to_infinity(report: dict[str, Any], updates: int = 4000) -> Figure:
    """`escape.attained`: L attains its minimum on a ray; PCGrad walks along it, beside it, for
    ever.
    """
    figure, (left, right) = panels(2, 3.6)
    x, y = np.meshgrid(np.linspace(1.05, 10.5, 200), np.linspace(-0.25, 0.75, 160))
    left.contour(x, y, np.vectorize(lambda u, v: escape.height("attained", u, v, math))(x, y), 16, colors=GRAY,
                 linewidths=0.5, alpha=0.7)  # fmt: skip
    left.plot([1.05, 10.5], [0, 0], color=GREEN, lw=3, label="all minimizers of $L$")
    for method, color, label in (
        ("sum", PLAIN, "gradient of the sum"),
        ("pcgrad", SURGERY, "PCGrad"),
    ):
        path = _walk(method, updates)
        left.plot(*path.T, color=color, lw=1.6, label=label)
        left.plot(*path[-1], marker="*", ms=11, color=color, mec="black", mew=0.5)
    left.set(title="a convex $L$ with minimizers", xlabel="$x$", ylabel="$y$", ylim=(-0.25, 0.75))
    left.legend(frameon=False, fontsize=8)
    rows = report["counterexamples"]["attained"]["mpmath"]["walk"]
    steps = [row["updates"] for row in rows]
    shown = {"x": ("$x$", BLUE), "loss_above_infimum": ("$L - \\min L$", VERMILION), "one_plus_cos": (
        "$1 + \\cos\\varphi_{12}$", ORANGE)}  # fmt: skip
    for key, (label, color) in shown.items():
        right.loglog(steps, [float(row[key]) for row in rows], "o-", color=color, label=label)
    right.set(title="PCGrad in 50 digits", xlabel="updates")
    right.legend(frameon=False, fontsize=8)
    return figure


def _walk(method: str, updates: int) -> NDArray[np.float64]:
    x, y = (float(v) for v in escape.START["attained"])
    t = 1 / (2 * escape.CONSTANT["attained"])
    points = [(x, y)]
    for _ in range(updates):
        a, b = escape.slopes("attained", x, y, math)
        g = np.array([[a, b + y - 1], [a, b + y + 1]])
        product, squares = float(g[0] @ g[1]), (g**2).sum(1)
        weights = 1 - min(product, 0) / squares if method == "pcgrad" else np.ones(2)
        x, y = (float(v) for v in np.array([x, y]) - t * weights @ g)
        points.append((x, y))
    return np.array(points)


def longer_steps(report: dict[str, Any]) -> Figure:
    """Trajectories at steps past 1 / L: on how many the loss rises, and how many still end."""
    figure, axes = panels(2, 3.2)
    for ax, (family, rows) in zip(axes, report["longer_steps"].items(), strict=True):
        steps, count = [row["t_times_L"] for row in rows], rows[0]["trajectories"]
        ends = [(row["optimum"] + row["opposite"]) / count for row in rows]
        ax.plot(
            steps,
            [row["loss_rises"] / count for row in rows],
            "s-",
            color=VERMILION,
            label="the loss rises",
        )
        ax.plot(steps, ends, "o-", color=GREEN, label="ends as the theorem says")
        ax.plot(
            steps, [row["diverged"] / count for row in rows], "x-", color="black", label="diverges"
        )
        ax.axvline(1, color="black", lw=0.8, ls="--")
        ax.set(title=family, xlabel="$t\\,L$", ylim=(-0.03, 1.03))
    axes[0].set_ylabel(f"share of {count} trajectories")
    axes[1].legend(frameon=False, fontsize=8, loc="center left")
    return figure


def gaps_table(report: dict[str, Any]) -> str:
    """Markdown: how far from the optimum a trajectory may stop where the gradients oppose each
    other.
    """
    rows = {
        family: row["gap_at_opposite"] for family, row in report["convergence"]["families"].items()
    }
    return table(rows, list(next(iter(rows.values()))))
