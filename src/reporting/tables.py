"""Turns records into tables in long form.

A table has one line per method and quantity, with its interval and the paper's number.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reporting.runs import PLACE, final, seed_values
from reporting.statistics import NAN, Interval, bounded, holm, interval, paired, spread
from system.settings import TUNED

# Settings that change only what is recorded.
RECORDING = ("log_every", "curvature_every", "stored_points")
# Evaluations averaged at the end of a run, as in claims.yaml; reach's last one has many episodes.
EVALUATIONS = {
    "metaworld_reach": 1,
    "metaworld_mt3": 10,
    "metaworld_mt10": 5,
    "metaworld_alone": 5,
    "metaworld_mt50": 10,
}
LEARNED = 0.5  # a seed learns a task if its success in these evaluations is at least this share
# The interval of a row of the paper that a scale does not run.
NOT_RUN = Interval(NAN, NAN, NAN, 0, "mean", NAN)
COLUMNS = [
    "method", "task", "metric", "mean", "ci_low", "ci_high", "seeds",
    "paper", "difference", "estimator", "p_holm",
]  # fmt: skip

# Costs are skewed and few: they get a median and a range, not an interval.
COSTS = ("run_seconds", "run_minutes", "peak_memory_mb", "update_seconds")
INFINITE = float("inf")
# (pattern of a metric's name, values that the metric can take); the first match counts.
BOUNDS = (
    (r"(^|_)share(_|$)|success|^magnitude_similarity", (0.0, 1.0)),
    (r"accuracy|^(test|validation)_error$|mIoU|PixAcc|within_", (0.0, 100.0)),
    (r"angle", (0.0, 180.0)),
    (r"^cosine(_actor|_q\d)?$", (-1.0, 1.0)),
    (r"AbsErr|RelErr|distance|length_ratio|^xi_", (0.0, INFINITE)),
)


def bounds(metric: str) -> tuple[float, float]:
    """The smallest and the largest value that the metric can take."""
    return next(
        (ends for pattern, ends in BOUNDS if re.search(pattern, metric)), (-INFINITE, INFINITE)
    )


@dataclass(frozen=True)
class Quantity:
    """One column of the printed table: the records that it averages and its format."""

    task: str  # of the records; "all" for metrics of the whole run
    metric: str
    title: str
    decimals: int = 2
    over: str = "last"  # "last" for the mean over the last steps, "all" over all steps of a run
    last: int = 1  # number of last steps
    compare: bool = False  # whether the column gets lines of seed-paired differences
    reported: str = ""  # the paper's column; empty if it has none
    rare: bool = False  # whether the column is left out where no row has the quantity


# The last columns of tables of supervised experiments.
UPDATES = (
    Quantity("all", "conflict_share", "conflicts", 3, over="all"),
    Quantity("all", "length_ratio", "length ratio", 3, over="all"),
    Quantity("all", "run_seconds", "seconds a run", 0),
    Quantity("all", "peak_memory_mb", "peak memory, MB", 0),
)


def per_seed(frame: pd.DataFrame, method: str, quantity: Quantity) -> dict[int, float]:
    """{seed: value} of one method; empty if the method does not record the quantity."""
    rows = frame
    for column, value in (("method", method), ("task", quantity.task), ("metric", quantity.metric)):
        rows = rows[rows[column] == value]
    last = quantity.last if quantity.over == "last" else max(1, rows["step"].nunique())
    # A value can be undefined at one step (no conflict) although the run is intact.
    if quantity.over == "all":
        rows = rows.dropna(subset=["value"])
    return seed_values(final(rows, last=last))


def method_lines(
    frame: pd.DataFrame,
    methods: Sequence[str],
    quantities: Sequence[Quantity],
    paper: Mapping[Any, float],
) -> pd.DataFrame:
    """One line per method and quantity, with the columns COLUMNS.

    `paper` maps (method, task) or (method, task, metric) to the paper's number. A row of the paper
    that was not run has a line with 0 seeds.
    """
    lines = []
    for method in methods:
        for quantity in quantities:
            values = list(per_seed(frame, method, quantity).values())
            reported = _reported(paper, method, quantity)
            if values:
                lines.append(_line(method, quantity, summary(quantity.metric, values), reported))
            # Tuned rows repeat the paper's number of the row without tuning.
            elif not np.isnan(reported) and not method.endswith(TUNED):
                lines.append(_line(method, quantity, NOT_RUN, reported))
    return pd.DataFrame(lines, columns=COLUMNS)


def _reported(paper: Mapping[Any, float], method: str, quantity: Quantity) -> float:
    key = (method, quantity.task)
    number = paper.get((*key, quantity.metric), paper.get(key, NAN))
    return number if quantity.reported else NAN


def summary(metric: str, values: Sequence[float]) -> Interval:
    """Summarize one number per seed: costs by median and range, others by a bounded interval."""
    if metric in COSTS:
        return spread(values)
    return bounded(interval(values), *bounds(metric))


def difference_lines(
    frame: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    quantities: Sequence[Quantity],
    paper: Mapping[Any, float],
) -> pd.DataFrame:
    """Seed-paired differences "a - b" of every quantity with `compare`.

    The p-values are Holm-corrected over all differences of the table.
    """
    lines, p_values = [], []
    for left, right in pairs:
        for quantity in (q for q in quantities if q.compare):
            first, second = per_seed(frame, left, quantity), per_seed(frame, right, quantity)
            # A pair without a shared seed has no difference.
            if not set(first) & set(second):
                continue
            found = paired(first, second)
            reported = _reported(paper, left, quantity) - _reported(paper, right, quantity)
            lines.append(_line(f"{left} - {right}", quantity, found, reported))
            p_values.append(found.p)
    for line, p in zip(lines, holm(p_values), strict=True):
        line["p_holm"] = p
    return pd.DataFrame(lines, columns=COLUMNS)


def _line(method: str, quantity: Quantity, found: Interval, paper: float) -> dict[str, Any]:
    return {
        "method": method,
        "task": quantity.task,
        "metric": quantity.metric,
        "mean": found.center,
        "ci_low": found.low,
        "ci_high": found.high,
        "seeds": found.seeds,
        "paper": paper,
        "difference": found.center - paper,
        "estimator": found.estimator,
        "p_holm": NAN,
    }


def deviations(settings: Mapping[str, Any], paper_scale: Mapping[str, Any]) -> list[str]:
    """Describe every setting of a run that differs from the paper scale's config."""
    return [
        f"{key} {settings[key]} instead of {paper_scale[key]} at paper scale"
        for key in sorted(set(settings) & set(paper_scale) - {*PLACE, *RECORDING})
        if settings[key] != paper_scale[key]
    ]
