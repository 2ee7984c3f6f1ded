"""Table of the paper's theory: reading, verdict, deciding checks and reason of every statement."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reporting import render
from system.reading import read_json

COLUMNS = (
    "name",
    "source",
    "statement",
    "reading",
    "verdict",
    "decided_by",
    "sentence",
    "smallest_margin",
    "counterexample",
)
NOTES = (
    "holds: proved as printed; holds in this reading: proved in the reading that is named",
    "false as stated: an instance satisfies every hypothesis and violates the conclusion, by at "
    "least two routes",
    "misprint: a printed formula fails, and the statement is judged with the intended one",
    "decided by: the kinds of checks that ran (proof: its identities are certified by sympy); "
    "samples alone never prove",
    "smallest margin: bound minus measured over all samples, in the statement's own unit; below 0 "
    "would violate it",
)


def theory(reports: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One line per judgement in the order of the reports, with the columns COLUMNS."""
    rows = []
    for report in reports:
        for row in report["judgements"]:
            example = row["counterexample"]
            rows.append(
                {
                    **{name: row[name] for name in COLUMNS},
                    "decided_by": " · ".join(row["decided_by"]),
                    "counterexample": example["says"] if example else "",
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The printed table."""
    # A true minus sign, as in the other tables.
    margins = [
        render.DASH if pd.isna(x) else f"{x:.2g}".replace("-", "−")
        for x in table["smallest_margin"]
    ]
    words = table.drop(columns="name").assign(smallest_margin=margins)
    for column in ("reading", "counterexample"):
        words[column] = [text or render.DASH for text in words[column]]
    words["reading"] = words["reading"].replace(render.DASH, "as printed")
    return words.rename(columns=lambda name: name.replace("_", " "))


def notes(reports: Sequence[dict[str, Any]]) -> list[str]:
    """The lines below the table."""
    # {settings: statements}, so that statements with equal settings share a line.
    texts: dict[str, list[str]] = {}
    for report in reports:
        text = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
        texts.setdefault(text, []).append(report["statement"])
    settings = [
        f"settings of {', '.join(names)}: {text}" if len(texts) > 1 else f"settings: {text}"
        for text, names in texts.items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in reports[0]["versions"].items())
    return [*NOTES, f"scale: {reports[0]['scale']}", *settings, f"versions: {versions}"]


def write(*paths: str, **files: str) -> None:
    """Read the JSON files of the checks and write the table; see `render.write_table`."""
    reports = [read_json(Path(path), "make it again") for path in paths]
    table = theory(reports)
    title = f"The paper's theory (scale: {reports[0]['scale']})"
    render.write_table(table, shown(table), notes(reports), title, **files)
