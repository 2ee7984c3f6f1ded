"""Picks the best point of a tuning grid by its validation metric.

The runs of a grid hold no metrics of the test split. The module imports nothing of the package, so
that only a change of this file makes rule `choose` run and the tuned methods train again.
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
    """Choose among the points below `folder`, which has one run folder per point.

    A point's value is METRIC at the last epoch, averaged over tasks, then over seeds; None if a
    seed diverged. Of points with equal values the one with the smallest settings wins.

    Returns:
        The content of `chosen.json`. `edges` lists the settings whose chosen value is the smallest
        or largest of the grid, where a wider grid might be better (a penalty of 0 is no edge).

    Raises:
        ValueError: There is no point, the points differ in more than their values, or all of them
            diverged.
    """
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
    # `max` returns the first of equal points.
    best = max(finite, key=lambda point: point["value"])
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
    """Whether a value is an end of its axis.

    An axis of one value has no ends, and 0 is no end because no smaller value is allowed.
    """
    return len(axis) > 1 and (value == max(axis) or (value == min(axis) and value != 0))


def _read(path: Path) -> dict[str, Any]:
    """Read one point: its values, its metric, and the part that all points must share."""
    info, text = read_run(path.with_name("metrics.csv"))
    try:
        values, settings = info["point"], info["settings"]
        same = {
            key: info[key]
            for key in ("experiment", "method", "scale", "seeds", "data", "code_hash")
        }
        budget = {key: settings[key] for key in ("epochs", "validation_share")}
    except KeyError as error:
        raise ValueError(f"{path} has no {error}; run rule tune again") from None
    others = {"others": {key: value for key, value in settings.items() if key not in values}}
    found = value(pd.read_csv(io.StringIO(text)), info["seeds"])
    return {"values": values, "value": found, "common": {**same, **budget, **others}}


def value(metrics: pd.DataFrame, seeds: Sequence[int]) -> float | None:
    """Average the last METRIC over tasks, then seeds; None if a seed has no finite value."""
    rows = metrics[(metrics["metric"] == METRIC) & (metrics["task"] != "all")]
    # A seed that diverged has no row at all.
    if rows.empty and not metrics.empty:
        raise ValueError(f"no {METRIC}: validation_share holds out no example; enlarge it")
    if set(rows["seed"]) != set(seeds):
        return None
    last = rows.sort_values("step", kind="stable").groupby(["seed", "task"]).tail(1)
    # pandas would leave a nan out of the mean.
    if not last["value"].map(math.isfinite).all():
        return None
    return float(last.groupby("seed")["value"].mean().mean())


def write(folder: str | Path, path: str | Path) -> None:
    """Choose among the points below `folder` and write the choice."""
    write_json(Path(path), choose(Path(folder)))
