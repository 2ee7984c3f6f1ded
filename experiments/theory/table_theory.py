"""The statements of the paper's theory: verdict, what it rests on, smallest margin, counterexample."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reporting import render

COLUMNS = ["name", "statement", "verdict", "rests_on", "smallest_margin", "counterexample"]
NOTES = (
    "holds: no trial, no search and no exact example violates the statement; proof: the file proves it besides",
    "false as stated: at least one violation, confirmed in exact rationals or 50 digits",
    "smallest margin: bound less measured, in the statement's own unit; below 0 violates it",
)


def theory(reports: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One line per statement and form, in the order of the reports (COLUMNS)."""
    return pd.DataFrame([row for report in reports for row in report["overview"]], columns=COLUMNS)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The printed table."""
    margins = [
        render.DASH if pd.isna(x) else f"{x:.2g}".replace("-", "−")
        for x in table["smallest_margin"]
    ]
    words = table.drop(columns="name").assign(smallest_margin=margins)
    words["counterexample"] = [text or render.DASH for text in words["counterexample"]]
    return words.rename(columns=lambda name: name.replace("_", " "))


def notes(reports: Sequence[dict[str, Any]]) -> list[str]:
    """The footer."""
    texts: dict[
        str, list[str]
    ] = {}  # settings -> statements: a scale whose statements were checked alike has one
    for report in reports:
        text = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
        texts.setdefault(text, []).append(report["statement"])
    settings = [f"settings of {', '.join(names)}: {text}" if len(texts) > 1 else f"settings: {text}"
                for text, names in texts.items()]  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in reports[0]["versions"].items())
    return [*NOTES, f"scale: {reports[0]['scale']}", *settings, f"versions: {versions}"]


def write(paths: Sequence[str], *, csv: str, md: str, tex: str, html: str) -> None:
    """Read the checks' JSON and write the table in four forms."""
    reports = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    table, below = theory(reports), notes(reports)
    render.write_csv(table, csv)
    render.write_text(render.markdown(shown(table), below), md)
    render.write_text(render.latex(shown(table), below), tex)
    title = f"The paper's theory (scale: {reports[0]['scale']})"
    render.write_text(render.page(title, shown(table), below), html)


if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    out = snakemake.output
    write(list(snakemake.input.proofs), csv=out.csv, md=out.md, tex=out.tex, html=out.html)
