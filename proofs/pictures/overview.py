"""What the overview notebook shows: every statement's verdict, the searches, and pictures across statements."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import pcgrad
from proofs.pictures.common import BLUE, ORANGE, PURPLE, VERMILION, folder, markdown_cell, panels, table
from proofs.two_steps import opposing

Array = NDArray[np.float64]
STATEMENTS = ("theorem1", "proposition1", "corollary1", "theorem2", "theorem3", "theorem4")
COLUMNS = ("statement", "verdict", "rests on", "smallest margin", "counterexample")


def verdict_table(reports: Sequence[dict[str, Any]]) -> str:
    """Markdown: statement, verdict, what it rests on, smallest margin, counterexample."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for report in reports:
        for row in report["overview"]:
            cells = (row["statement"], f"**{row['verdict']}**", row["rests_on"], row["smallest_margin"])
            lines.append((*(markdown_cell(cell) for cell in cells), row["counterexample"] or "–"))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def search_table(reports: Sequence[dict[str, Any]]) -> str:
    """Markdown: what scipy's optimizers found for every statement, form and family."""
    rows = {}
    for report in reports:
        for target, found in _searches(report["attack"]):
            for method, row in found.items():
                name = f"{report['statement']}, {target}, {method}".replace("_", " ")
                rows[name] = {key: row[key] for key in ("evaluations", "smallest_margin", "violates")}
    return table(rows, ("evaluations", "smallest_margin", "violates"))


def _searches(attack: dict[str, Any], name: str = "") -> list[tuple[str, dict[str, Any]]]:
    """The reports of `attack.attack` inside a statement's section, with their names."""
    if all(isinstance(row, dict) and "evaluations" in row for row in attack.values()):
        return [(name, attack)]
    inner = [(f"{name} {key}".strip(), part) for key, part in attack.items() if isinstance(part, dict)]
    return [found for label, part in inner for found in _searches(part, label)]


def conflict_path(method: str, network: str) -> dict[str, Array]:
    """Phi, xi and cos of a typical conflict along Figure 4's runs, mean over seeds; empty where they were not run.

    The runs (`$PCGRAD_RESULTS/runs/triad/<method>/*/metrics.csv`) record Phi's mean and, of the pairs in conflict,
    xi's median; cos is the one that belongs to both, which exists where xi <= 1.
    """
    values: dict[str, dict[int, list[float]]] = {}
    for path in sorted((folder() / "runs" / "triad" / method).glob("*/metrics.csv")):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values.setdefault(row["metric"], {}).setdefault(int(row["step"]), []).append(float(row["value"]))
    phi, xi = (values.get(f"{name}_{network}", {}) for name in ("magnitude_similarity", "xi_median"))
    steps = [step for step in sorted(phi) if step in xi and not np.isnan(xi[step] + phi[step]).any()]
    if not steps:
        return {}
    mean_phi, mean_xi = (np.array([np.mean(of[step]) for step in steps]) for of in (phi, xi))
    ratio = torch.from_numpy((1 + np.sqrt(1 - mean_phi**2)) / mean_phi)
    cos = np.where(mean_xi <= 1, opposing(ratio, torch.from_numpy(mean_xi)).numpy(), np.nan)
    return {"step": np.array(steps, dtype=float), "phi": mean_phi, "xi": mean_xi, "cos": cos}


def region_with_runs() -> Figure:
    """Where in (cos, Phi) Theorem 2's conditions can hold, where Figure 4's runs are, and the step (c) asks for."""
    figure, (left, right) = panels(2, 4.2)
    cos, phi = np.meshgrid(np.linspace(-1, -1e-3, 400), np.geomspace(1e-5, 1, 400))
    ratio = (1 + np.sqrt(1 - phi**2)) / phi
    gram = torch.from_numpy(np.stack([ratio**2, ratio * cos, ratio * cos, np.ones_like(cos)], -1)).unflatten(-1, (2, 2))
    xi = pcgrad.curvature_bounding_measure(gram)[..., 0, 1].numpy()
    left.contourf(cos, phi, pcgrad.condition_a(gram)[..., 0, 1].numpy(), [0.5, 1.5], colors=["#DDEAF4"])
    lines = left.contour(cos, phi, xi, [0.25, 0.5, 0.75, 0.9, 1.0], colors=VERMILION, linewidths=1)
    left.clabel(lines, fmt="$\\xi = %g$", fontsize=7, inline=False)
    looks = {("sac", "actor"): (BLUE, "o"), ("sac", "q1"): (PURPLE, "s"),
             ("sac_pcgrad", "actor"): (ORANGE, "o"), ("sac_pcgrad", "q1"): ("black", "s")}  # fmt: skip
    words = {"actor": "actor", "q1": "critic"}
    for (method, network), (color, marker) in looks.items():
        path = conflict_path(method, network)
        if path:
            name = f"{method.replace('_', ' + ').upper().replace('PCGRAD', 'PCGrad')}, {words[network]}"
            left.plot(path["cos"], path["phi"], marker, color=color, ms=3, alpha=0.6, label=name)
            step = 2 / np.where(path["xi"] < 1, 1 - path["xi"], np.nan)
            right.plot(path["step"], step, marker, color=color, ms=3, alpha=0.7, label=name)
    left.set(yscale="log", xlabel="$\\cos\\varphi_{12}$ of a typical conflict", ylabel="$\\Phi(g_1, g_2)$")
    left.set_title("blue: (a); left of $\\xi = \\ell/L$: (b)")
    right.axhline(2, color=VERMILION, lw=1)
    right.annotate("$t = 2/L$: plain descent's limit", (0.02, 2.2), (0.02, 2.2), ("axes fraction", "data"), fontsize=8)
    right.set(yscale="log", xlabel="collection", ylabel="$t\\,L$ that (c) asks for")
    right.set_title("(c) along Figure 4's runs, at best ($\\ell = L$)")
    for ax in (left, right):
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7, framealpha=0.9, loc="lower left" if ax is left else "upper right")
    return figure
