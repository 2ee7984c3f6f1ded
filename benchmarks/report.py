"""Make the table and the figure from the benchmark's CSV, without importing torch.

python -m benchmarks.report results/benchmarks/speed_cpu.csv
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from benchmarks import figure
from reporting import render
from reporting.figures import save
from system import command
from system.errors import UserError

LABELS = {
    "pcgrad": "ours",
    "pcgrad_graph": "ours, CUDA graph",
    "by_hand": "ours, by hand",
    "least": "plain step, Gramian, sum",
    "pcgrad_streaming": "ours, streaming",
    "pcgrad_taps": "ours, as in the RL loop",
    "pcgrad_vmap": "ours, vmap",
    "pcgrad_loop": "ours, T backwards",
    "pcgrad_sequential": "ours, one graph at a time",
    "pcgrad_bfloat16": "ours, one graph at a time, stored in bfloat16",
    "bound": "T task gradients alone",
    "literal": "literal Algorithm 1",
    "torchjd": "torchjd",
    "conflictfree": "conflictfree",
    "libmtl": "LibMTL",
}
PEERS = ("literal", "torchjd", "conflictfree", "libmtl")
REFERENCES = {"surgery": "floor", "step": "plain"}


def read(path: str | Path) -> pd.DataFrame:
    """Return the CSV as a table, with empty notes for measured codes."""
    table = pd.read_csv(path)
    table["note"] = table["note"].fillna("") if "note" in table else ""
    return table


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write the table with four significant digits."""
    render.write_text(table.to_csv(index=False, float_format="%.4g", lineterminator="\n"), path)


def printed(value: float, low: float, high: float) -> str:
    """Format a ratio, with its quartiles if they differ from it at three digits."""
    text = short(value)
    # Equal quartiles would only repeat the number.
    return text if short(low) == text == short(high) else f"{text} ({short(low)} to {short(high)})"


def short(value: float) -> str:
    """Format a number with three digits and no exponent."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def ratios(case: pd.DataFrame) -> dict[str, str]:
    """Return the times of a case's codes as formatted multiples of the reference."""
    cells = {}
    for row in case[case["code"].isin(LABELS)].to_dict("records"):
        ratio = printed(row["ratio"], row["ratio_low"], row["ratio_high"])
        cells[LABELS[row["code"]]] = ratio if row["repeats"] > 0 else row["note"]
    return cells


def memory(case: pd.DataFrame) -> dict[str, str]:
    """Return each code's peak memory beyond the reference's, in multiples of T x P values."""
    known = case[(case["repeats"] > 0) & case["code"].isin(LABELS)]
    return {LABELS[row["code"]]: short(row["beyond_TP"]) for row in known.to_dict("records")}


def shown(table: pd.DataFrame, kind: str, cells: str) -> pd.DataFrame:
    """Return the printed table of one kind of case ("step", "surgery"): "time" or "memory".

    It has one row per case, with T, P, the reference, and a column per code.
    """
    rows: list[Mapping[str, str]] = []
    for name, case in table[table["kind"] == kind].groupby("case", sort=False):
        reference = case[case["code"] == REFERENCES[kind]].iloc[0]
        words = {"case": str(name)} if kind == "step" else {}
        row = {**words, "T": str(reference["T"]), "P": f"{reference['P']:,}"}
        if cells == "time":
            unit = "plain step" if kind == "step" else "two reads"
            row |= {f"{unit}, ms": short(reference["median_ms"]), **ratios(case)}
            # Only networks with shared input have the bound, so this column may be empty.
            bound = case[(case["code"] == "bound") & (case["repeats"] > 0)]
            # Only tables that measured the bound have the column.
            if len(bound):
                row["ours / T task gradients"] = short(bound["ours_over"].iloc[0])
        else:
            row |= {"T x P, MB": short(4e-6 * reference["T"] * reference["P"]), **memory(case)}
        rows.append(row)
    frame = pd.DataFrame(rows).fillna("")
    order = [name for name in (*LABELS.values(), "ours / T task gradients") if name in frame]
    return frame[[*(name for name in frame if name not in order), *order]]


def beaten(table: pd.DataFrame) -> str:
    """Return a sentence on the cases in which ours is about as fast as the fastest peer.

    The limit is 1.1 times the peer's time + 0.1 ms; the sentence names the cases beyond it.
    """
    cases, worse = 0, []
    for (kind, name), case in table[table["repeats"] > 0].groupby(["kind", "case"], sort=False):
        ours, others = case[case["code"] == "pcgrad"], case[case["code"].isin(PEERS)]
        if not len(ours) or not len(others):
            continue
        # A tolerance of 0.1 ms, because overhead decides the smallest cases.
        cases += 1
        best = others.sort_values("median_ms").iloc[0]
        if ours["median_ms"].iloc[0] > 1.1 * best["median_ms"] + 0.1:
            worse.append(f"{kind} {name} ({LABELS[best['code']]} {short(best['median_ms'])} ms, "
                         f"ours {short(ours['median_ms'].iloc[0])} ms)")  # fmt: skip
    words = (
        "Ours takes at most 1.1 times the fastest peer's time + 0.1 ms in "
        f"{cases - len(worse)} of {cases} cases"
    )
    return words + (f"; not in {', '.join(worse)}." if worse else ".")


def text(table: pd.DataFrame) -> str:
    """Return the Markdown page: tables of time and memory, and circumstances."""
    step, alone, unit = "A full training step", "Surgery alone", "in multiples of T x P"
    titles = (
        ("step", "time", f"{step}: time as a multiple of the plain joint step"),
        ("step", "memory", f"{step}: peak memory beyond the plain step's, {unit}"),
        ("surgery", "time", f"{alone}: time as a multiple of reading the gradients twice"),
        ("surgery", "memory", f"{alone}: peak memory beyond the given gradients, {unit}"),
    )
    parts = []
    for kind, cells, title in titles:
        if (table["kind"] == kind).any():
            parts.append(f"**{title}**\n\n{render.markdown(shown(table, kind, cells), [])}")
    one = table.iloc[0]
    threads = f", {one['threads']} thread(s)" if one["device"] == "cpu" else ""
    # A single call has no quartiles; the table marks it.
    most, least = table["repeats"].max(), table.loc[table["repeats"] > 1, "repeats"].min()
    footer = [
        beaten(table),
        f"Medians of the ratios of {least} to {most} repeats, with quartiles.",
        f"{one['machine']}{threads}; {one['versions']}; commit {one['commit']}; {one['date']}.",
    ]
    return "\n".join([*parts, *(f"- {line}" for line in footer), ""])


def write(path: str | Path) -> str:
    """Write table and figure next to the CSV, and return the table's text."""
    path, table = Path(path), read(path)
    words = text(table)
    render.write_text(words, path.with_suffix(".md"))
    save(figure.draw(table), png=path.with_suffix(".png"), pdf=path.with_suffix(".pdf"))
    return words


def main() -> None:
    """Run the command."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        given = " ".join(sys.argv[1:]) or "no file"
        raise UserError(f"{given} is no CSV; name one that `benchmarks.run` wrote")
    print(write(sys.argv[1]))


if __name__ == "__main__":
    command.leave(main)
