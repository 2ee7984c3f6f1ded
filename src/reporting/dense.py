"""Writes Tables 1, 5, 6, 7 and 8 (dense prediction).

A row is an architecture with loss weights, without or with PCGrad. Methods are named
`{architecture}_{weights}` or `{architecture}_{weights}_pcgrad`; "one_task" and "stan" have no
weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reporting import render, reported
from reporting.comparison import INTERVALS, LENGTHS, Comparison
from reporting.runs import Runs
from reporting.statistics import NAN
from reporting.tables import UPDATES, Quantity

SINGLE = {"one_task": "One Task", "stan": "STAN"}
MULTI = {
    "split_wide": "Split, Wide",
    "split_deep": "Split, Deep",
    "dense": "Dense",
    "cross_stitch": "Cross-Stitch",
    "mtan": "MTAN",
}
# {weights: how the paper's name of them begins}.
WEIGHTS = {"equal": "Equal", "uncertainty": "Uncert", "dwa": "DWA"}
PCGRAD = "_pcgrad"
# Last epochs over which a run is averaged, as the README of the base code recommends.
EPOCHS = 10
SIZE = Quantity("all", "relative_parameters", "#P", reported="parameters")
BLOCKS = {
    "segmentation": "Segmentation",
    "depth": "Depth",
    "normal": "Surface normals",
    "all": "Updates and run time",
}


def _tested(task: str, metric: str, title: str, reported: str = "", decimals: int = 2) -> Quantity:
    """A metric averaged over a run's last epochs, and compared by seed if the paper reports it."""
    return Quantity(
        task, metric, title, decimals, last=EPOCHS, compare=bool(reported), reported=reported
    )


SEGMENTATION = (
    _tested("segmentation", "test_mIoU_per_image", "mIoU, %", "mIoU"),
    _tested("segmentation", "test_PixAcc_per_image", "PixAcc, %", "PixAcc"),
    _tested("segmentation", "test_mIoU", "accumulated mIoU, %"),
    _tested("segmentation", "test_PixAcc", "accumulated PixAcc, %"),
)
NORMALS = (
    _tested("normal", "test_mean_angle", "mean °", "mean angle"),
    _tested("normal", "test_median_angle", "median °", "median angle"),
    _tested("normal", "test_within_11.25", "< 11.25°, %", "within 11.25"),
    _tested("normal", "test_within_22.5", "< 22.5°, %", "within 22.5"),
    _tested("normal", "test_within_30", "< 30°, %", "within 30"),
)
NOTES = (
    INTERVALS,
    "paper: its number, in brackets ours − the paper's; #P: parameters over those of one "
    "single-task SegNet",
    "a − b: differences paired by seed; p: in the columns' order, Holm-corrected over all "
    "differences of the table",
    "higher is better for mIoU, PixAcc and the shares below an angle, lower for errors and angles",
    "mIoU and PixAcc are means over images, the paper's form; accumulated: over all pixels of the "
    "test set",
    LENGTHS,
)


def depth(relative_decimals: int) -> tuple[Quantity, ...]:
    """The two errors of depth, with the decimals of the relative one.

    CityScapes' relative error is a thousand times NYUv2's and needs fewer decimals.
    """
    return (
        _tested("depth", "test_AbsErr", "AbsErr", "AbsErr", 4),
        _tested("depth", "test_RelErr", "RelErr", "RelErr", relative_decimals),
    )


@dataclass(frozen=True)
class DenseTable(Comparison):
    """A table of dense prediction: three tasks, each with a block of columns."""

    sources: Sequence[str] = ()  # the paper's tables that hold numbers of these rows

    def rows(self, runs: Runs) -> pd.DataFrame:
        """The records from which the table is made; see `last_epochs`."""
        return last_epochs(runs.frame)

    def paper(self) -> dict[Any, float]:
        """{(method, task, metric): the paper's number}.

        Table 6 names no weights; its rows without PCGrad equal Table 8's with uncertainty weights.
        """
        found = {}
        frame = pd.concat([reported.read(source) for source in self.sources], ignore_index=True)
        for method in self.methods:
            lines = frame[_of_row(frame, method)]
            for quantity in self.quantities:
                # Two tables can repeat a number; if they contradict each other, show none.
                values = lines[lines["column"] == quantity.reported]["value"].unique()
                if quantity.reported and len(values) == 1:
                    found[method, quantity.task, quantity.metric] = float(values[0])
        return found

    def reading(self, runs: Runs) -> list[str]:
        """The lines below the table on how to read it."""
        tested = last_epochs(runs.frame[runs.frame["metric"].str.startswith("test_")])
        # The number of evaluations in these epochs depends on the setting evaluate_every.
        count = tested.groupby(["method", "seed"])["step"].nunique().max() if len(tested) else 0
        here = f" (here {count})" if count else ""
        value = f"the number of a run: mean over the evaluations of its last {EPOCHS} epochs{here}"
        return [value, *NOTES]

    def printed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as text: one row per method and difference, ours and the paper's numbers."""
        return printed(table, self.quantities)

    def blocks(self, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """The printed table split by task, because all columns are too wide for a page."""
        shown = {
            title: printed(table, [q for q in self.quantities if q.task == task])
            for task, title in BLOCKS.items()
        }
        return {title: part for title, part in shown.items() if not part.empty}

    def markdown(self, table: pd.DataFrame, below: Sequence[str]) -> str:
        """The blocks and the footer in Markdown."""
        sections = [
            f"**{title}**\n\n{render.markdown(shown, ())}"
            for title, shown in self.blocks(table).items()
        ]
        return "\n".join([*sections, *(f"- {line}" for line in below), ""])

    def latex(self, table: pd.DataFrame, below: Sequence[str]) -> str:
        """The blocks in LaTeX; the footer follows the last one only."""
        parts = self.blocks(table)
        last = list(parts)[-1:]
        return "\n".join(
            f"\\noindent\\textbf{{{title}}}\\par\n"
            f"{render.latex(shown, below if [title] == last else ())}"
            for title, shown in parts.items()
        )


def dense_table(
    number: int,
    experiment: str,
    title: str,
    methods: Sequence[str],
    quantities: Sequence[Quantity],
    also: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> DenseTable:
    """A table of the paper whose rows with PCGrad are compared with the same rows without.

    `also` names further tables of the paper that hold numbers of these rows.
    """
    return DenseTable(
        source=f"table_{number}",
        title=f"Table {number}: {title}",
        experiment=experiment,
        methods=methods,
        pairs=[(m, m.removesuffix(PCGRAD)) for m in methods if m.endswith(PCGRAD)],
        quantities=(SIZE, *quantities, *UPDATES),
        notes=notes,
        sources=(f"table_{number}", *also),
    )


def rows(architectures: Iterable[str], weights: Iterable[str] = tuple(WEIGHTS)) -> tuple[str, ...]:
    """Names of methods in the paper's order, each without and with PCGrad."""
    weights = tuple(weights)
    return tuple(
        f"{a}_{w}{surgery}" for a in architectures for w in weights for surgery in ("", PCGRAD)
    )


def parse(method: str) -> tuple[str, str, bool]:
    """Split a method into the paper's name of the architecture, the loss weights, and PCGrad.

    The weights are "" for a method without; the last part says whether PCGrad is added.

    Raises:
        ValueError: The method is not a row of these tables.
    """
    plain = method.removesuffix(PCGRAD)
    if plain in SINGLE:
        return SINGLE[plain], "", False
    architecture, _, weights = plain.rpartition("_")
    if architecture not in MULTI or weights not in WEIGHTS:
        raise ValueError(
            f"{method} is no row of the dense-prediction tables: "
            f"{{architecture}}_{{weights}}[{PCGRAD}]"
        )
    return MULTI[architecture], WEIGHTS[weights], method.endswith(PCGRAD)


def _of_row(frame: pd.DataFrame, method: str) -> "pd.Series[bool]":
    """Which lines of the paper's numbers belong to a method."""
    architecture, weights, surgery = parse(method)
    # The paper's tables name such a row in either order.
    names = (f"{architecture}+PCGrad", f"PCGrad+{architecture}") if surgery else (architecture,)
    unnamed = (frame["weighting"] == "") & (weights in ("", WEIGHTS["uncertainty"]))
    weighted = (frame["weighting"].str.split(" ").str[0] == weights) & (weights != "")
    return frame["row"].isin(names) & (unnamed | weighted)


def last_epochs(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of every run's last 10 epochs, and all rows of task "all".

    Rows of epoch 0 are dropped, because they belong to the untrained network.
    """
    ends = frame.groupby(["method", "seed"])["step"].transform("max")
    return frame[(frame["task"] == "all") | ((frame["step"] > 0) & (frame["step"] > ends - EPOCHS))]


def printed(table: pd.DataFrame, quantities: Sequence[Quantity]) -> pd.DataFrame:
    """Some of the quantities as text: one row per method or difference, ours and the paper's."""
    shown = []
    for method, lines in table.groupby("method", sort=False):
        by_quantity = {(line["task"], line["metric"]): line for line in lines.to_dict("records")}
        found = {
            q: by_quantity[key] for q in quantities if (key := (q.task, q.metric)) in by_quantity
        }
        if not found:
            continue
        names = [parse(part) for part in str(method).split(" - ")]
        row = {
            "architecture": " − ".join(
                name + (" + PCGrad" if surgery else "") for name, _, surgery in names
            )
        }
        # Both methods of a difference have the same weights.
        row["weights"] = names[0][1] or render.DASH
        size = by_quantity.get((SIZE.task, SIZE.metric), {}).get("mean", NAN)
        row["#P"] = render.number(size, SIZE.decimals)
        for quantity in (q for q in quantities if q.metric != SIZE.metric):
            line = found.get(quantity, {})
            row[quantity.title] = render.value_cell(line, quantity.decimals)
            if quantity.reported:
                row[f"paper: {quantity.title}"] = render.paper_cell(line, quantity.decimals)
        if any(quantity.compare for quantity in quantities):
            p = [line["p_holm"] for line in found.values() if not pd.isna(line["p_holm"])]
            row["p (Holm)"] = ", ".join(f"{value:.2g}" for value in p) or render.DASH
        row["seeds"] = str(min(line["seeds"] for line in found.values()) or render.DASH)
        shown.append(row)
    return pd.DataFrame(shown)
