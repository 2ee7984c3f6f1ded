"""Picks the best point of a tuning grid by its validation metric. Nothing of the test is read: no
run there holds any.

This module imports nothing of the package: rule `choose` follows its code alone, so that a change
of a plot or a table does not train tuned methods again.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from system.results import read_run
from system.writing import write_json

METRIC = "validation_accuracy"  # higher is better


def choose(folder: Path) -> dict[str, Any]:
    """The choice among the points below `folder` (one run folder each), as `chosen.json` states it.

    A point's value is METRIC at the last epoch, averaged over tasks, then over seeds; None where a
    seed diverged. Of equal points the one with the smallest values wins. `edges` names the settings
    whose chosen value is the smallest or largest of the grid, so that a wider grid might do better
    (a penalty of 0 is no edge). ValueError if there is no point, if the points differ in more than
    their values, or if all of them diverged."""
    points = [_read(path) for path in sorted(folder.glob("*/run.json"))]
    if not points:
        raise ValueError(f"{folder} holds no trained point; run rule tune again")
    for point in points[1:]:
        if point["common"] != points[0]["common"]:
            raise ValueError(
                f"{folder} mixes points of different runs (settings, data or seeds); run rule tune "
                "again"
            )
    axes = {
        name: sorted({point["values"][name] for point in points}) for name in points[0]["values"]
    }
    points.sort(key=lambda point: list(point["values"].values()))
    finite = [point for point in points if point["value"] is not None]
    if not finite:
        raise ValueError(
            f"every point of {folder} diverged; add a smaller learning_rate to the grid"
        )
    best = max(finite, key=lambda point: point["value"])  # the first of equals
    common = points[0]["common"]
    return {
        "experiment": common["experiment"],
        "method": common["method"],
        "scale": common["scale"],
        "chosen": best["values"],
        "value": best["value"],
        "edges": [name for name, value in best["values"].items() if on_edge(value, axes[name])],
        "budget": {
            **axes,
            "metric": METRIC,
            **{key: common[key] for key in ("seeds", "epochs", "validation_share")},
        },
        "grid": [{**point["values"], "value": point["value"]} for point in points],
    }


def on_edge(value: float, axis: Sequence[float]) -> bool:
    """Whether a value is an end of its axis; an axis of one value has none, and below 0 there is
    nothing.
    """
    return len(axis) > 1 and (value == max(axis) or (value == min(axis) and value != 0))


def _read(path: Path) -> dict[str, Any]:
    """One point: its values, its metric, and what it must have in common with the others."""
    info, text = read_run(path.with_name("metrics.csv"))
    values, settings = info["point"], info["settings"]
    same = {
        key: info[key] for key in ("experiment", "method", "scale", "seeds", "data", "code_hash")
    }
    budget = {key: settings[key] for key in ("epochs", "validation_share")}
    others = {"others": {key: value for key, value in settings.items() if key not in values}}
    found = value(pd.read_csv(io.StringIO(text)), info["seeds"])
    return {"values": values, "value": found, "common": {**same, **budget, **others}}


def value(metrics: pd.DataFrame, seeds: Sequence[int]) -> float | None:
    """Mean over tasks, then seeds, of the last METRIC in long form; None if a seed lacks it or it
    is not finite.
    """
    rows = metrics[(metrics["metric"] == METRIC) & (metrics["task"] != "all")]
    if set(rows["seed"]) != set(seeds):
        return None
    last = rows.sort_values("step", kind="stable").groupby(["seed", "task"]).tail(1)
    if not last["value"].map(math.isfinite).all():  # pandas would leave it out of the mean
        return None
    return float(last.groupby("seed")["value"].mean().mean())


def write(folder: str | Path, path: str | Path) -> None:
    """Choose among the points below `folder` and write the choice."""
    write_json(Path(path), choose(Path(folder)))
