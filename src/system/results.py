"""A run's two result files: `metrics.csv`, and `run.json`, which vouches for it.

`run.json` holds under `metrics` the sha256, the number of rows and the seeds of `metrics.csv`. All
code reads runs through this module, so that no number of a damaged file reaches a table. A
published `metrics.csv` may be packed as `metrics.csv.gz`; its checksum is that of the content.
"""

import csv
import hashlib
import io
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from system.errors import UserError
from system.reading import parse_json, read_bytes, reason

METRICS, PACKED = "metrics.csv", "metrics.csv.gz"
COLUMNS = ["seed", "step", "task", "metric", "value"]
# The longest metrics.csv that is read, also after unpacking.
MOST_BYTES = 2**30
# For zlib: a gzip header, and the largest window.
GZIP = 31
REMEDY = "train the run again"

Check = Callable[[Any], bool]
NEEDED = ("experiment", "method", "scale", "seeds", "data")


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _number(value: Any) -> bool:
    # `type(...)` also refuses true and false, which are ints in Python.
    return type(value) in (int, float) and value >= 0


def _seeds(value: Any) -> bool:
    whole = isinstance(value, list) and all(type(seed) is int and seed >= 0 for seed in value)
    return whole and 0 < len(value) == len(set(value))


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _mapping_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _has(parts: Mapping[str, Check], value: Any) -> bool:
    return isinstance(value, dict) and all(
        key in value and check(value[key]) for key, check in parts.items()
    )


def _tuning(value: Any) -> bool:
    if not _has({"value": _number, "edges": _list_of(_text)}, value):
        return False
    budget = value.get("budget")
    parts = {"metric": _text, "seeds": _seeds, "epochs": _number, "validation_share": _number}
    # All other entries are the values that were tried.
    return _has(parts, budget) and all(
        _list_of(_number)(tried) for key, tried in budget.items() if key not in parts
    )


METRICS_PARTS = {"sha256": _text, "rows": _number, "seeds": _list_of(lambda _: True)}
# What the entries of a `run.json` must be; others may be anything.
CHECKS: dict[str, Check] = {
    **dict.fromkeys(("experiment", "method", "scale", "code_hash", "commit", "device"), _text),
    **dict.fromkeys(("peak_memory_of", "precision"), _text),
    **dict.fromkeys(("versions", "numeric_settings"), _mapping_of(_text)),
    **dict.fromkeys(("seconds", "unfinished", "chosen", "point"), _mapping_of(_number)),
    **dict.fromkeys(("settings", "machine"), _mapping_of(lambda _: True)),
    "metrics": lambda value: _has(METRICS_PARTS, value),
    "seeds": _seeds,
    "data": lambda value: isinstance(value, dict) or _text(value),
    "accepted_code_changes": _mapping_of(_list_of(_text)),
    "deviations": _list_of(_text),
    "peak_memory_mb": _number,
    "tuning": _tuning,
}
# Entries with one value per seed.
BY_SEED = ("seconds", "unfinished", "accepted_code_changes")


def describe(content: bytes) -> dict[str, Any]:
    """Describes a `metrics.csv` for `run.json`: sha256, rows below the header, seeds.

    Raises:
        ValueError: A line is no row of numbers and names under the columns COLUMNS.
    """
    # Parsed as CSV, because a quoted field may contain line breaks.
    header, *rows = [*csv.reader(io.StringIO(content.decode("utf-8")))] or [[]]
    if header != COLUMNS:
        raise ValueError(f"its columns are {', '.join(header) or 'none'}")
    for seed, step, _, _, value in rows:
        int(seed), int(step), float(value)
    seeds = sorted({int(row[0]) for row in rows})
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
    for key, check in CHECKS.items():
        if key in info and not check(info[key]):
            raise UserError(f"{path}: {key} is {info[key]!r:.60}; {REMEDY}")
    seeds = {str(seed) for seed in info["seeds"]}
    for key in BY_SEED:
        if others := sorted(set(info.get(key, {})) - seeds):
            raise UserError(f"{path}: {key} names the seed {others[0]!r:.30}; {REMEDY}")
    # Tables name the values that each chosen one was chosen from.
    tuning = info.get("tuning", {"budget": info.get("chosen", {})})
    if set(info.get("chosen", {})) - set(tuning["budget"]):
        raise UserError(f"{path}: chosen holds what its tuning did not try; {REMEDY}")
    return info


def _unpacked(packed: bytes) -> bytes:
    """Unpacks the first gzip stream, never to more than MOST_BYTES."""
    reader = zlib.decompressobj(wbits=GZIP)
    content = reader.decompress(packed, MOST_BYTES)
    if not reader.eof:
        raise zlib.error("the stream has no end")
    return content


def read_run(path: Path) -> tuple[dict[str, Any], str]:
    """Reads a run by its `metrics.csv` or `metrics.csv.gz`: `run.json` and the metrics' text.

    Raises:
        UserError: The metrics are not those that `run.json` vouches for, or the run is in a folder
            of another experiment or method.
    """
    beside = path.with_name("run.json")
    info = read_info(beside)
    try:
        content = read_bytes(path, MOST_BYTES)
        if path.name == PACKED:
            content = _unpacked(content)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {REMEDY}") from None
    except zlib.error as error:
        raise UserError(f"{path} is no gzip file or damaged ({error}); {REMEDY}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); make it readable") from None
    if "metrics" not in info:
        raise UserError(f"{beside} has no digest of its metrics.csv; {REMEDY}")
    if hashlib.sha256(content).hexdigest() != info["metrics"].get("sha256"):
        rows, expected = content.count(b"\n") - 1, info["metrics"].get("rows")
        raise UserError(
            f"{path} was changed after the run (it has {rows} rows, {expected} were written); "
            f"{REMEDY}"
        )
    try:
        described = describe(content)
    # A new checksum would vouch for any content.
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} holds no rows of a run ({error!s:.80}); {REMEDY}") from None
    if described != info["metrics"] or not set(info["metrics"]["seeds"]) <= {*info["seeds"]}:
        raise UserError(f"{beside} does not fit its metrics.csv (seeds or rows); {REMEDY}")
    # Runs are kept as runs/<experiment>/<method>/<run>; other layouts are not checked.
    place = path.parent.parts
    if place[-4:-3] == ("runs",) and place[-3:-1] != (info["experiment"], info["method"]):
        found = f"{info['experiment']}/{info['method']}"
        raise UserError(f"{path} lies in another place than that of {found}; {REMEDY}")
    return info, content.decode("utf-8")
