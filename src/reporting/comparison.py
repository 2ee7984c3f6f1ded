"""Writes tables that compare the methods of one experiment, each in four file formats."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reporting import render, reported
from reporting.runs import Runs, footer, read_runs
from reporting.statistics import BOOTSTRAP_SEEDS
from reporting.tables import COSTS, Quantity, deviations, difference_lines, method_lines

INTERVALS = (
    "in brackets: 95% interval over seeds (Student t below 10 seeds, cut to the possible values); "
    "none below 3 seeds; in parentheses, of costs: range over seeds around the median"
)
MANY_SEEDS = (
    f"rows and differences of {BOOTSTRAP_SEEDS} seeds or more: interquartile mean with a "
    "percentile bootstrap interval; of fewer: mean"
)
TIMES = "run times compare rows roughly: runs may share the machine with other jobs"
PROCESSORS = f"{TIMES}, on different processors"
DIFFERENCES = (
    "a − b: differences paired by seed; p: Holm-corrected over all differences of this table"
)
LENGTHS = (
    "conflicts: share of pairs of task gradients that conflict; "
    "length ratio: mean of ‖update‖/‖sum of task gradients‖"
)


@dataclass(frozen=True)
class Comparison:
    """The content of one table: a row per method, then a row per difference of two methods."""

    source: str  # the paper's table, for example "table_2"
    title: str
    experiment: str  # folder of `experiments/` whose runs are compared
    methods: Sequence[str]  # rows, in this order
    pairs: Sequence[tuple[str, str]]  # (a, b) for every row "a - b" of seed-paired differences
    quantities: Sequence[Quantity]  # columns
    paper_rows: Mapping[str, str] = field(default_factory=dict)  # {method: the paper's row}
    # Lines below the table that only this table has; (rows, line) for a line that is left out where
    # none of these rows has runs.
    notes: Sequence[str | tuple[Sequence[str], str]] = ()

    def rows(self, runs: Runs) -> pd.DataFrame:
        """The records from which the table is made."""
        return runs.frame

    def paper(self) -> Mapping[Any, float]:
        """The paper's numbers by (method, task) or (method, task, metric)."""
        # A quantity without a column in the paper gets no number of the paper.
        return {
            (method, quantity.task): reported.number(self.source, row, quantity.reported)
            for method, row in self.paper_rows.items()
            for quantity in self.quantities
            if quantity.reported
        }

    def table(self, runs: Runs) -> pd.DataFrame:
        """The table in long form: one line per method and quantity, then the differences."""
        frame, paper = self.rows(runs), self.paper()
        lines = method_lines(frame, self.methods, self.quantities, paper)
        differences = difference_lines(frame, self.pairs, self.quantities, paper)
        return pd.concat([lines, differences], ignore_index=True)

    def footer(self, runs: Runs, paper: Mapping[str, Any] | None = None) -> list[str]:
        """The lines below the table: how to read it, then scale, data, seeds and deviations."""
        settings = runs.infos[0]["settings"] if runs.infos else {}
        below = footer(runs.infos, deviations=deviations(settings, paper or {}))
        ran = {info["method"] for info in runs.infos}
        notes = [note for note in self.notes if isinstance(note, str) or ran & {*note[0]}]
        words = [note if isinstance(note, str) else note[1] for note in notes]
        seeds = Counter(info["method"] for info in runs.infos for _ in info["seeds"])
        if any(number >= BOOTSTRAP_SEEDS for number in seeds.values()):
            words.insert(0, MANY_SEEDS)
        processors = {info.get("machine", {}).get("processor") for info in runs.infos}
        if processors and any(quantity.metric in COSTS for quantity in self.quantities):
            words.append(PROCESSORS if len(processors) > 1 else TIMES)
        # A table without a row needs no key.
        return [*self.reading(runs), *words, *below] if runs.infos or self.paper() else below

    def reading(self, runs: Runs) -> list[str]:
        """The lines below the table on how to read it."""
        return [INTERVALS, DIFFERENCES, LENGTHS]

    def printed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as text: one row per method and difference, one column per quantity."""
        return render.wide(table, self.quantities)

    def markdown(self, table: pd.DataFrame, below: Sequence[str]) -> str:
        """The printed table and its footer in Markdown."""
        return render.markdown(self.printed(table), below)

    def latex(self, table: pd.DataFrame, below: Sequence[str]) -> str:
        """The printed table and its footer in LaTeX, with a rule before the differences."""
        first_difference = sum(" - " not in method for method in table["method"].unique())
        return render.latex(self.printed(table), below, rules=(first_difference,))

    def write(
        self, paths: Sequence[str], *, paper: Mapping[str, Any] | None = None, **files: str
    ) -> None:
        """Read the runs' `metrics.csv`; write the table in long form and printed (md, tex, html).

        Settings that differ from those of the scale `paper` are listed below the table.
        """
        runs = read_runs(paths)
        table, below = self.table(runs), self.footer(runs, paper)
        render.write_csv(table, files["csv"])
        render.write_text(self.markdown(table, below), files["md"])
        render.write_text(self.latex(table, below), files["tex"])
        scale = runs.infos[0]["scale"] if runs.infos else "none"
        page = render.page(f"{self.title} (scale: {scale})", self.printed(table), below)
        render.write_text(page, files["html"])
