"""Reads a claim's evidence from the result files, with one function per kind of test.

The kinds are those of `experiments/claims.yaml`; KINDS lists them.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import scipy  # scipy.stats is loaded on first use

from reporting.labels import label
from reporting.ledger.verdicts import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    THEORY,
    Evidence,
)
from reporting.runs import Runs, final, seed_values, whole_mean
from reporting.statistics import NAN, Interval, bounded, clipped, interval
from reporting.tables import INFINITE, bounds

SIGN = {"higher": 1.0, "lower": -1.0}
Test = Mapping[str, Any]
Seeds = dict[int, float]

CLAIMED = 1_000_000  # samples after which the claims on MT10 compare its runs


@dataclass(frozen=True)
class Material:
    """The result files of one scale by which its claims are judged."""

    runs: Runs  # all training runs
    landscape: Mapping[str, Any] = field(default_factory=dict)  # its `summary.json`
    proofs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # {statement: its JSON}
    gallery: Mapping[str, Any] = field(default_factory=dict)  # its `tasks.json`


def gather(claim: Mapping[str, Any], material: Material) -> Evidence:
    """Gather the evidence for one claim, whose kind of test is one of KINDS."""
    test = claim["test"]
    if test["kind"] == "later":
        return Evidence(missing=test["reason"])
    if test["kind"] in ONCE:
        name, read = ONCE[test["kind"]]
        return read(test, getattr(material, name))
    runs = material.runs.of(test["experiment"])
    return several(test, runs) if test["kind"] == "several" else sampled(claim, runs)


def sampled(claim: Mapping[str, Any], runs: Runs) -> Evidence:
    """Gather evidence from runs with several seeds.

    The effect of a seed is ± (value − reference); the sign makes it positive on the claimed side.
    """
    test = claim["test"]
    if not runs.infos:
        return Evidence(missing=f"no runs of {label(test['experiment'])}")
    data = runs.infos[0]["data"]
    frame = runs.frame
    # A test at a budget needs its runs only up to that budget; any other test needs their ends.
    if "at" not in test and (open_ends := unfinished(runs, test)):
        return Evidence(missing=open_ends)
    if "at" in test:
        if short := behind(frame, test):
            return Evidence(missing=short)
        frame = up_to(frame, test["at"])
    values, ours = PER_SEED[test["kind"]](frame, test)
    if not values:
        names = " and ".join(f"“{label(method)}”" for method in methods_of(test))
        return Evidence(missing=f"no runs of {names} that record {_asked(test)}")
    sign, reference = SIGN[claim["direction"]], float(test.get("reference", 0.0))
    effects = [sign * (value - reference) for value in values.values()]
    effect = interval(effects)
    note = f"{sum(one > 0 for one in effects)} of {len(effects)} seeds lie on the claimed side"
    level = in_bounds(test, interval(list(ours.values()))) if ours else None
    # If all seeds are on a bound of the metric, Student's interval has width zero, which would
    # decide every claim. The interval of the level has not.
    if test["kind"] == "level" and level and effect.low == effect.high and level.low < level.high:
        effect = at_bound(test, level, sign=sign, reference=reference)
    low, high = sorted(sign * (end - reference) for end in limits(test))
    effect = clipped(effect, low, high)
    # `data` is {"name": "mnist", …} or {"metaworld": its version, …}. An effect on stand-in data
    # is kept for printing, but `missing` keeps it from deciding the claim.
    if test["data"] not in (data.get("name"), *data):
        return Evidence(
            effect, level, missing=f"stand-in data: {data.get('name')} instead of {test['data']}"
        )
    return Evidence(effect, level, note=note)


def limits(test: Test) -> tuple[float, float]:
    """The smallest and the largest value that one seed can have."""
    low, high = -INFINITE, INFINITE
    if test["kind"] == "trend":
        low, high = -1.0, 1.0
    # Differences of metrics and counts of columns have no known bounds.
    elif test["kind"] in ("level", "paired") and "minus" not in test:
        low, high = bounds(test["metrics"][0])
        if test["kind"] == "paired":
            low, high = low - high, high - low
    return low, high


def at_bound(test: Test, level: Interval, *, sign: float, reference: float) -> Interval:
    """The effect sign · (level − reference) if all seeds are on a bound of the metric.

    The interval is that of the level, and p is Clopper and Pearson's: twice the probability of
    what was seen if the mean is the reference.
    """
    low, high = bounds(test["metrics"][0])
    first, last = sorted(sign * (end - reference) for end in (level.low, level.high))
    away = abs(reference - level.center) / (high - low)
    p = min(1.0, 2 * (1 - away) ** level.seeds)
    return replace(level, center=sign * (level.center - reference), low=first, high=last, p=p)


def in_bounds(test: Test, found: Interval) -> Interval:
    """Cut a metric's interval to the values that the metric can take."""
    # Differences of metrics and counts of columns have no known bounds.
    if "minus" in test or "metrics" not in test:
        return found
    return bounded(found, *bounds(test["metrics"][0]))


def unfinished(runs: Runs, test: Test) -> str:
    """How many runs were written before their end, in words; empty if none was."""
    infos = [info for info in runs.infos if info["method"] in methods_of(test)]
    count = sum(len(info.get("unfinished", {})) for info in infos)
    return f"{count} {'run' if count == 1 else 'runs'} not finished" if count else ""


def samples(frame: pd.DataFrame) -> pd.DataFrame:
    """The environment steps of all tasks after every step: columns method, seed, step, value."""
    rows = frame[(frame["metric"] == "environment_steps") & (frame["task"] == "all")]
    return rows[["method", "seed", "step", "value"]]


def behind(frame: pd.DataFrame, test: Test) -> str:
    """How many of the test's runs end before `at` samples, in words; empty if none does."""
    rows = samples(frame[frame["method"].isin(methods_of(test))])
    reached = rows.groupby(["method", "seed"])["value"].max() >= test["at"]
    if reached.all():
        return ""
    return f"{(~reached).sum()} of {len(reached)} runs end before {test['at']:,} samples"


def up_to(frame: pd.DataFrame, at: float) -> pd.DataFrame:
    """The rows of every run up to its first step with at least `at` samples of all tasks."""
    rows = samples(frame)
    # A run that never gets there has no end and loses all of its rows (end −1).
    ends = rows[rows["value"] >= at].groupby(["method", "seed"])["step"].min().rename("end")
    end = frame[["method", "seed"]].merge(ends, on=["method", "seed"], how="left")["end"]
    return frame[(frame["step"] <= end.fillna(-1).to_numpy())]


def to_claimed(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The rows without those metrics of MT10 beyond the samples where the ledger reads its claims.

    Nothing is cut before all runs of MT10 have so many samples, or if one goes on far beyond them.
    """
    frame = frame.reset_index(drop=True)
    mine = frame["experiment"] == "metaworld_mt10"
    reached = samples(frame[mine]).groupby(["method", "seed"])["value"].max()
    if reached.empty or not CLAIMED <= reached.min() <= reached.max() <= 1.1 * CLAIMED:
        return frame
    late = mine & ~frame.index.isin(up_to(frame[mine], CLAIMED).index)
    return frame[~(late & frame["metric"].isin(metrics))]


def several(test: Test, runs: Runs) -> Evidence:
    """Test that at least `at_least` of several parts hold.

    Each part is a paired test with a direction of its own. The claim holds if and only if the
    `at_least`-th strongest part holds, so that part's evidence is returned (an
    intersection-union test).
    """
    shared = {"kind": "paired", **{key: test[key] for key in ("experiment", "data", "last")}}
    parts = [
        sampled({"direction": part["direction"], "test": {**shared, **part}}, runs)
        for part in test["parts"]
    ]
    # Without the evidence of every part, the parts cannot be ranked.
    absent = next((part for part in parts if part.missing), None)
    return absent or sorted(parts, key=_strength, reverse=True)[test["at_least"] - 1]


def _strength(part: Evidence) -> float:
    """The effect in half-widths of its interval.

    It orders parts of different units in the same way as their one-sided p-values.
    """
    found = part.effect
    if found is None or not math.isfinite(found.low):
        return -math.inf
    # An interval of width zero must not divide by zero.
    return found.center / max(found.center - found.low, 1e-300)


def _asked(test: Test) -> str:
    names = test.get("metrics") or sorted({column["metric"] for column in test["columns"]})
    return " or ".join(name.replace("_", " ") for name in names)


def methods_of(test: Test) -> list[str]:
    """The methods that a test reads."""
    return list(test.get("methods") or [test["method"]])


def _series(frame: pd.DataFrame, method: str, test: Test) -> pd.DataFrame:
    """One value per seed and step: the mean over the test's tasks and metrics.

    If the test has `minus`, the mean over those metrics is subtracted.
    """
    found = _averaged(frame, method, test["tasks"], test["metrics"])
    if "minus" not in test:
        return found
    less = _averaged(frame, method, test["tasks"], test["minus"])[["seed", "step", "value"]]
    both = found.merge(less, on=["seed", "step"], suffixes=("", "_less"))
    return both.assign(value=both["value"] - both["value_less"]).drop(columns="value_less")


def _averaged(
    frame: pd.DataFrame, method: str, tasks: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    rows = frame[
        (frame["method"] == method) & frame["metric"].isin(metrics) & frame["task"].isin(tasks)
    ]
    # A mean over fewer tasks or metrics than asked for would be a different quantity.
    if set(rows["task"]) != set(tasks) or set(rows["metric"]) != set(metrics):
        rows = rows.iloc[:0]
    mean = rows.groupby(["experiment", "method", "seed", "step"], as_index=False).agg(
        {"value": whole_mean}
    )
    return mean.assign(task="", metric="")


def _level(frame: pd.DataFrame, method: str, test: Test) -> Seeds:
    rows = _series(frame, method, test)
    if "until" in test:
        rows = _until(rows, frame[frame["method"] == method], test["until"])
    # A mean over the whole run leaves out the steps at which the metric is undefined (no conflict).
    if test.get("last") is None:
        return {int(str(seed)): float(part["value"].mean()) for seed, part in rows.groupby("seed")}
    return seed_values(final(rows, last=test["last"]))


def _until(rows: pd.DataFrame, frame: pd.DataFrame, until: Test) -> pd.DataFrame:
    """Keep each seed's steps before `metric` of `task` first reaches `at_least`."""
    reached = frame[(frame["metric"] == until["metric"]) & (frame["task"] == until["task"])]
    first = reached[reached["value"] >= until["at_least"]].groupby("seed")["step"].min()
    # A seed that never reaches it keeps all steps.
    end = rows["seed"].map(first).fillna(float("inf"))
    return rows[rows["step"] < end]


def paired(frame: pd.DataFrame, test: Test) -> tuple[Seeds, Seeds]:
    """Differences of two methods by seed, and the first method's values by seed.

    The values of the first method are compared with the paper's number.
    """
    first, second = (_level(frame, method, test) for method in test["methods"])
    return {seed: first[seed] - second[seed] for seed in sorted(set(first) & set(second))}, first


def level(frame: pd.DataFrame, test: Test) -> tuple[Seeds, Seeds]:
    """One method's values by seed, which are compared with a reference."""
    values = _level(frame, test["method"], test)
    return values, values


def best(frame: pd.DataFrame, test: Test) -> tuple[Seeds, Seeds]:
    """In how many columns of a table the first method is the best, by seed.

    `columns` lists task, metric and direction of every column; `methods` are the rows.
    """
    counts: Seeds = {}
    for column in test["columns"]:
        one = {**test, "tasks": [column["task"]], "metrics": [column["metric"]]}
        first, *others = (_level(frame, method, one) for method in test["methods"])
        sign = SIGN[column["direction"]]
        for seed in set(first).intersection(*others):
            won = all(sign * first[seed] > sign * other[seed] for other in others)
            counts[seed] = counts.get(seed, 0.0) + won
    return counts, counts


def trend(frame: pd.DataFrame, test: Test) -> tuple[Seeds, Seeds]:
    """Spearman's rank correlation of the metric with the step, by seed; nan for a constant."""
    rows = _series(frame, test["method"], test).dropna(subset=["value"])
    found = {}
    for seed, part in rows.groupby("seed"):
        enough = part["value"].nunique() > 1
        found[int(str(seed))] = (
            float(scipy.stats.spearmanr(part["step"], part["value"]).statistic) if enough else NAN
        )
    return found, {}


def steps_to(frame: pd.DataFrame, test: Test) -> tuple[Seeds, Seeds]:
    """Difference of two methods in environment steps until the metric first reaches `level`.

    The metric is averaged over `over` collections. A run of the first method that ends before it
    reaches the level counts with all of its steps, so the difference is underestimated. A seed
    whose run of the second method never reaches the level is nan: failures are not dropped.
    """
    first, second = (_steps_to(frame, method, test) for method in test["methods"])
    shared = sorted(set(first) & set(second))
    return {
        seed: first[seed][0] - second[seed][0] if second[seed][1] else NAN for seed in shared
    }, {}


def _steps_to(frame: pd.DataFrame, method: str, test: Test) -> dict[int, tuple[float, bool]]:
    """{seed: (environment steps, whether the level was reached)}."""
    rows = _series(frame, method, test)
    steps = _averaged(frame, method, ["all"], ["environment_steps"])[["seed", "step", "value"]]
    found = {}
    for seed, part in rows.merge(
        steps.rename(columns={"value": "steps"}), on=["seed", "step"]
    ).groupby("seed"):
        part = part.sort_values("step")
        reached = part["value"].rolling(test["over"]).mean() >= test["level"]
        at = part.loc[reached, "steps"].min() if reached.any() else part["steps"].max()
        found[int(str(seed))] = (float(at), bool(reached.any()))
    return found


PER_SEED: dict[str, Callable[[pd.DataFrame, Test], tuple[Seeds, Seeds]]] = {
    "paired": paired,
    "level": level,
    "best": best,
    "trend": trend,
    "steps_to": steps_to,
}


def endpoint(test: Test, summary: Mapping[str, Any]) -> Evidence:
    """Compare a value of the landscape's summary with `equals`, `above` or `below`.

    `path` lists the keys that lead to the value. The landscape has no seeds, but processors round
    differently: a value within `undecided` of its bound decides nothing.
    """
    if not summary:
        return Evidence(missing="no run of the landscape")
    if summary["settings"]["updates"] < test["updates"]:
        return Evidence(missing=f"{summary['settings']['updates']} of {test['updates']} updates")
    value: Any = summary
    for key in test["path"]:
        value = value[key]
    # The first keys are the same for all that is read at Adam's end.
    names = [label(key) for key in test["path"] if key not in ("runs", "adam", 0, "last_tenth")]
    if value is None:
        return Evidence(decided=NOT_REPLICATED, note=f"{': '.join(names)} is undefined")
    ok = {"equals": operator.eq, "above": operator.gt, "below": operator.lt}
    held = all(ok[key](value, test[key]) for key in ok if key in test)
    shown = value if isinstance(value, str) else f"{': '.join(names)} {value:.3g}".replace("-", "−")
    bound = test.get("above", test.get("below"))
    if "undecided" in test and abs(value - bound) < test["undecided"]:
        return Evidence(
            decided=INCONCLUSIVE, note=f"{shown}, within {test['undecided']} of {bound}"
        )
    return Evidence(decided=REPLICATED if held else NOT_REPLICATED, note=str(shown))


def proof(test: Test, proofs: Mapping[str, Mapping[str, Any]]) -> Evidence:
    """Read a judgement of the theory from the JSON file of its statement.

    The note holds what decided the verdict, the reading, the reason and the counterexample.

    Raises:
        ValueError: The file has no such judgement, or its verdict is unknown.
    """
    found = proofs.get(test["statement"])
    if found is None:
        return Evidence(missing=f"no check of {test['statement']}")
    if "judgements" not in found:
        return Evidence(
            missing=f"proofs/{test['statement']}.json is of an earlier form: run it again"
        )
    rows = {row["name"]: row for row in found["judgements"]}
    if test["judgement"] not in rows:
        raise ValueError(f"proof {test['statement']}: no judgement {test['judgement']!r}")
    row = rows[test["judgement"]]
    if row["verdict"] not in THEORY:
        raise ValueError(f"proof {test['statement']}: {row['verdict']!r} is no verdict")
    note = [" · ".join(row["decided_by"]), row["reading"] and f"reading: {row['reading']}"]
    note += [row["sentence"].rstrip("."), (row["counterexample"] or {}).get("says", "")]
    return Evidence(decided=row["verdict"], note="; ".join(filter(None, note)))


def gallery(test: Test, found: Mapping[str, Any]) -> Evidence:
    """Check Figure 10: MT50 has `tasks` tasks, and each has a picture unlike all others.

    The pictures are deterministic: no seeds.
    """
    if not found:
        return Evidence(missing="no pictures of the tasks")
    pictured, named, asked = found["pictured"], len(found["tasks"]), test["tasks"]
    absent = [line["name"] for line in found["tasks"] if not line["built"]]
    note = f"{pictured} of {named} tasks pictured" + (
        f"; not built: {', '.join(absent)}" if absent else ""
    )
    return Evidence(decided=REPLICATED if pictured == named == asked else NOT_REPLICATED, note=note)


# {kind of test without seeds: (the material that it reads, how)}.
ONCE: dict[str, tuple[str, Callable[[Test, Any], Evidence]]] = {
    "endpoint": ("landscape", endpoint),
    "proof": ("proofs", proof),
    "gallery": ("gallery", gallery),
}
KINDS = (*PER_SEED, *ONCE, "several", "later")
