"""A run's two result files: `metrics.csv`, and `run.json`, which vouches for it.

`run.json` holds under `metrics` the sha256, the number of rows and the seeds of `metrics.csv`. All
code reads runs through this module, so that no number of a damaged file reaches a table.
"""

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

from system.errors import UserError
from system.reading import parse_json, read_bytes, reason

# The longest metrics.csv that is read.
MOST_BYTES = 2**30
REMEDY = "train the run again"
NEEDED: dict[str, Any] = {
    "experiment": str,
    "method": str,
    "scale": str,
    "seeds": list,
    "data": (dict, str),
}
OPTIONAL: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("settings", "seconds", "machine", "versions", "chosen", "tuning"),
            *("numeric_settings", "accepted_code_changes"),
        ),
        dict,
    ),
    **dict.fromkeys(("code_hash", "commit", "device", "peak_memory_of"), str),
    "peak_memory_mb": (int, float),
    "metrics": dict,
}


def describe(content: bytes) -> dict[str, Any]:
    """Describes a `metrics.csv` for `run.json`: sha256, rows below the header, seeds."""
    # Parsed as CSV, because a quoted field may contain line breaks.
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"))))[1:]
    seeds = sorted({int(row[0]) for row in rows if row})
    return {"sha256": hashlib.sha256(content).hexdigest(), "rows": len(rows), "seeds": seeds}


def read_info(path: Path) -> dict[str, Any]:
    """Reads a `run.json`.

    Raises:
        UserError: It is missing or unreadable, or lacks the parts and types of a `run.json`.
    """
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise UserError(
            f"no {path}; {REMEDY}, its metrics.csv alone does not say what it measured"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); make it readable") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text; {REMEDY}") from None
    info = parse_json(text, str(path), REMEDY)
    if not isinstance(info, dict):
        raise UserError(f"{path} holds a {type(info).__name__}, not a mapping; {REMEDY}")
    missing = [key for key in NEEDED if key not in info]
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}; {REMEDY}")
    for key, kind in {**NEEDED, **OPTIONAL}.items():
        if key in info and not isinstance(info[key], kind):
            raise UserError(f"{path}: {key} is {info[key]!r:.60}; {REMEDY}")
    # `type(...) is int` also refuses true and false, which are ints in Python.
    if not info["seeds"] or not all(type(seed) is int and seed >= 0 for seed in info["seeds"]):
        raise UserError(f"{path}: seeds are {info['seeds']!r:.60}, not numbers; {REMEDY}")
    for seed, seconds in info.get("seconds", {}).items():
        if not seed.isdecimal() or type(seconds) not in (int, float):
            raise UserError(f"{path}: seconds of seed {seed} are {seconds!r:.60}; {REMEDY}")
    return info


def read_run(path: Path) -> tuple[dict[str, Any], str]:
    """Reads a run by its `metrics.csv`: the content of `run.json` and the text of the metrics.

    Raises:
        UserError: The metrics are not those that `run.json` vouches for, or the run is in a folder
            of another experiment or method.
    """
    beside = path.with_name("run.json")
    info = read_info(beside)
    try:
        content = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {REMEDY}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); make it readable") from None
    if "metrics" not in info:
        raise UserError(
            f"{beside} has no digest of its metrics.csv, as older code wrote it; {REMEDY}, "
            f"or vouch for what is there: python -m publishing.seal {path.parent}"
        )
    if hashlib.sha256(content).hexdigest() != info["metrics"].get("sha256"):
        rows, expected = content.count(b"\n") - 1, info["metrics"].get("rows")
        raise UserError(
            f"{path} was changed after the run (it has {rows} rows, {expected} were written); "
            f"{REMEDY}"
        )
    if describe(content) != info["metrics"] or not set(info["metrics"]["seeds"]) <= {
        *info["seeds"]
    }:
        raise UserError(f"{beside} does not fit its metrics.csv (seeds or rows); {REMEDY}")
    # Runs are kept as runs/<experiment>/<method>/<run>; other layouts are not checked.
    place = path.parent.parts
    if place[-4:-3] == ("runs",) and place[-3:-1] != (info["experiment"], info["method"]):
        found = f"{info['experiment']}/{info['method']}"
        raise UserError(f"{path} lies in another place than that of {found}; {REMEDY}")
    return info, content.decode("utf-8")
