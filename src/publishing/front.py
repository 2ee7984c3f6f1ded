"""Writes the front page of Snakemake's report and the figures over all results of one scale.

    python -m publishing.front results/quick

The command writes `front.rst`, `figures/scoreboard.*`, `figures/paper_against_ours.*` and
`tables/narrow/*`. The front page shows the counts of verdicts and the ten headline numbers, all
read from `claims.csv`.
"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from publishing.article import results_of, tables_of
from reporting import findings, overview, pages, render
from system import command
from system.writing import write_text

CAPTIONS = Path(__file__).resolve().parents[2] / "report" / "captions"
PICTURES = ("scoreboard", "paper_against_ours")

TITLE = (
    "Replication of *Gradient Surgery for Multi-Task Learning* "
    "(Yu, Kumar, Gupta, Levine, Hausman, Finn; NeurIPS 2020)\n"
    "at the scale **{scale}**. Numbers from generated or embedded data never count as evidence; "
    "the quick scale is a check of\n"
    "the pipeline.\n"
    "\n"
    "{verdicts}\n"
)


def table(frame: pd.DataFrame) -> str:
    """Render a frame as an RST list table; its first column is the widest."""
    widths = " ".join(["4", *["1"] * (len(frame.columns) - 1)])
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for cells in (list(frame.columns), *frame.to_numpy().tolist()):
        for number, cell in enumerate(cells):
            # RST marks the first cell of a row by `* -`, the others by `  -`.
            lines.append(f"   {'* -' if number == 0 else '  -'} {_escape(str(cell))}")
    return "\n".join(lines)


def _escape(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "*`_|\\" else sign for sign in text)


def front(folder: Path) -> str:
    """The page in RST."""
    results = findings.read([folder])
    claims = findings.ledger(results)
    counts = pd.DataFrame(
        [(word, number) for word, number in findings.count(claims).items() if number],
        columns=["verdict", "claims"],
    )
    parts = [
        TITLE.format(scale=results[0].scale, verdicts=findings.tally(claims)),
        table(counts),
        "The headline numbers, the paper's and ours:",
        table(findings.headlines(results)),
        "*0 Overview* has the scoreboard, the paper's numbers against ours and the article.",
    ]
    return "\n\n".join(parts) + "\n"


def narrow_tables(folder: Path) -> None:
    """Write every table, reduced to the most important columns, as a LaTeX `table`.

    The columns are methods, compared quantities, the paper's numbers and seeds.
    """
    (folder / "tables" / "narrow").mkdir(parents=True, exist_ok=True)
    one = findings.Results(folder)
    for name in one.tables():
        texts = []
        for number, part in enumerate(tables_of(one, name)):
            shown = pd.DataFrame(part["rows"], columns=part["header"])
            # The first part keeps the name that a paper refers to.
            tag = f"tab:{name}" if number == 0 else f"tab:{name}_{number + 1}"
            texts.append(render.narrow(shown, caption=part["caption"], label=tag))
        if texts:
            render.write_text("\n".join(texts), folder / "tables" / "narrow" / f"{name}.tex")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, the figures and the narrow tables into the folder of a scale."""
    parser = command.Parser(prog="python -m publishing.front")
    parser.add_argument("folder", type=command.folder, help="for example results/quick")
    folder = parser.parse_args(arguments).folder
    # Before anything is written.
    scale = results_of([folder])[0].scale
    narrow_tables(folder)
    render.write_text(front(folder), folder / "front.rst")
    overview.write([folder], folder / "figures")
    for name in PICTURES:
        values = SimpleNamespace(config={"scale": scale})
        words = pages.caption(CAPTIONS / f"{name}.rst", values)
        page = pages.picture(folder / "figures" / f"{name}.png", name.replace("_", " "), words)
        write_text(folder / "figures" / f"{name}.html", page)


if __name__ == "__main__":
    command.leave(main)
