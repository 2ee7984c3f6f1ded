"""Compare fresh results with the published ones, cell by cell.

    python -m publishing.verify results/quick results/published/quick

Every table and the claims are compared. On the same processor and versions the numbers must be
equal (SAME). On others, rounding changes the course of training, and a number may move by a part of
its own interval (OTHER).

Exit status: 0 every published number is found again, 1 a number differs (the first one is printed),
2 there is nothing to compare.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from publishing.manifest import check_manifest
from system import command
from system.results import read_info

KEYS = ("id", "name", "set", "method", "task", "metric")
MEASURED = ("mean", "ci_low", "ci_high", "difference", "effect", "ours", "ours_low", "ours_high")
P_VALUES = ("p", "p_holm")
# Columns that follow from the numbers.
WORDS = ("reason", "agrees", "sentence", "smallest_margin", "counterexample")
# Metrics that depend on the load of the machine.
NEVER = ("run_seconds", "run_minutes", "peak_memory_mb")


@dataclass(frozen=True)
class Tolerance:
    """The largest difference at which two numbers agree.

    It is relative·|published| + widths·(width of the published interval) + absolute[metric].
    """

    relative: float
    widths: float
    absolute: dict[str, float]
    derived: bool  # whether p-values and words, which follow from the numbers, are compared


SAME = Tolerance(1e-6, 0.0, {}, derived=True)
OTHER = Tolerance(
    # The quick scale has short runs of three seeds, whose intervals are rough estimates.
    0.1,
    1.0,
    # In percentage points, as a share, as a ratio.
    {"test_accuracy": 3.0, "conflict_share": 0.05, "length_ratio": 0.05},
    derived=False,
)


def compare(fresh: Path, published: Path) -> str:
    """Describe the first difference between two folders of results; "" if there is none.

    Raises:
        ValueError: The published folder has no valid manifest, or nothing can be compared.
    """
    manifest = check_manifest(published)
    tolerance = SAME if same_machine(fresh, manifest) else OTHER
    names = [n for n in sorted(manifest["files"]) if re.fullmatch(r"claims\.csv|tables/.*\.csv", n)]
    if not names:
        raise ValueError(f"{published} holds no table; publish the whole scale first")
    for name in names:
        if not (fresh / name).is_file():
            return f"{name}: published, but not made"
        found = difference(read(fresh / name), read(published / name), tolerance)
        if found:
            return f"{name}, {found}"
    return ""


def read(path: Path) -> pd.DataFrame:
    """Read a table as text, with its key columns as index.

    Raises:
        ValueError: The file is no table, or has a row twice.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise ValueError(f"{path} is no table ({error}); make it again") from None
    table = table.set_index([key for key in KEYS if key in table])
    if table.index.has_duplicates:
        twice = show(table.index[table.index.duplicated()][0])
        raise ValueError(f"{path} has the row {twice} twice; make it again")
    return table


def difference(fresh: pd.DataFrame, published: pd.DataFrame, tolerance: Tolerance) -> str:
    """Describe the first cell that differs by more than its tolerance; "" if none does."""
    if list(fresh.columns) != list(published.columns):
        there, here = (", ".join(table.columns) for table in (published, fresh))
        return f"columns: published {there}; fresh {here}"
    for key in [*published.index, *fresh.index]:
        if key not in fresh.index or key not in published.index:
            where = "published" if key in published.index else "fresh"
            return f"row {show(key)}: only in the {where} table"
    for key in published.index:
        old, new = published.loc[key], fresh.loc[key]
        for column in published.columns:
            allowed = allowance(key, old, column, tolerance)
            if not close(old[column], new[column], allowed):
                within = "" if allowed == 0 else f" (tolerance {allowed:.3g})"
                return (
                    f"row {show(key)}, column {column}: published {old[column]!r}, fresh "
                    f"{new[column]!r}{within}"
                )
    return ""


def allowance(key: Any, row: "pd.Series[str]", column: str, tolerance: Tolerance) -> float:
    """The allowed difference of a cell: inf if it is not compared, 0 if it must be equal."""
    metric = key[-1] if isinstance(key, tuple) else ""
    if column not in (*MEASURED, *P_VALUES, *WORDS):
        return 0.0
    # p-values and words can jump when a number moves within its tolerance.
    if metric in NEVER or (column in (*P_VALUES, *WORDS) and not tolerance.derived):
        return math.inf
    if column in WORDS:
        return 0.0
    low, high = ("ours_low", "ours_high") if column.startswith("ours") else ("ci_low", "ci_high")
    width = number(row[high]) - number(row[low])
    if tolerance.widths and not math.isfinite(width):
        # One seed has no interval that could bound its deviation on another machine.
        return math.inf
    room = tolerance.relative * abs(number(row[column])) + (
        tolerance.widths * width if tolerance.widths else 0.0
    )
    # At least 1e-12: the last printed digit may be rounded differently.
    return max(room + tolerance.absolute.get(metric, 0.0), 1e-12) if math.isfinite(room) else 1e-12


def close(old: str, new: str, allowed: float) -> bool:
    """Whether two cells agree: as numbers if a difference is allowed, else as text."""
    if old == new or allowed == math.inf:
        return True
    return allowed > 0 and abs(number(old) - number(new)) <= allowed


def number(text: str) -> float:
    """A cell as a number; nan if it holds none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def show(key: Any) -> str:
    """The key of a row in words."""
    return "/".join(key) if isinstance(key, tuple) else str(key)


def same_machine(fresh: Path, manifest: dict[str, Any]) -> bool:
    """Whether all fresh runs used the processor and the versions of the published runs."""
    infos = [read_info(path) for path in sorted(fresh.glob("runs/*/*/*/run.json"))]
    processors = {info.get("machine", {}).get("processor") for info in infos}
    published = {machine.get("processor") for machine in manifest["machines"]}
    versions = [info.get("versions") for info in infos]
    # Results from several processors say nothing about which one a table was computed on.
    return (
        processors == published
        and len(published) == 1
        and all(v in manifest["versions"] for v in versions)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = command.Parser(prog="python -m publishing.verify", description=__doc__)
    fresh = "results of a new run, for example results/quick"
    parser.add_argument("fresh", type=command.folder, help=fresh)
    published = "published results, for example results/published/quick"
    parser.add_argument("published", type=Path, help=published)
    args = parser.parse_args(arguments)
    try:
        found = compare(args.fresh, args.published)
    except (ValueError, OSError, KeyError) as error:
        command.tell(f"error: {command.told(error)}")
        return 2
    same = f"every cell of {args.published} is found again in {args.fresh}"
    print(f"differs: {found}" if found else same)
    return int(bool(found))


if __name__ == "__main__":
    command.leave(main)
