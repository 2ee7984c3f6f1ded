"""Reads the outputs of runs: `metrics.csv` in long form and `run.json` in the same folder."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from system import results
from system.results import METRICS, PACKED, read_run

COLUMNS = ["experiment", "method", *results.COLUMNS]
# Settings of the machine: printed in footers, and allowed to differ within a table.
PLACE = ("device", "torch_threads", "data_root", "workers")


@dataclass(frozen=True)
class Runs:
    """The records of several jobs, with the columns COLUMNS, and the `run.json` of each job."""

    frame: pd.DataFrame
    infos: list[dict[str, Any]]

    def select(self, **columns: str) -> pd.DataFrame:
        """The rows in which every named column has the given value."""
        rows = self.frame
        for column, value in columns.items():
            rows = rows[rows[column] == value]
        return rows

    def of(self, experiment: str) -> "Runs":
        """The runs of one experiment."""
        infos = [info for info in self.infos if info["experiment"] == experiment]
        return Runs(self.frame[self.frame["experiment"] == experiment], infos)


def metrics_below(folder: Path, experiment: str = "*") -> list[Path]:
    """The metrics of all jobs of a scale's folder, packed or not."""
    return sorted(
        path for name in (METRICS, PACKED) for path in folder.glob(f"runs/{experiment}/*/*/{name}")
    )


def read_runs(paths: Iterable[str | Path]) -> Runs:
    """Read jobs, given the paths of their metrics, packed or not. Hidden folders are skipped.

    Raises:
        ValueError: A file was changed after it was written, or the jobs mix scales, data or
            settings, or repeat a seed.
    """
    frames, infos = [], []
    for path in sorted(Path(path) for path in paths):
        # A hidden folder holds outputs that are still being written.
        if any(part.startswith(".") and part.strip(".") for part in path.parts[-4:]):
            continue
        info, text = read_run(path)
        frame = _read_metrics(path, text)
        if set(frame["seed"]) != set(info["seeds"]):
            raise ValueError(f"{path} lacks a seed of its run.json; train the run again")
        frame = pd.concat([frame, _costs(info)], ignore_index=True)
        frame.insert(0, "experiment", info["experiment"])
        frame.insert(1, "method", info["method"])
        frames.append(frame)
        infos.append({**info, "path": str(path)})
    check_same(infos)
    if not frames:
        return Runs(pd.DataFrame(columns=COLUMNS), [])
    return Runs(pd.concat(frames, ignore_index=True)[COLUMNS], infos)


def _read_metrics(path: Path, text: str) -> pd.DataFrame:
    try:
        return pd.read_csv(
            io.StringIO(text),
            dtype={"task": str, "metric": str},
            keep_default_na=False,
            na_values={"value": ["nan"]},
        ).astype({"seed": int, "step": int, "value": float})
    # Python's numbers that are none of pandas', such as 1_0 or 10**30.
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path} cannot be read ({error}); train the run again") from None


def _costs(info: dict[str, Any]) -> pd.DataFrame:
    """The costs of a job from `run.json`, as metrics of task `all` at step 0 of every seed.

    `run_seconds` is the time of a seed's run. `peak_memory_mb` is the peak of the whole job and the
    same for all of its seeds. Both can be absent.
    """
    # As metrics, costs are averaged and printed like any other column of a table.
    rows = [
        (int(seed), 0, "all", "run_seconds", float(value))
        for seed, value in info.get("seconds", {}).items()
    ]
    if "peak_memory_mb" in info:
        peak = float(info["peak_memory_mb"])
        rows += [(seed, 0, "all", "peak_memory_mb", peak) for seed in info["seeds"]]
    return pd.DataFrame(rows, columns=COLUMNS[2:])


def check_same(infos: list[dict[str, Any]]) -> None:
    """Raise ValueError unless the runs can share a table.

    They have one scale; each experiment has one data set, one group of settings and one tuning; no
    method has a seed twice.
    """
    _check_one(infos, lambda info: info["scale"], "scales")
    for experiment in sorted({info["experiment"] for info in infos}):
        group = [info for info in infos if info["experiment"] == experiment]
        _check_one(group, lambda info: info["data"], "data")
        _check_settings(group)
        # Tuned rows share a budget; the seeds of one method share its tuned values.
        tuning = [info for info in group if "tuning" in info]
        _check_one(tuning, lambda info: info["tuning"]["budget"], "tuning")
        for method in sorted({info["method"] for info in tuning}):
            rows = [info for info in tuning if info["method"] == method]
            _check_one(rows, lambda info: info["chosen"], "tuned values")
    seeds = Counter(
        (f"{info['experiment']}/{info['method']}", seed) for info in infos for seed in info["seeds"]
    )
    for (name, seed), count in seeds.items():
        if count > 1:
            raise ValueError(f"{name} has seed {seed} twice; delete one of the two run folders")


def _check_settings(infos: list[dict[str, Any]]) -> None:
    """Raise ValueError unless every setting has one value in all runs that read it.

    `run.json` holds the settings that the method reads, so the keys of two methods can differ.
    """
    # {setting: the first run that reads it}.
    holders: dict[str, dict[str, Any]] = {}
    for info in infos:
        settings = _science(info)
        differing = [
            key
            for key, value in settings.items()
            if _science(holders.setdefault(key, info))[key] != value
        ]
        if differing:
            other = holders[differing[0]]
            raise ValueError(
                "runs of different settings do not go into one table "
                f"({', '.join(sorted(differing))}): {other['path']}, {info['path']}"
            )


def _science(info: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide a number. Runs without the setting `precision` used float32."""
    settings = info.get("settings", {})
    # Only experiments that train have a learning rate and a precision.
    older = {"precision": "float32"} if "learning_rate" in settings else {}
    return {key: value for key, value in {**older, **settings}.items() if key not in PLACE}


def _check_one(infos: list[dict[str, Any]], key: Any, name: str) -> None:
    """Raise ValueError with the first two runs that differ, and with their difference."""
    for info in infos[1:]:
        first, other = key(infos[0]), key(info)
        if first == other:
            continue
        # Whole dictionaries would be unreadable in a message; name the keys that differ.
        what = f"{first!r} and {other!r}"
        if isinstance(first, dict) and isinstance(other, dict):
            what = ", ".join(sorted(k for k in {*first, *other} if first.get(k) != other.get(k)))
        raise ValueError(
            f"runs of different {name} do not go into one table ({what}): {infos[0]['path']}, "
            f"{info['path']}"
        )


def final(frame: pd.DataFrame, *, last: int = 1) -> pd.DataFrame:
    """Average the last `last` recorded steps of every series.

    A series is one (experiment, method, seed, task, metric).
    """
    keys = ["experiment", "method", "seed", "task", "metric"]
    # `tail` takes the last rows of a group, so the steps must ascend.
    ordered = frame.sort_values("step", kind="stable")
    ends = ordered.groupby(keys, sort=True).tail(last)
    return ends.groupby(keys, sort=True, as_index=False).agg({"value": whole_mean})


def whole_mean(values: "pd.Series[float]") -> float:
    """The mean, which an undefined value makes undefined; pandas would skip the value."""
    return float(values.mean(skipna=False))


def seed_values(frame: pd.DataFrame) -> dict[int, float]:
    """{seed: value} of a frame that holds one value per seed."""
    if frame["seed"].duplicated().any():
        raise ValueError(
            "seed_values: a seed has several values; select one task and one metric first"
        )
    return dict(zip(map(int, frame["seed"]), map(float, frame["value"]), strict=True))


def footer(infos: list[dict[str, Any]], *, deviations: Iterable[str] = ()) -> list[str]:
    """The lines below every table: scale, data, seeds, devices, versions, code and deviations."""
    if not infos:
        return ["no runs"]
    seeds = sorted({seed for info in infos for seed in info["seeds"]})
    versions = {
        f"{name} {value}" for info in infos for name, value in info.get("versions", {}).items()
    }
    lines = [
        f"scale: {infos[0]['scale']}",
        "data: " + "; ".join(_distinct(describe_data(info["data"]) for info in infos)),
        f"seeds: {', '.join(map(str, seeds))}",
        "device: " + "; ".join(_distinct(_device(info) for info in infos)),
        "precision: " + "; ".join(_distinct(_precision(info) for info in infos)),
        "versions: " + ", ".join(sorted(versions)),
        "code: " + _hashes(infos),
    ]
    chosen = _distinct(
        f"{name}={value}"
        for info in infos
        for name, value in info.get("numeric_settings", {}).items()
        # This one is a property of the machine.
        if name != "cpu_capability"
    )
    lines += [f"set in the environment: {', '.join(chosen)}"] if chosen else []
    lines += [*core_hours(infos), *tuned(infos)]
    lines += [
        f"resumed under changed code: {info['method']}, seed {seed}, {' then '.join(hashes)}"
        for info in infos
        for seed, hashes in info.get("accepted_code_changes", {}).items()
    ]
    lines += [
        f"not finished: {info['method']}, seed {seed}, as it was after step {step}"
        for info in infos
        for seed, step in info.get("unfinished", {}).items()
    ]
    notes = _distinct(
        [*(note for info in infos for note in info.get("deviations", ())), *deviations]
    )
    return lines + [f"deviation: {note}" for note in notes]


def core_hours(infos: list[dict[str, Any]]) -> list[str]:
    """One line with the core-hours of the rows (one thread per run); none if no run has a time."""
    hours: dict[str, float] = {}
    for info in infos:
        if "seconds" in info:
            spent = sum(info["seconds"].values()) / 3600
            hours[info["method"]] = hours.get(info["method"], 0.0) + spent
    words = [f"{method} {spent:.2f}" for method, spent in hours.items()]
    return [f"hours a row (all seeds, without tuning): {', '.join(words)}"] if words else []


def tuned(infos: list[dict[str, Any]]) -> list[str]:
    """The tuned values of every tuned row, then the grid and budget they were chosen from."""
    found = {info["method"]: info for info in infos if "tuning" in info}
    lines = []
    for method, info in found.items():
        edges = info["tuning"]["edges"]
        words = (
            f"{key} {value:g}" + (" (edge of the grid)" if key in edges else "")
            for key, value in info["chosen"].items()
        )
        lines.append(f"chosen for {method}: {', '.join(words)}")
    # `check_same` ensures that all rows have the same grid and budget.
    for info in [*found.values()][:1]:
        budget = info["tuning"]["budget"]
        axes = (
            f"{key} {', '.join(f'{value:g}' for value in budget[key])}" for key in info["chosen"]
        )
        lines.append(
            f"chosen from: {'; '.join(axes)}; by {budget['metric']} at the end of "
            f"{budget['epochs']} epochs on {budget['validation_share']:.0%} of train, held out; "
            f"seeds {', '.join(map(str, budget['seeds']))}"
        )
    return lines


def describe_data(data: Any) -> str:
    """Describe a data fingerprint: its name first, checksums cut to 12 digits."""
    if not isinstance(data, dict):
        return str(data)
    name = str(data.get("name", data.get("data", "")))
    rest = [f"{key} {_short(value)}" for key, value in data.items() if key not in ("name", "data")]
    return ", ".join(part for part in [name, *rest] if part)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(inner)}" for key, inner in value.items()) + ")"
    if isinstance(value, list):
        return " ".join(_short(inner) for inner in value)
    text = str(value)
    return text[:12] if len(text) >= 32 and " " not in text else text


def _device(info: dict[str, Any]) -> str:
    processor = info.get("machine", {}).get("processor", "")
    return ", ".join(filter(None, [str(info.get("device", "unknown device")), str(processor)]))


def _hashes(infos: list[dict[str, Any]]) -> str:
    """The runs' code hashes, or one digest of them if there are many: each method has its own."""
    found = _distinct(str(info.get("code_hash", "unknown")) for info in infos)
    if len(found) <= 2:
        return ", ".join(found)
    digest = hashlib.sha256("".join(sorted(found)).encode()).hexdigest()[:16]
    return f"{digest} (of {len(found)} hashes, one per method; run.json has them)"


def _precision(info: dict[str, Any]) -> str:
    """The precision of a run's matrix products; float32 if `run.json` has none."""
    used = str(info.get("precision", "float32"))
    # Rows that compare precisions have it in their name.
    if info["method"].endswith("_bfloat16"):
        used = "bfloat16"
    return used if used == "float32" else f"{used} (losses, Gramians, weights in float32)"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
