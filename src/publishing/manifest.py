"""Copies result files and records their checksums in a manifest."""

import csv
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from system.results import describe, read_info
from system.writing import write_text

MOST_ROWS = 2_000  # rows of one run (one method, one seed)


# Metrics that the sentences of reporting/findings.py read: thinning keeps the rows they depend on.
SPOKEN = (
    "success",
    "return",
    "evaluation_success",
    "distance",
    "evaluation_distance",
    "environment_steps",
    "xi_median_actor",
    "xi_median_q1",
    "xi_median_q2",
)
LAST = 10  # rows at a series' end over which claims and sentences average


# Claims at a budget read evaluations anywhere in a run: all are kept, with the samples at their
# steps.
WHOLE, SAMPLES = "evaluation_success", "environment_steps"


def thin(rows: list[list[str]], most: int = MOST_ROWS) -> list[list[str]]:
    """Thin rows [seed, step, task, metric, value] to about `most` per seed.

    The first step, every k-th step, the last step and all rows that a sentence depends on are kept.

    Raises:
        ValueError: A single step of a seed has more than `most` rows.
    """
    kept = []
    for seed in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == seed]
        steps = sorted({int(row[1]) for row in mine})
        # Take the smallest stride that keeps the rows below the limit.
        for stride in range(1, len(steps) + 1):
            chosen = {*steps[::stride], steps[-1]}
            part = [row for row in mine if int(row[1]) in chosen]
            if len(part) <= most:
                break
        else:
            raise ValueError(
                f"one step of seed {seed} has more than {most} rows; record fewer metrics"
            )
        needed = spoken([row for row in mine if row[3] in SPOKEN], most) if len(steps) > 1 else []
        wanted = {*map(tuple, part), *map(tuple, needed), *map(tuple, evaluated(mine, most))}
        kept += [row for row in mine if tuple(row) in wanted]
    return kept


def evaluated(rows: list[list[str]], most: int) -> list[list[str]]:
    """The evaluations of a run and the samples at their steps; none if there are too many."""
    found = [row for row in rows if row[3] == WHOLE]
    steps = {row[1] for row in found}
    found += [row for row in rows if row[3] == SAMPLES and row[1] in steps]
    return found if len(found) <= most else []


def spoken(rows: list[list[str]], most: int) -> list[list[str]]:
    """The rows of the metrics in SPOKEN that sentences depend on.

    If there are more than `most`, only each series' end, its extremes and its first and last
    positive value are kept.
    """
    if len(rows) <= most:
        return rows
    series: dict[tuple[str, str], list[list[str]]] = {}
    for row in rows:
        series.setdefault((row[2], row[3]), []).append(row)
    kept = []
    for part in series.values():
        part.sort(key=lambda row: int(row[1]))
        positive = [row for row in part if float(row[4]) > 0]
        best = max(part, key=lambda row: float(row[4]))
        worst = min(part, key=lambda row: float(row[4]))
        kept += [*part[-LAST:], best, worst, *positive[:1], *positive[-1:]]
    return kept


def copy(source: Path, target: Path) -> dict[str, Any]:
    """Copy one file, thin it if it is `metrics.csv`, and return its entry of the manifest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    line: dict[str, Any] = {}
    if source.name == "metrics.csv":
        with source.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        kept = thin(rows)
        with target.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *kept])
        line = (
            {"rows": len(kept), "thinned_from": len(rows)}
            if len(kept) < len(rows)
            else {"rows": len(kept)}
        )
    elif source.name == "run.json":
        write_text(target, vouching(source, target.with_name("metrics.csv")))
    else:
        shutil.copyfile(source, target)
    return {"sha256": digest(target), "bytes": target.stat().st_size, **line}


def vouching(source: Path, metrics: Path) -> str:
    """The text of a `run.json` with the checksum of the published `metrics.csv`."""
    info = read_info(source)
    described = describe(metrics.read_bytes())
    # Metrics that were not thinned keep their `run.json` byte by byte.
    if info.get("metrics") == described:
        return source.read_text(encoding="utf-8")
    complete = {**info, "metrics": described, "thinned_from": info.get("metrics")}
    return json.dumps(complete, indent=1, allow_nan=False) + "\n"


def digest(path: Path) -> str:
    """The file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit(root: Path) -> str:
    """The checkout's commit, with "+changes" if the tree differs; "unknown" outside git."""
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        dirty = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if dirty else "")


def check_manifest(folder: Path) -> dict[str, Any]:
    """Check a published scale against its manifest and return the manifest.

    Raises:
        ValueError: A file is missing, not listed, or different from its entry.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"no {path}; run `make publish` first")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {
        "manifest.json"
    }
    for name in sorted(there ^ set(manifest["files"])):
        raise ValueError(
            f"{folder / name} is {'not in the manifest' if name in there else 'missing'}; publish "
            "again"
        )
    for name, line in manifest["files"].items():
        if digest(folder / name) != line["sha256"]:
            raise ValueError(f"{folder / name} was changed after it was published; publish again")
    return manifest
