"""Reads the result files of one or more scales."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from reporting.ledger.verdicts import NOT_TESTED
from reporting.runs import Runs, metrics_below, read_runs
from system.errors import UserError
from system.reading import read_json

LEDGER = ("id", "source", "claim", "verdict", "effect", "ours", "paper", "scale")
RANK = ("paper", "gpu", "laptop")  # scales whose numbers are evidence, strongest first


@dataclass(frozen=True)
class Results:
    """The result files of one scale: `results/<scale>` or `results/published/<scale>`."""

    folder: Path

    @property
    def scale(self) -> str:
        """The scale's name."""
        return str(self.claims["scale"].iloc[0]) if len(self.claims) else self.folder.name

    @cached_property
    def claims(self) -> pd.DataFrame:
        """`claims.csv`."""
        found = read_table(self.folder / "claims.csv", dtype={"agrees": str, "reason": str})
        if missing := [name for name in LEDGER if name not in found]:
            path = self.folder / "claims.csv"
            raise UserError(f"{path} has no column {', '.join(missing)}; make it again")
        return found

    def table(self, name: str) -> pd.DataFrame:
        """`tables/<name>.csv`; empty if the scale has none."""
        path = self.folder / "tables" / f"{name}.csv"
        return read_table(path) if path.is_file() else pd.DataFrame()

    def tables(self) -> list[str]:
        """The names of the scale's tables."""
        return sorted(path.stem for path in (self.folder / "tables").glob("table_*.csv"))

    def footer(self, name: str) -> list[str]:
        """The lines below a table, read from its Markdown file."""
        path = self.folder / "tables" / f"{name}.md"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [line[2:] for line in lines if line.startswith("- ")]

    def title(self, name: str) -> str:
        """A table's title, read from its HTML page; its name if there is no page."""
        path = self.folder / "tables" / f"{name}.html"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return text.partition("<title>")[2].partition(" (scale")[0] or name.replace("_", " ")

    def runs(self, experiment: str) -> Runs:
        """The runs of one experiment."""
        return read_runs(metrics_below(self.folder, experiment))

    def file(self, name: str) -> dict[str, Any]:
        """The content of a JSON file of the scale; empty if there is none."""
        path = self.folder / name
        return dict(read_json(path, "make it again")) if path.is_file() else {}


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """A table of results as it was written.

    Raises:
        UserError: The file is no table.
    """
    try:
        return pd.read_csv(path, **options)
    except ValueError as error:
        raise UserError(f"{path} is no table ({error}); make it again") from None


def read(folders: Iterable[str | Path]) -> list[Results]:
    """The results of the folders that hold a ledger, strongest scale first."""
    found = [Results(Path(folder)) for folder in folders if (Path(folder) / "claims.csv").is_file()]
    return sorted(found, key=lambda one: rank(one.scale))


def rank(scale: str) -> int:
    return RANK.index(scale) if scale in RANK else len(RANK)


def ledger(results: Sequence[Results]) -> pd.DataFrame:
    """One line per claim, taken from the strongest scale that tested the claim."""
    lines: dict[str, Any] = {}
    for one in results:
        for line in one.claims.to_dict("records"):
            # Results are sorted by strength: a later scale only replaces an untested line.
            known = lines.get(line["id"])
            if known is None or (known["verdict"] == NOT_TESTED and line["verdict"] != NOT_TESTED):
                lines[line["id"]] = line
    return pd.DataFrame(list(lines.values()))


def first(results: Sequence[Results], name: str) -> Results | None:
    # Prefer scales whose numbers are evidence; fall back on any scale that has the file.
    return next(
        (one for one in results if (one.folder / name).exists() and rank(one.scale) < len(RANK)),
        next((one for one in results if (one.folder / name).exists()), None),
    )


def strongest(results: Sequence[Results]) -> dict[str, Results]:
    """{table: the strongest scale with real data for it}, in the paper's order."""
    found: dict[str, Results] = {}
    for one in results:
        # Results are sorted by strength, so the first scale with real data is the strongest.
        for name in one.tables() if rank(one.scale) < len(RANK) else ():
            if name not in found and is_real(one.footer(name)):
                found[name] = one
    return dict(sorted(found.items(), key=lambda item: order(item[0])))


def is_real(footer: Sequence[str]) -> bool:
    """Whether the line "data:" below a table names real rather than generated data."""
    data = next((line for line in footer if line.startswith("data:")), "")
    return bool(data) and "real False" not in data and "generated" not in data


def order(name: str) -> tuple[int, str]:
    """Sort key of tables and figures: the paper's by number, then ours by name."""
    number = name.rpartition("_")[2]
    return (int(number), "") if number.isdigit() else (99, name)
