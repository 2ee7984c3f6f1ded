"""Writes Tables 1, 5, 6, 7 and 8 (dense prediction).

A row is an architecture with loss weights, without or with PCGrad. Methods are named
`{architecture}_{weights}` or `{architecture}_{weights}_pcgrad`; "one_task" and "stan" have no
weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reporting import render, reported
from reporting.comparison import INTERVALS, LENGTHS
from reporting.runs import Runs, footer, read_runs
from reporting.statistics import NAN
from reporting.tables import Quantity, deviations, difference_lines, method_lines

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
SEGMENTATION = (
    Quantity(
        "segmentation",
        "test_mIoU_per_image",
        "mIoU, %",
        2,
        last=EPOCHS,
        compare=True,
        reported="mIoU",
    ),
    Quantity(
        "segmentation",
        "test_PixAcc_per_image",
        "PixAcc, %",
        2,
        last=EPOCHS,
        compare=True,
        reported="PixAcc",
    ),
    Quantity("segmentation", "test_mIoU", "accumulated mIoU, %", 2, last=EPOCHS),
    Quantity("segmentation", "test_PixAcc", "accumulated PixAcc, %", 2, last=EPOCHS),
)
NORMALS = (
    Quantity(
        "normal", "test_mean_angle", "mean °", 2, last=EPOCHS, compare=True, reported="mean angle"
    ),
    Quantity(
        "normal",
        "test_median_angle",
        "median °",
        2,
        last=EPOCHS,
        compare=True,
        reported="median angle",
    ),
    Quantity(
        "normal",
        "test_within_11.25",
        "< 11.25°, %",
        2,
        last=EPOCHS,
        compare=True,
        reported="within 11.25",
    ),
    Quantity(
        "normal",
        "test_within_22.5",
        "< 22.5°, %",
        2,
        last=EPOCHS,
        compare=True,
        reported="within 22.5",
    ),
    Quantity(
        "normal", "test_within_30", "< 30°, %", 2, last=EPOCHS, compare=True, reported="within 30"
    ),
)
UPDATES = (
    Quantity("all", "conflict_share", "conflicts", 3, over="all"),
    Quantity("all", "length_ratio", "length ratio", 3, over="all"),
    Quantity("all", "run_seconds", "seconds a run", 0),
    Quantity("all", "peak_memory_mb", "peak memory, MB", 0),
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
        Quantity("depth", "test_AbsErr", "AbsErr", 4, last=EPOCHS, compare=True, reported="AbsErr"),
        Quantity(
            "depth",
            "test_RelErr",
            "RelErr",
            relative_decimals,
            last=EPOCHS,
            compare=True,
            reported="RelErr",
        ),
    )


@dataclass(frozen=True)
class Layout:
    """One table: its rows (methods), its columns, and the sources of the paper's numbers."""

    number: int
    experiment: str
    title: str
    methods: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

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
        """Read the runs and write the table in four formats.

        `paths` are the runs' `metrics.csv`; `paper` has the settings of the paper scale, from which
        deviations are listed below the table.
        """
        runs = read_runs(paths)
        table, below = long_table(self, runs), notes(self, runs, paper)
        parts = blocks(table, self.quantities)
        render.write_csv(table, csv)
        sections = [
            f"**{title}**\n\n{render.markdown(shown, ())}" for title, shown in parts.items()
        ]
        render.write_text("\n".join([*sections, *(f"- {line}" for line in below), ""]), md)
        # In LaTeX the footer follows the last block only.
        last = list(parts)[-1:]
        sections = [
            f"\\noindent\\textbf{{{title}}}\\par\n"
            f"{render.latex(shown, below if [title] == last else ())}"
            for title, shown in parts.items()
        ]
        render.write_text("\n".join(sections), tex)
        scale = runs.infos[0]["scale"] if runs.infos else "none"
        whole = printed(table, self.quantities)
        render.write_text(
            render.page(f"Table {self.number}: {self.title} (scale: {scale})", whole, below), html
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


def paper_numbers(layout: Layout) -> dict[tuple[str, str, str], float]:
    """{(method, task, metric): the paper's number}.

    Table 6 names no weights; its rows without PCGrad equal Table 8's with uncertainty weights.
    """
    found = {}
    frame = pd.concat([reported.read(source) for source in layout.sources], ignore_index=True)
    for method in layout.methods:
        architecture, weights, surgery = parse(method)
        # The paper's tables name such a row in either order.
        names = (f"{architecture}+PCGrad", f"PCGrad+{architecture}") if surgery else (architecture,)
        lines = frame[frame["row"].isin(names)]
        unnamed = (lines["weighting"] == "") & (weights in ("", WEIGHTS["uncertainty"]))
        lines = lines[
            unnamed | ((lines["weighting"].str.split(" ").str[0] == weights) & (weights != ""))
        ]
        for quantity in layout.quantities:
            # Two tables can repeat a number; if they contradict each other, show none.
            values = lines[lines["column"] == quantity.reported]["value"].unique()
            if quantity.reported and len(values) == 1:
                found[method, quantity.task, quantity.metric] = float(values[0])
    return found


def last_epochs(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of every run's last 10 epochs, and all rows of task "all".

    Rows of epoch 0 are dropped, because they belong to the untrained network.
    """
    ends = frame.groupby(["method", "seed"])["step"].transform("max")
    return frame[(frame["task"] == "all") | ((frame["step"] > 0) & (frame["step"] > ends - EPOCHS))]


def long_table(layout: Layout, runs: Runs) -> pd.DataFrame:
    """One line per method and quantity, then PCGrad's differences to the same row without it.

    The differences are paired by seed.
    """
    frame = last_epochs(
        runs.frame[runs.frame["metric"].isin([q.metric for q in layout.quantities])]
    )
    paper = paper_numbers(layout)
    named = {method for method, *_ in paper}
    # A row needs a run or a number of the paper.
    methods = [method for method in layout.methods if method in set(frame["method"]) | named]
    pairs = [
        (m, m.removesuffix(PCGRAD))
        for m in methods
        if {m, m.removesuffix(PCGRAD)} <= set(frame["method"]) and m.endswith(PCGRAD)
    ]
    lines = method_lines(frame, methods, layout.quantities, paper)
    differences = difference_lines(frame, pairs, layout.quantities, {})
    # Fill in the paper's numbers afterwards: the calls above know no key with a metric, and Holm's
    # correction needs all differences in one call.
    table = pd.concat([lines, differences] if len(differences) else [lines], ignore_index=True)
    for index, line in table.iterrows():
        parts = [
            paper.get((method, line["task"], line["metric"]), NAN)
            for method in line["method"].split(" - ")
        ]
        number = parts[0] - parts[1] if len(parts) == 2 else parts[0]
        table.loc[index, ["paper", "difference"]] = number, line["mean"] - number  # type: ignore[index]
    return table


def printed(table: pd.DataFrame, quantities: Sequence[Quantity]) -> pd.DataFrame:
    """Some of the quantities as text: one row per method or difference, ours and the paper's."""
    shown = []
    for method, lines in table.groupby("method", sort=False):
        by_quantity = {(line["task"], line["metric"]): line for line in lines.to_dict("records")}
        found = {
            q: by_quantity[q.task, q.metric]
            for q in quantities
            if (q.task, q.metric) in by_quantity
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
                paper, difference = (line.get(key, NAN) for key in ("paper", "difference"))
                row[f"paper: {quantity.title}"] = paper_cell(paper, difference, quantity.decimals)
        if any(quantity.compare for quantity in quantities):
            p = [line["p_holm"] for line in found.values() if not pd.isna(line["p_holm"])]
            row["p (Holm)"] = ", ".join(f"{value:.2g}" for value in p) or render.DASH
        row["seeds"] = str(min(line["seeds"] for line in found.values()) or render.DASH)
        shown.append(row)
    return pd.DataFrame(shown)


def paper_cell(paper: float, difference: float, decimals: int) -> str:
    """The paper's number and ours minus it, `20.17 (+0.41)`; a dash if the paper has none."""
    if pd.isna(paper):
        return render.DASH
    apart = "" if pd.isna(difference) else f" ({render.number(difference, decimals, sign=True)})"
    return f"{render.number(paper, decimals)}{apart}"


def blocks(table: pd.DataFrame, quantities: Sequence[Quantity]) -> dict[str, pd.DataFrame]:
    """The printed table split by task, because all columns together are too wide for a page."""
    cut = {title: [q for q in quantities if q.task == task] for task, title in BLOCKS.items()}
    return {
        title: shown for title, part in cut.items() if not (shown := printed(table, part)).empty
    }


def notes(layout: Layout, runs: Runs, paper: Mapping[str, Any] | None) -> list[str]:
    """The lines below the table."""
    settings: Mapping[str, object] = runs.infos[0]["settings"] if runs.infos else {}
    tested = last_epochs(runs.frame[runs.frame["metric"].str.startswith("test_")])
    # The number of evaluations in these epochs depends on the setting evaluate_every.
    count = tested.groupby(["method", "seed"])["step"].nunique().max() if len(tested) else 0
    value = (
        f"the number of a run: mean over the evaluations of its last {EPOCHS} epochs (here {count})"
    )
    differing = deviations(settings, paper or {})
    return [value, *NOTES, *layout.notes, *footer(runs.infos, deviations=differing)]
