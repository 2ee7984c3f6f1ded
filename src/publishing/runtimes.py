"""Tabulates the run time of a scale, one row per rule: trainings from their `run.json`, the rest
from Snakemake's benchmark files.

    python -m publishing.runtimes results/quick

The command writes `runtimes.csv` and `runtimes.md` into the folder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from system import command
from system.errors import UserError
from system.results import read_info
from system.writing import write_text

UNITS = {
    "jobs": "jobs",
    "core_seconds": "seconds",
    "longest": "longest job, s",
    "memory": "peak memory, MB",
}
SPANS = ("core_seconds", "longest", "memory")
REMEDY = "delete it and run again"


def benchmarks(folder: Path) -> list[dict[str, Any]]:
    """Seconds and peak memory of every job that Snakemake measured, but for trainings."""
    rows = []
    for path in sorted((folder / "benchmarks").rglob("*.tsv")):
        rule = path.relative_to(folder / "benchmarks").parts[0].removesuffix(".tsv")
        if not rule.startswith("train_"):
            # Snakemake writes "-" where a job was too short to be measured.
            types = {"s": float, "max_rss": float}
            last = read(path, types, sep="\t", na_values="-").iloc[-1]
            rows.append({"rule": rule, "seconds": last["s"], "memory": last["max_rss"]})
    return rows


def read(path: Path, types: Mapping[str, type], **options: Any) -> pd.DataFrame:
    """Read the columns of these types from a file that has at least one row.

    Raises:
        UserError: The file has not these columns, or no row.
    """
    try:
        frame = pd.read_csv(path, usecols=[*types], dtype=types, **options)
    except ValueError as error:
        raise UserError(f"{path} holds no run times ({error}); {REMEDY}") from None
    if frame.empty:
        raise UserError(f"{path} holds no run times; {REMEDY}")
    return frame


def trainings(folder: Path) -> list[dict[str, Any]]:
    """Seconds and peak memory of every run, as its `run.json` says.

    Snakemake's files know one training only: the last that this folder's machine made. A run that
    was resumed, or copied from another machine, is known to its `run.json` alone.
    """
    infos = [read_info(path) for path in sorted(folder.glob("runs/*/*/*/run.json"))]
    return [
        {
            "rule": f"train_{info['experiment']}",
            "seconds": sum(info.get("seconds", {}).values()),
            "memory": info.get("peak_memory_mb", float("nan")),  # not in the oldest
        }
        for info in infos
    ]


def runtimes(folder: Path) -> pd.DataFrame:
    """Jobs, total wall seconds, longest job and peak resident memory (MB) per rule.

    A rule that did not run again keeps its row of the folder's last `runtimes.csv`.
    """
    rows = benchmarks(folder) + trainings(folder)
    before = folder / "runtimes.csv"
    if not rows:
        raise UserError(f"no benchmark files below {folder}/benchmarks; run the pipeline first")
    spans = pd.DataFrame(rows).groupby("rule")
    table = spans["seconds"].agg(jobs="size", core_seconds="sum", longest="max")
    table = table.assign(memory=spans["memory"].max()).reset_index()
    if before.is_file():
        old = read(before, {"rule": str, "jobs": int, **dict.fromkeys(SPANS, float)})
        table = pd.concat([table, old[~old["rule"].isin(table["rule"])]])
    return table.sort_values("core_seconds", ascending=False, ignore_index=True)


def machine(folder: Path) -> str:
    """The machine of the newest run in words."""
    records = sorted((folder / "runs").rglob("run.json"), key=lambda path: path.stat().st_mtime)
    if not records:
        return "unknown machine"
    found = read_info(records[-1]).get("machine", {})
    return f"{found.get('processor', 'unknown processor')}, {found.get('cores', '?')} cores"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table into the folder of the results."""
    parser = command.Parser(prog="python -m publishing.runtimes")
    parser.add_argument("folder", type=command.folder, help="for example results/quick")
    folder = parser.parse_args(arguments).folder
    table = runtimes(folder)
    text = table.to_csv(index=False, float_format="%.1f", lineterminator="\n")
    write_text(folder / "runtimes.csv", text)
    summed = {"jobs": "sum", "core_seconds": "sum", "longest": "max", "memory": "max"}
    # Beside the numbers stands a word.
    total = table.agg(summed).astype(object)
    total["rule"] = "**total**"
    shown = pd.concat([table, total.to_frame().T]).rename(columns=UNITS)
    text = shown.to_markdown(index=False, floatfmt=".0f")
    write_text(folder / "runtimes.md", f"{text}\n\nMeasured on: {machine(folder)}.\n")


if __name__ == "__main__":
    command.leave(main)
