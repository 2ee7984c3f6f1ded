"""Renders a table in long form, with its footer, as CSV, Markdown, booktabs LaTeX and HTML."""

import html
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reporting.labels import label
from reporting.statistics import NAN
from reporting.tables import Quantity
from system import writing

DASH = "—"
NOT_RUN = "not run at this scale"
DIGITS = ".10g"  # of numbers in CSV files
RANGE = "median"  # the estimator whose bounds are a range over seeds
_STYLE = (
    "body{font:14px sans-serif}table{border-collapse:collapse}td,th{padding:3px "
    "9px;text-align:right;vertical-align:top}td.prose,th.prose{text-align:left}"
    "tr{border-bottom:1px solid #ddd}li{color:#555;font-size:12px}"
)
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$",
    ">": "$>$", "|": r"\textbar{}", "−": "$-$", "—": "---", "–": "--", "‖": r"$\|$", "±": r"$\pm$",
    "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$",
    "°": r"$^\circ$", "²": "$^2$", "₁": "$_1$", "₂": "$_2$", "→": r"$\to$",
    "↔": r"$\leftrightarrow$", "√": r"$\surd$", "ℓ": r"$\ell$", "μ": r"$\mu$", "½": r"$\frac12$",
    "∇": r"$\nabla$", "…": r"\ldots{}", "ᴾ": "$^{P}$", "ᶜ": "$^{C}$", "ξ": r"$\xi$",
    "φ": r"$\varphi$", "Φ": r"$\Phi$", "θ": r"$\theta$", "α": r"$\alpha$", "β": r"$\beta$",
    "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\varepsilon$", "η": r"$\eta$", "λ": r"$\lambda$",
    "π": r"$\pi$", "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$", "Δ": r"$\Delta$",
    "Π": r"$\Pi$", "Σ": r"$\Sigma$", "¼": r"$\frac14$", "¾": r"$\frac34$", "∞": r"$\infty$",
    "³": "$^3$", "₃": "$_3$", "“": "``", "”": "''", "⁺": "$^+$", "∓": r"$\mp$", "≠": r"$\neq$",
}  # fmt: skip


def cell(mean: float, low: float, high: float, decimals: int, estimator: str = "mean") -> str:
    """Format a number with its interval: `95.12 [94.81, 95.43]`.

    Without an interval it is the number alone, without a number a dash. A median has its range:
    `192 (189 to 195)`.
    """
    if not math.isfinite(mean):
        return DASH
    if math.isnan(low) or (estimator == RANGE and low == high):
        return number(mean, decimals)
    ends = number(low, decimals), number(high, decimals)
    bounds = f"({ends[0]} to {ends[1]})" if estimator == RANGE else f"[{ends[0]}, {ends[1]}]"
    return f"{number(mean, decimals)} {bounds}"


def value_cell(line: Mapping[Hashable, Any], decimals: int) -> str:
    """The cell of one line of a table in long form; a dash for an absent line."""
    if line and line.get("seeds") == 0:
        return NOT_RUN
    mean, low, high = (line.get(key, NAN) for key in ("mean", "ci_low", "ci_high"))
    return cell(mean, low, high, decimals, str(line.get("estimator", "mean")))


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """Format a number with fixed decimals and a true minus sign; never as -0.00."""
    if math.isnan(value):
        return DASH
    # Of the digits that a CSV keeps, so that a table and a sentence made of its CSV agree at a tie.
    # Adding 0.0 turns −0.0 into 0.0.
    rounded = round(float(f"{value:{DIGITS}}"), decimals) + 0.0
    return f"{rounded:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def significant(mean: float, low: float, high: float, digits: int = 3) -> str:
    """Format like `cell` with significant digits instead of decimals, for numbers of any size."""
    if not math.isfinite(mean):
        return DASH
    # The largest of the three numbers decides, so that all have the same decimals.
    size = max(abs(value) for value in (mean, low, high) if math.isfinite(value))
    if size >= 1e4 or 0 < size < 1e-3:
        bounds = "" if math.isnan(low) else f" [{low:.2e}, {high:.2e}]"
        return f"{mean:.2e}{bounds}".replace("-", "−")
    decimals = max(0, digits - 1 - math.floor(math.log10(size))) if size else 2
    return cell(mean, low, high, decimals)


def wide(table: pd.DataFrame, quantities: Sequence[Quantity]) -> pd.DataFrame:
    """The printed table: one row per method, one column of ours and the paper's per quantity."""
    rows = []
    metrics = set(table["metric"])
    quantities = [one for one in quantities if one.metric in metrics or not one.rare]
    tasks = [quantity.task for quantity in quantities if quantity.reported]
    for method, lines in table.groupby("method", sort=False):
        by_quantity = {(line["task"], line["metric"]): line for line in lines.to_dict("records")}
        row = {"method": " − ".join(label(part) for part in str(method).split(" - "))}
        for quantity in quantities:
            line = by_quantity.get((quantity.task, quantity.metric), {})
            row[quantity.title] = value_cell(line, quantity.decimals)
            if quantity.reported:
                # The task names the column unless several columns of the task have a number.
                what = quantity.task if tasks.count(quantity.task) == 1 else quantity.title
                row[f"paper, {what} (ours − paper)"] = paper_cell(line, quantity.decimals)
        p = lines["p_holm"].dropna()
        row["p (Holm)"] = ", ".join(f"{value:.2g}" for value in p) or DASH
        row["seeds"] = str(lines["seeds"].min() or DASH)
        rows.append(row)
    return pd.DataFrame(rows)


def paper_cell(line: Mapping[Hashable, Any], decimals: int) -> str:
    """The paper's number and ours minus it, `20.17 (+0.41)`; a dash if the paper has none."""
    paper, difference = line.get("paper", NAN), line.get("difference", NAN)
    if math.isnan(paper):
        return DASH
    apart = "" if math.isnan(difference) else f" ({number(difference, decimals, sign=True)})"
    return f"{number(paper, decimals)}{apart}"


def markdown(shown: pd.DataFrame, footer: Sequence[str]) -> str:
    """Render as a Markdown table; every line of the footer is a small paragraph."""
    # An unescaped bar would end a cell.
    escaped = shown.map(lambda text: str(text).replace("|", "\\|"))
    lines = [escaped.to_markdown(index=False, disable_numparse=True), ""]
    return "\n".join([*lines, *(f"- {line}" for line in footer), ""])


def latex(shown: pd.DataFrame, footer: Sequence[str], rules: Sequence[int] = ()) -> str:
    """Render as a booktabs tabular with its footer.

    `rules` lists the rows before which a horizontal rule is drawn.
    """
    lines = [r"\begin{tabular}{l" + "r" * (shown.shape[1] - 1) + "}", r"\toprule"]
    lines += [" & ".join(escape(str(name)) for name in shown.columns) + r" \\", r"\midrule"]
    for index, (_, row) in enumerate(shown.iterrows()):
        lines += [r"\midrule"] if index in rules else []
        lines.append(" & ".join(escape(str(text)) for text in row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip{\footnotesize"]
    return "\n".join([*lines, *(escape(line) + r"\par" for line in footer), "}", ""])


def narrow(shown: pd.DataFrame, *, caption: str, label: str) -> str:
    """Render as a LaTeX `table` environment that fits a page of text."""
    # The caption takes the place of the footer that `latex` appends.
    body = latex(shown, ()).split(r"\par\smallskip")[0].rstrip()
    head = [r"\begin{table}", r"\centering\footnotesize", rf"\caption{{{escape(caption)}}}"]
    return "\n".join([*head, rf"\label{{{label}}}", body, r"\end{table}", ""])


def escape(text: str) -> str:
    """Replace every character that LaTeX reads as a command."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def page(title: str, shown: pd.DataFrame, footer: Sequence[str]) -> str:
    """Render as one self-contained HTML page for the report."""
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in footer)
    name = html.escape(title)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{name}</title><style>{_STYLE}</style>"
        f"<h1>{name}</h1>{table_html(shown)}<ul>{notes}</ul></html>\n"
    )


def table_html(shown: pd.DataFrame) -> str:
    """The table as HTML; words are aligned left and numbers right."""
    marks = [' class="prose"' if is_prose(shown[column]) else "" for column in shown.columns]
    lines = ["<table>"]
    for tag, cells in (("th", shown.columns), *(("td", row) for _, row in shown.iterrows())):
        texts = (
            f"<{tag}{mark}>{html.escape(str(text))}</{tag}>"
            for mark, text in zip(marks, cells, strict=True)
        )
        lines.append(f"<tr>{''.join(texts)}</tr>")
    return "\n".join([*lines, "</table>"])


def is_prose(column: "pd.Series[str]") -> bool:
    """Whether a column holds words, which means that most of its cells begin with a letter."""
    texts = [str(text) for text in column if str(text) not in (DASH, NOT_RUN)]
    return 2 * sum(text[:1].isalpha() for text in texts) > len(texts)


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write the table in long form as CSV with 10 digits."""
    write_text(table.to_csv(index=False, float_format=f"%{DIGITS}", lineterminator="\n"), path)


def write_table(
    table: pd.DataFrame, shown: pd.DataFrame, below: Sequence[str], title: str, **files: str
) -> None:
    """Write a table in long form (`csv`), and as printed (`md`, `tex`, `html`)."""
    write_csv(table, files["csv"])
    write_text(markdown(shown, below), files["md"])
    write_text(latex(shown, below), files["tex"])
    write_text(page(title, shown, below), files["html"])


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text atomically; make the folder if it is missing."""
    writing.write_text(Path(path), text)
