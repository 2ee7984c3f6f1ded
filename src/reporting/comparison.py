"""A table that compares methods of one experiment: its rows, columns, differences, and the four
files made of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reporting import render, reported
from reporting.runs import Runs, footer, read_runs
from reporting.tables import Quantity, deviations, difference_lines, method_lines

INTERVALS = (
    "in brackets: 95% interval over seeds (Student t below 10 seeds, cut to the possible values); "
    "none below 3 seeds; in parentheses, of costs: range over seeds around the median"
)
DIFFERENCES = (
    "a − b: differences paired by seed; p: Holm-corrected over all differences of this table"
)
LENGTHS = "conflicts: share of pairs of task gradients that conflict; length ratio: mean of ‖update‖/‖sum of task gradients‖"


@dataclass(frozen=True)
class Comparison:
    """What a table shows. `paper_rows` maps a method to the paper's row of `source`; later rows are
    differences.
    """

    source: str
    title: str
    experiment: str
    methods: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    quantities: Sequence[Quantity]
    paper_rows: Mapping[str, str]
    notes: Sequence[str] = ()

    def table(self, runs: Runs) -> pd.DataFrame:
        """The table in long form: a line per method and quantity, then the seed-paired differences."""
        paper = {
            (method, quantity.task): reported.number(self.source, row, quantity.reported)
            for method, row in self.paper_rows.items()
            for quantity in self.quantities
            if quantity.reported
        }
        lines = method_lines(runs.frame, self.methods, self.quantities, paper)
        return pd.concat(
            [lines, difference_lines(runs.frame, self.pairs, self.quantities, paper)],
            ignore_index=True,
        )

    def footer(self, runs: Runs, paper: Mapping[str, Any] | None = None) -> list[str]:
        """What stands below the table: how to read it, then scale, data, seeds, devices,
        deviations.
        """
        settings = runs.infos[0]["settings"] if runs.infos else {}
        below = footer(runs.infos, deviations=deviations(settings, paper or {}))
        return [INTERVALS, DIFFERENCES, LENGTHS, *self.notes, *below]

    def write(
        self,
        paths: Sequence[str],
        *,
        paper: Mapping[str, Any] | None = None,
        csv: str,
        md: str,
        tex: str,
        html: str,
    ) -> None:
        """Read the runs' `metrics.csv` and write the table in four forms; `paper`: its settings."""
        runs = read_runs(paths)
        table, below = self.table(runs), self.footer(runs, paper)
        shown = render.wide(table, self.quantities)
        first_difference = sum(" - " not in method for method in table["method"].unique())
        render.write_csv(table, csv)
        render.write_text(render.markdown(shown, below), md)
        render.write_text(render.latex(shown, below, rules=(first_difference,)), tex)
        scale = runs.infos[0]["scale"] if runs.infos else "none"
        render.write_text(render.page(f"{self.title} (scale: {scale})", shown, below), html)
