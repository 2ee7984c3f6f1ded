"""Tables and pictures of the notebook theorem1, from the checks' JSON or from the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from proofs import exact
from proofs.descent import escape
from proofs.opposite_points import largest_ratio
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
from proofs.problems import Problems, look, quadratics
from proofs.sampling import Array


def ends_table(report: dict[str, Any]) -> str:
    """Format how the trajectories of every family, and the walk, end."""
    names = ("optimum", "opposite", "walking", "unfinished", "stalled")
    rows = {**report["paths"]["families"], "the walk to infinity": report["walk"]}
    lines = [
        [name.replace("_", " "), row["trajectories"], *(row["ends"].get(end, 0) for end in names)]
        for name, row in rows.items()
    ]
    headers = ("family", "trajectories", "optimum", "cos φ = −1 at a location", "walking",
               "unfinished", "stand still elsewhere")  # fmt: skip
    return table(headers, lines)


def two_ends() -> Figure:
    """Draw where PCGrad and plain gradient descent end on two quadratics, from equal starts."""
    figure, axes = panels(2, 4.2)
    pairs = ((-1.0, 0.6), (1.0, -0.5)), ((0.0, 0.0), (0.0, 0.0))
    titles = (
        "different minimizers: ends where $\\cos\\varphi = -1$",
        "one minimizer: ends at the optimum",
    )
    for ax, centers, title in zip(axes, pairs, titles, strict=True):
        a = torch.tensor([[[1.0, 0.0], [0.0, 2.5]], [[2.2, 1.0], [-0.3, 0.8]]], dtype=torch.float64)
        b = -(a @ torch.tensor(centers, dtype=torch.float64).unsqueeze(-1)).squeeze(-1)
        problems = quadratics(a[None], b[None])
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


def _path(problems: Problems, start: tuple[float, float], method: str, updates: int = 200) -> Array:
    # A quarter of 1/L draws a smooth path.
    theta, step = torch.tensor([start], dtype=torch.float64), 0.25 / float(problems.lipschitz())
    points = [theta[0].numpy()]
    for _ in range(updates):
        theta = theta - step * getattr(look(problems, theta), method)
        points.append(theta[0].numpy())
    return np.array(points)


def walk_to_infinity(report: dict[str, Any], updates: int = 4000) -> Figure:
    """Draw PCGrad's walk to infinity along the ray on which L attains its minimum.

    The walk never reaches the ray.
    """
    figure, (left, right) = panels(2, 3.6)
    x, y = np.meshgrid(np.linspace(1.05, 10.5, 200), np.linspace(-0.25, 0.75, 160))
    left.contour(x, y, np.vectorize(lambda u, v: escape.height(u, v, math))(x, y), 16,
                 colors=GRAY, linewidths=0.5, alpha=0.7)  # fmt: skip
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
    rows = report["escape"]["attained"]["mpmath"]["walk"]
    steps = [row["updates"] for row in rows]
    shown = {"x": ("$x$", BLUE), "loss_above_infimum": ("$L - \\min L$", VERMILION),
             "one_plus_cos": ("$1 + \\cos\\varphi_{12}$", ORANGE)}  # fmt: skip
    for key, (label, color) in shown.items():
        right.loglog(steps, [float(row[key]) for row in rows], "o-", color=color, label=label)
    right.set(title="PCGrad in 50 digits", xlabel="updates")
    right.legend(frameon=False, fontsize=8)
    return figure


def _walk(method: str, updates: int) -> Array:
    points: list[exact.Vector] = [tuple(map(float, escape.START))]
    for _ in range(updates):
        x, y = points[-1]
        pair = escape.gradients(x, y, math)
        pull = exact.update(pair) if method == "pcgrad" else exact.add(*pair)
        points.append(exact.add(points[-1], exact.scale(-1 / (2 * escape.CONSTANT), pull)))
    return np.array(points)


def attracting(report: dict[str, Any]) -> Figure:
    """Draw the ends of trajectories against the condition r + 1/r < 4/(tL) − 2."""
    figure, (left, right) = panels(2, 3.6)
    rows, t = report["attraction"], np.linspace(0.2, 1, 200)
    largest = largest_ratio(t)
    left.fill_between(t, 1, largest, color="#DDEAF4", label="attracts: $r + 1/r < 4/(tL) - 2$")
    left.plot(t, largest, color=BLUE, lw=1.6)
    for k, row in enumerate(rows):
        ratios = np.array(row["ratios"])
        place = np.full(len(ratios), row["step"])
        left.plot(
            place, ratios, "_", color=VERMILION, ms=9, label=None if k else "ends (percentiles)"
        )
    left.set(yscale="log", xlabel="$t\\,L$", ylabel="$r$, larger length / smaller", ylim=(0.95, 25))
    left.set(title="equal isotropic Hessians")
    left.legend(frameon=False, fontsize=8)
    predicted = [row["predicted_largest_ratio"] for row in rows]
    observed = [row["observed_largest_ratio"] for row in rows]
    right.loglog([1, 20], [1, 20], color="black", lw=0.8)
    right.loglog(predicted, observed, "o", color=VERMILION)
    for row in rows:
        end = (row["predicted_largest_ratio"], row["observed_largest_ratio"])
        text = f"$tL = {row['step']:g}$"
        # Right of the first point, which is next to the axis, and otherwise below the diagonal.
        beside = (9, -3) if end[0] == min(predicted) else (6, -10)
        right.annotate(text, end, beside, textcoords="offset points", fontsize=8)
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter("{x:g}")
    left.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    right.set(title="largest ratio at which they stop", xlabel="formula", ylabel="simulated")
    return figure


def noise(report: dict[str, Any]) -> Figure:
    """Draw the drift along the front under minibatch noise, and the points of rest."""
    figure, (left, right) = panels(2, 3.6)
    for k, row in enumerate(report["drifts"]):
        label = f"$a={row['a']:g}, b={row['b']:g}, d={row['dimension']}$"
        error = 2 * row["standard_error"]
        left.errorbar(row["formula"], row["simulated"], yerr=error, fmt="o", ms=5, label=label,
                      color=(BLUE, VERMILION, GREEN, ORANGE)[k % 4])  # fmt: skip
    # The limits are read before the diagonal, which would change them.
    low, high = left.get_xlim()
    left.plot([low, high], [low, high], color="black", lw=0.8)
    left.axhline(0, color=GRAY, lw=0.6)
    left.set(
        title="mean of $u\\cdot g^{PC}$", xlabel="formula", ylabel="simulated ± 2 standard errors"
    )
    left.legend(frameon=False, fontsize=7)
    rows = report["rests"]
    ratio = np.geomspace(0.2, 5, 100)
    right.loglog(ratio, ratio ** (2 / 3), color=VERMILION, label="$(\\eta_1/\\eta_2)^{2/3}$")
    places = [row["noise_ratio"] for row in rows]
    right.loglog(
        places, [row["simulated"] for row in rows], "o", color=VERMILION, label="PCGrad at rest"
    )
    right.loglog(places, [row["plain"] for row in rows], "s", color=BLUE, label="SGD at rest")
    right.axhline(1, color="black", lw=0.8, ls="--")
    right.annotate("the optimum, $a = b$", (0.21, 1.05), fontsize=8)
    right.set_xticks(places, [f"{place:g}" for place in places])
    right.set_yticks([0.4, 0.6, 1.0, 1.6, 2.5], ["0.4", "0.6", "1", "1.6", "2.5"])
    right.minorticks_off()
    right.set(title="where the iterates come to rest", xlabel="$\\eta_1/\\eta_2$", ylabel="$a / b$")
    right.legend(frameon=False, fontsize=8)
    return figure


def gaps_table(report: dict[str, Any]) -> str:
    """Format how far from the optimum trajectories stop at opposite gradients."""
    families = report["paths"]["families"]
    names = list(next(iter(families.values()))["gap_at_opposite"])
    rows = [
        [name.replace("_", " "), *(row["gap_at_opposite"].get(q) for q in names)]
        for name, row in families.items()
    ]
    return table(("family", *names), rows)
