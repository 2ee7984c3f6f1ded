"""Reads the paper's numbers from `experiments/reported/*.csv`.

There is one file per table, one for figures and text, and one for later work. Columns: source,
group, row, weighting, column, value, unit, same_as, note. A line with `same_as` repeats the number
of another table (Tables 1 and 5 are rows of Tables 8 and 7), so that each number is typed once. The
column `*` of such a line means all columns.
"""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "reported"
KEYS = ["source", "group", "row", "weighting", "column"]
COLUMNS = [*KEYS, "value", "unit", "same_as", "note"]


def read(name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Read one file and fill in the references to other tables.

    Raises:
        ValueError: There is no such file, or a reference has no target.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise ValueError(
            f"no reported numbers at {path}; there are "
            f"{', '.join(sorted(p.stem for p in folder.glob('*')))}"
        )
    # As text: an empty cell is "" and not nan, and no name is read as a number.
    lines = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(lines.columns) != COLUMNS:
        raise ValueError(
            f"{path} has the columns {', '.join(lines.columns)}; expected {', '.join(COLUMNS)}"
        )
    # The tables that are referred to have no references themselves, so the recursion ends.
    others = {other: read(other, folder) for other in set(lines["same_as"]) - {""}}
    parts = [
        _follow(line, others[line["same_as"]])
        for _, line in lines[lines["same_as"] != ""].iterrows()
    ]
    own = lines[lines["same_as"] == ""].astype({"value": float})
    frame = pd.concat([own, *parts], ignore_index=True)
    if frame.duplicated(KEYS).any():
        raise ValueError(
            f"{path} gives a number twice: {frame[frame.duplicated(KEYS)][KEYS].values.tolist()[0]}"
        )
    return frame


def _follow(line: "pd.Series[str]", other: pd.DataFrame) -> pd.DataFrame:
    found = other[(other["row"] == line["row"]) & (other["weighting"] == line["weighting"])]
    if line["column"] != "*":
        found = found[found["column"] == line["column"]]
    if found.empty:
        raise ValueError(
            f"{line['source']} refers to {line['row']} {line['column']} of {line['same_as']}: no "
            "such number"
        )
    return found.assign(source=line["source"], same_as=line["same_as"])


def number(source: str, row: str, column: str, *, weighting: str = "", group: str = "") -> float:
    """Look up one number of the paper.

    Raises:
        ValueError: There is no such number, or more than one.
    """
    frame = read(source if source.startswith("table_") else "figures")
    wanted = {"source": source, "row": row, "column": column, "weighting": weighting}
    if group:
        wanted["group"] = group
    for key, value in wanted.items():
        frame = frame[frame[key] == value]
    if len(frame) != 1:
        raise ValueError(
            f"the paper has {len(frame)} numbers for {wanted}; see experiments/reported"
        )
    return float(frame["value"].iloc[0])


def later(group: str) -> list[str]:
    """The numbers of later work on a data set (`later.csv`): one footer line per publication."""
    frame = read("later")
    lines = []
    for source, numbers in frame[frame["group"] == group].groupby("source", sort=False):
        rows = (
            f"{row} {' / '.join(f'{value:.2f}' for value in cells['value'])}"
            for row, cells in numbers.groupby("row", sort=False)
        )
        lines.append(
            f"reported by {source}, {', '.join(dict.fromkeys(numbers['column']))}, %: "
            f"{'; '.join(rows)}"
        )
    return lines
