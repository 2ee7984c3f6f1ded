"""Table 4: accuracy on the left and the right digit of MultiMNIST, the paper's numbers beside ours."""

from collections.abc import Sequence

import pandas as pd

from reporting import render, reported
from reporting.runs import Runs, footer, read_runs
from reporting.tables import Quantity, deviations, difference_lines, method_lines, paper_settings

METHODS = ("single_task", "sum", "uncertainty", "mgda", "pcgrad", "direction_only")
PAIRS = tuple(("pcgrad", other) for other in ("sum", "mgda", "uncertainty", "single_task", "direction_only"))
PAIRS += (("direction_only", "sum"),)  # the direction alone, at the plain sum's length
PAPER_ROWS = {"mgda": "Sener & Koltun", "pcgrad": "PCGrad"}
QUANTITIES = (
    Quantity("left", "test_accuracy", "left, %", compare=True, reported="left accuracy"),
    Quantity("right", "test_accuracy", "right, %", compare=True, reported="right accuracy"),
    Quantity("all", "conflict_share", "conflicts", 3, over="all"),
    Quantity("all", "length_ratio", "length ratio", 3, over="all"),
    Quantity("all", "run_seconds", "seconds a run", 0),
)
NOTES = (
    "in brackets: 95% interval over seeds (Student t below 10 seeds); one seed has none",
    "a − b: differences paired by seed; p: left, right, Holm-corrected over all differences of this table",
    "conflicts: share of updates in which the task gradients conflict; length ratio: mean of ‖update‖/‖g₁ + g₂‖",
    "the paper's Sener & Koltun row is close to the uniform weights of their own paper (see reported/later.csv)",
)


def table_4(runs: Runs) -> pd.DataFrame:
    """The table in long form: a line per method and quantity, then the seed-paired differences."""
    paper = {
        (method, quantity.task): reported.number("table_4", row, quantity.reported)
        for method, row in PAPER_ROWS.items()
        for quantity in QUANTITIES
        if quantity.reported
    }
    lines = method_lines(runs.frame, METHODS, QUANTITIES, paper)
    return pd.concat([lines, difference_lines(runs.frame, PAIRS, QUANTITIES, paper)], ignore_index=True)


def notes(runs: Runs) -> list[str]:
    """The table's footer."""
    settings = runs.infos[0]["settings"] if runs.infos else {}
    return [*NOTES, *footer(runs.infos, deviations=deviations(settings, paper_settings("multimnist")))]


def write(paths: Sequence[str], *, csv: str, md: str, tex: str, html: str) -> None:
    """Read the runs' `metrics.csv` and write the table in four forms."""
    runs = read_runs(paths)
    table, below = table_4(runs), notes(runs)
    shown = render.wide(table, QUANTITIES)
    first_difference = sum(" - " not in method for method in table["method"].unique())
    render.write_csv(table, csv)
    render.write_text(render.markdown(shown, below), md)
    render.write_text(render.latex(shown, below, rules=(first_difference,)), tex)
    scale = runs.infos[0]["scale"] if runs.infos else "none"
    render.write_text(render.page(f"Table 4: MultiMNIST (scale: {scale})", shown, below), html)


if __name__ == "__main__":
    snakemake = globals()["snakemake"]  # put there by Snakemake

    out = snakemake.output
    write(list(snakemake.input.runs), csv=out.csv, md=out.md, tex=out.tex, html=out.html)
