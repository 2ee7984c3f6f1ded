"""Tables and pictures of the notebooks: drawn from the checks' JSON, or from the formulas themselves.

The results lie in `$PCGRAD_RESULTS/proofs/*.json` (default: results/quick of this checkout).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import pcgrad
from proofs.counterexample import EXAMPLES, exact, task_losses
from proofs.problems import Problems, look

BLUE, VERMILION, GREEN, ORANGE, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#7F7F7F"
PLAIN, SURGERY = BLUE, VERMILION  # the sum of the losses, and PCGrad
ROOT = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """The results that the notebooks show."""
    return Path(os.environ.get("PCGRAD_RESULTS", ROOT / "results" / "quick"))


def results(statement: str) -> dict[str, Any]:
    """The JSON of a statement; FileNotFoundError names the command that makes it."""
    path = folder() / "proofs" / f"{statement}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run `snakemake theory`, or set PCGRAD_RESULTS to a results folder")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(rows: dict[str, dict[str, Any]], columns: Sequence[str]) -> str:
    """Markdown: one line per key of `rows`."""
    lines = [["", *(column.replace("_", " ") for column in columns)], ["---"] + ["---:"] * len(columns)]
    lines += [
        [name.replace("_", " "), *(markdown_cell(row.get(column)) for column in columns)] for name, row in rows.items()
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_cell(value: Any) -> str:
    """A value as a reader likes it: thousands in groups, three digits, a dash for none."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)


def identities_table(report: dict[str, Any], names: Sequence[str]) -> str:
    """Markdown: the named identities as formulas, with what they say."""
    found = {row["name"]: row for row in report["identities"]}
    return "\n\n".join(f"**{name}.** {found[name]['says']}\n\n$${found[name]['latex']}$$" for name in names)


def verdicts(*reports: dict[str, Any]) -> str:
    """Markdown: scale, seed and the verdicts of one or several statements."""
    found = {name: verdict for report in reports for name, verdict in report["verdicts"].items()}
    listed = ", ".join(f"{name.replace('_', ' ')} **{verdict}**" for name, verdict in found.items())
    return f"Scale **{reports[0]['scale']}**, seed {reports[0]['settings']['seed']}. Verdicts: {listed}."


def descent_table(report: dict[str, Any]) -> str:
    """Markdown: Theorem 1's step per family, with scipy's opinion on L."""
    rows = {**report["descent"]["families"], "all": report["descent"]}
    columns = ["trials", "accepted", "skipped", "undecided", "violations", "smallest_margin", "L_by_scipy", "found_/_L"]
    for name, row in report["lipschitz"].items():
        rows[name] |= {"L_by_scipy": row["instances"], "found_/_L": row["largest_found_over_L"]}
    return table(rows, columns)


def counterexample_table(report: dict[str, Any]) -> str:
    """Markdown: both exact counterexamples, one line per quantity."""
    examples = {name: row for name, row in report["counterexamples"].items() if name in EXAMPLES}
    lines: dict[str, dict[str, Any]] = {}
    for name, row in examples.items():
        printed, repaired = (row["exact"]["hypotheses"][form] for form in ("uniform", "remainder"))
        for key in ("delta", "t", "L", "xi", "cos_squared", "loss_after_plain_step", "loss_after_pcgrad"):
            lines.setdefault(key, {})[name] = row["exact"][key]
        lines.setdefault("l as printed", {})[name] = row["exact"]["l"]["uniform"]
        lines.setdefault("hypotheses as printed hold", {})[name] = all(printed.values())
        lines.setdefault("(c) holds with the repaired H", {})[name] = repaired["c"]
        lines.setdefault("PCGrad's excess loss, by mpmath", {})[name] = row["mpmath"]["excess_loss_of_pcgrad"]
    return table(lines, list(examples))


def panels(columns: int, height: float = 3.6) -> tuple[Figure, Sequence[Axes]]:
    """A row of panels."""
    figure, axes = plt.subplots(1, columns, figsize=(4.9 * columns, height), layout="constrained", squeeze=False)
    for ax in axes[0]:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[0])


def two_ends() -> Figure:
    """PCGrad and plain gradient descent from the same starts on two quadratics: where each of them ends."""
    figure, axes = panels(2, 4.2)
    pairs = ((-1.0, 0.6), (1.0, -0.5)), ((0.0, 0.0), (0.0, 0.0))
    titles = "different minimizers: ends where $\\cos\\varphi = -1$", "one minimizer: ends at the optimum"
    for ax, centers, title in zip(axes, pairs, titles, strict=True):
        a = torch.tensor([[[1.0, 0.0], [0.0, 2.5]], [[2.2, 1.0], [-0.3, 0.8]]], dtype=torch.float64)
        b = -(a @ torch.tensor(centers, dtype=torch.float64).unsqueeze(-1)).squeeze(-1)
        ones = torch.ones(1, 2, dtype=torch.float64)
        problems = Problems("quadratic", a[None], b[None], ones[..., None].expand(1, 2, 2), ones, torch.tensor([2.0]))
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


def margins(parts: dict[str, dict[str, Any]], unit: str) -> Figure:
    """Histograms of the margins of every family; bars left of the dashed line are violations."""
    figure, axes = panels(len(parts))
    for ax, (title, report) in zip(axes, parts.items(), strict=True):
        for k, (family, row) in enumerate(report["families"].items()):
            bins, counts = np.array(row["margins"]["log10_bins"]), np.array(row["margins"]["counts"])
            color = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GRAY)[k]
            ax.step(
                bins, counts[:-1] / row["accepted"], where="pre", color=color, lw=1.3, label=family.replace("_", " ")
            )
            ax.bar(bins[0] - 2.2 + 0.27 * k, row["violations"] / row["accepted"], width=0.27, color=color)
        ax.axvline(bins[0] - 0.5, color="black", lw=0.8, ls="--")
        ax.set_xticks([bins[0] - 1.5, -4, -2, 0, 2], ["violated", "$10^{-4}$", "$10^{-2}$", "1", "100"])
        ax.set(title=f"{title}: {report['violations']:,} of {report['accepted']:,} violate", xlabel=f"margin / {unit}")
        ax.set_ylim(bottom=0)
    axes[0].set_ylabel("share of accepted instances")
    axes[-1].legend(frameon=False, fontsize=8)
    return figure


def ends_and_steps(report: dict[str, Any]) -> Figure:
    """How the trajectories of every family end, and what happens past t = 1 / L."""
    figure, (left, right) = panels(2)
    families = report["convergence"]["families"]
    names, base = [name.replace("_", " ") for name in families], np.zeros(len(families))
    for end, color in (("opposite", ORANGE), ("optimum", GREEN), ("unfinished", GRAY), ("stalled", "black")):
        shares = np.array([row[end] / row["trajectories"] for row in families.values()])
        label = {"opposite": "$\\cos\\varphi\\to-1$"}.get(end, end)
        left.barh(names, shares, left=base, color=color, label=label)
        base += shares
    left.invert_yaxis()
    left.set(title="where trajectories end", xlabel="share of trajectories", xlim=(0, 1))
    left.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.16))
    rows = report["without_step_bound"]["sampled"]
    steps = [row["t_times_L"] for row in rows]
    right.plot(steps, [row["bound_fails"] for row in rows], "o-", color=VERMILION, label="descent bound fails")
    right.plot(steps, [row["loss_rises"] for row in rows], "s-", color=BLUE, label="loss rises")
    right.axvline(1, color="black", lw=0.8, ls="--")
    right.set(title="dropping $t \\leq 1/L$ (equal eigenvalues)", xlabel="$t\\,L$", ylabel="share of instances")
    right.legend(frameon=False, fontsize=8)
    return figure


def counterexample_picture() -> Figure:
    """Both exact counterexamples: the loss along the plain step with the proof's parabola, and the level sets."""
    figure, (left, right) = panels(2, 4.0)
    _, t = (float(x) for x in EXAMPLES["one_dimension"])
    x = np.linspace(-0.6, 2.9, 200)
    left.plot(x, [sum(task_losses(v, 0.0, 0.0, t)) for v in x], color="black", lw=1.6, label="$L$")
    a = np.linspace(0, t, 50)
    left.plot(a, -a + a**2 / 2, color=GRAY, ls="--", label="parabola of the printed proof, $\\ell = 1$")
    ends = exact("one_dimension")
    left.plot(0, 0, "o", color=SURGERY, ms=9, label=f"PCGrad stays: {ends['loss_after_pcgrad']}")
    plain = sum(task_losses(t, 0.0, 0.0, t))
    left.plot(t, plain, "o", color=PLAIN, ms=9, label=f"plain step: {ends['loss_after_plain_step']}")
    left.annotate("", (t, plain), (0, 0), arrowprops={"arrowstyle": "->", "color": PLAIN, "lw": 1.2})
    left.set(title="one dimension, $\\cos\\varphi = -1$", xlabel="$\\theta$", ylabel="$L(\\theta)$")
    left.legend(frameon=False, fontsize=8, loc="upper center")

    delta, t = (float(x) for x in EXAMPLES["plane"])
    g1, g2 = np.array([-2.0, delta]), np.array([1.0, delta])
    pair = torch.from_numpy(np.stack([g1, g2]))
    weights = pcgrad.surgery_coefficients(pair @ pair.mT, pcgrad.fixed_orders(2)).sum(-2).numpy()
    x, y = np.meshgrid(np.linspace(-0.4, 2.7, 160), np.linspace(-0.62, 0.12, 120))
    level = np.vectorize(lambda u, v: sum(task_losses(u, v, delta, t)))(x, y)
    heights = np.arange(-0.8, 1.01, 0.1)
    lines = right.contour(x, y, level, heights, colors=GRAY, linewidths=0.6)
    right.clabel(lines, heights[::2], fontsize=7, fmt="%.1f")
    steps: tuple[tuple[Any, str, str], ...] = (
        (g1 + g2, PLAIN, "plain step"),
        (weights @ np.stack([g1, g2]), SURGERY, "PCGrad"),
    )
    for step, color, name in steps:
        end = -t * step
        value = sum(task_losses(end[0], end[1], delta, t))
        right.annotate("", end, (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6})
        right.plot(*end, "o", color=color, ms=7, label=f"{name}: $L = {value:.3f}$")
    right.plot(0, 0, "o", color="black", ms=6, label="start: $L = 0$")
    right.set(title="the plane, $-1 < \\cos\\varphi < 0$", xlabel="$x$", ylabel="$y$")
    right.legend(fontsize=8, loc="lower right", framealpha=1)
    return figure


def region() -> Figure:
    """Where in (cos, Phi) condition (a) holds, and xi <= l / L, which (b) asks for."""
    figure, (ax, right) = panels(2, 4.2)
    cos, phi = np.meshgrid(np.linspace(-1, -1e-3, 400), np.linspace(1e-3, 1, 400))
    ratio = (1 + np.sqrt(1 - phi**2)) / phi  # ||g_1|| / ||g_2|| >= 1
    entries = np.stack([ratio**2, ratio * cos, ratio * cos, np.ones_like(cos)], -1)
    gram = torch.from_numpy(entries).unflatten(-1, (2, 2))
    xi = pcgrad.curvature_bounding_measure(gram)[..., 0, 1].numpy()
    a = pcgrad.condition_a(gram)[..., 0, 1].numpy()
    ax.contourf(cos, phi, a, [0.5, 1.5], colors=["#DDEAF4"])
    ax.contourf(cos, phi, xi, [0, 1], colors=["#F6D5C0"])
    lines = ax.contour(cos, phi, xi, [0.1, 0.25, 0.5, 1.0], colors=VERMILION, linewidths=1.2)
    ax.clabel(lines, fmt="$\\xi = %g$", fontsize=8)
    ax.plot([-1, 0], [1, 0], color=BLUE, lw=1.6)
    ax.annotate("(a): $\\cos\\varphi \\leq -\\Phi$", (-0.36, 0.5), color=BLUE, fontsize=9)
    ax.annotate("(b): $\\xi \\leq \\ell/L \\leq 1$", (-0.36, 0.62), color=VERMILION, fontsize=9)
    ax.set(title="(b) lies inside (a): (a) is idle", xlabel="$\\cos\\varphi_{12}$", ylabel="$\\Phi(g_1, g_2)$")
    needed = np.where(xi < 0.5, 2 / np.maximum(0.5 - xi, 1e-9), np.nan)
    image = right.contourf(cos, phi, np.log10(needed), np.linspace(0.6, 2, 15), cmap="viridis", extend="max")
    bar = figure.colorbar(image, ax=right, ticks=[0.6, 1, 1.5, 2])
    bar.ax.set_yticklabels(["4", "10", "32", "100"])
    bar.set_label("$t\\,L$ that (c) asks for")
    right.set(
        title="(c) at $\\ell = L/2$: never below $t = 4/L$", xlabel="$\\cos\\varphi_{12}$", ylabel="$\\Phi(g_1, g_2)$"
    )
    return figure


def dropped(report: dict[str, Any]) -> Figure:
    """Theorem 2 without (c) and without (b): how often the guarantee fails."""
    figure, (left, right) = panels(2, 3.2)
    rows = report["without_c"]
    part = [row["part_of_step"] for row in rows]
    left.plot(part, [row["guarantee_fails"] for row in rows], "o-", color=VERMILION)
    left.set(
        title="dropping (c)", xlabel="step / shortest step of (c)", ylabel="share that violates", ylim=(-0.03, 1.03)
    )
    rows = report["without_b"]
    right.bar(
        [f"{row['t_times_L']:g}" for row in rows], [row["guarantee_fails"] for row in rows], color=ORANGE, width=0.5
    )
    right.set(title="dropping (b), keeping (a)", xlabel="$t\\,L$", ylim=(0, 1))
    return figure
