"""THEOREMS.md: fills its boxes from the checks' JSON, draws its figures and typesets it as PDF.

    python -m proofs.document pdf --results RESULTS          # RESULTS/proofs/THEOREMS.pdf, figures
    python -m proofs.document fill --results RESULTS         # THEOREMS.md and README.md of proofs/
    python -m proofs.document page NOTEBOOK.ipynb PAGE.html  # an executed notebook as a page

RESULTS is a results folder such as results/quick. A box is the text between
`<!-- judgement NAME -->` and `<!-- end -->`: the reading, the verdict, what decided it, the reason,
and the counterexample with its hypotheses ticked off. Pandoc turns Markdown with LaTeX formulas
into Typst, and notebooks into pages with MathML, which browsers show without a network.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from proofs.pictures.common import results, small
from system import command
from system.errors import UserError
from system.writing import scratch, whole, write_bytes, write_text

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "THEOREMS.md"
BOX = re.compile(r"(<!-- judgement (?P<name>\w+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)
VERDICTS = re.compile(r"(<!-- verdicts -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURE = re.compile(r"\]\(\S*/(theorems_\w+\.png)\)")
NORM = re.compile(r"\\\|(.+?)\\\|")  # Typst sets \\| as two separate bars
MARKDOWN = "gfm+tex_math_dollars+implicit_figures"
LAYOUT = """#set page(paper: "a4", margin: (x: 2.2cm, y: 2.4cm), numbering: "1")
#set text(size: 10pt)
#set par(justify: true)
#set heading(numbering: (..n) => if n.pos().len() > 1 { numbering("1.1", ..n.pos().slice(1)) })
#show heading.where(level: 1): set text(size: 15pt)
#show figure: set block(breakable: false)
#show figure.caption: set text(size: 9pt)
#show raw: set text(size: 8.5pt)
#show quote: it => block(fill: luma(244), inset: 8pt, radius: 3pt, width: 100%, above: 9pt, \
below: 9pt, it.body)
#set quote(block: true)
#let horizontalrule = line(length: 100%)
"""
STYLE = """<style>
body { max-width: 60em; margin: 2em auto; padding: 0 1em; font: 16px/1.5 serif; color: #222; }
table { border-collapse: collapse; font-size: 90%; margin: 1em 0; }
th, td { border-bottom: 1px solid #ccc; padding: 0.25em 0.6em; vertical-align: top; }
pre { background: #f5f5f5; padding: 0.6em; overflow-x: auto; font-size: 80%; }
img { max-width: 100%; } math { font-size: 105%; }
</style>"""


def judgements(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every judgement in a results folder by its name.

    Raises:
        UserError: The folder has no judgement.
    """
    found = {}
    for path in sorted((folder / "proofs").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")).get("judgements", []):
            found[row["name"]] = row
    if not found:
        raise UserError(f"no judgements in {folder}/proofs; run `snakemake theory` first")
    return found


def plain(text: str) -> str:
    """Return text with small indices, and with stars and underscores escaped for Markdown."""
    # Small indices first, so that their underscores need no escape.
    text = small(text)
    return re.sub(r"([*_\\])", r"\\\1", text)


def box(row: dict[str, Any]) -> str:
    """Format one judgement as a quoted block."""
    reading = plain(row["reading"] or "as printed")
    lines = [
        f"**Statement.** {plain(row['statement'])}.",
        f"**Reading:** {reading}. **Verdict: {row['verdict']}** (decided by "
        f"{', '.join(row['decided_by'])}). {plain(row['sentence'])}",
    ]
    # Certificates are cited in the text; only samples have numbers to print.
    samples = [check for check in row["checks"] if check["kind"] == "samples" and check["says"]]
    if samples:
        listed = "; ".join(f"{plain(c['name'])}: {plain(c['says'])}" for c in samples)
        lines.append(f"*Samples.* {listed}.")
    example = row["counterexample"]
    if example:
        # A backslash at the end of a line is a line break in Markdown.
        ticks = "\\\n".join(f"> ✓ {plain(text)}" for text in example["hypotheses"])
        lines += [
            f"**Counterexample.** {plain(example['says'])}. Hypotheses, each checked:",
            ticks.removeprefix("> "),
            f"Violated: {plain(example['violated'])}. Confirmed by: "
            f"{plain('; '.join(example['routes']))}.",
        ]
    return "\n>\n".join(f"> {line}" for line in lines) + "\n"


def filled(text: str, found: dict[str, dict[str, Any]]) -> str:
    """Return THEOREMS.md with every box filled from the results.

    Raises:
        UserError: A judgement is missing.
    """

    def replace(match: re.Match[str]) -> str:
        if match["name"] not in found:
            raise UserError(f"no judgement {match['name']}; run `snakemake theory` again")
        return f"{match[1]}{box(found[match['name']])}{match[4]}"

    return BOX.sub(replace, text)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Format every judgement in one line each, for proofs/README.md."""
    lines = ["| source | statement | verdict | decided by | why |", "|---|---|---|---|---|"]
    for row in found.values():
        reading = f" *Reading: {plain(row['reading'])}.*" if row["reading"] else ""
        cells = (
            row["source"],
            plain(row["statement"]) + "." + reading,
            f"**{row['verdict']}**",
            " · ".join(row["decided_by"]),
            plain(row["sentence"]),
        )
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |")
    return "\n".join(lines) + "\n"


def figures(folder: Path) -> None:
    """Draw the document's figures from a results folder into its `proofs`."""
    import matplotlib as mpl

    # The backend must be chosen before pyplot is imported.
    mpl.use("Agg")
    from proofs.pictures import theorem1

    points = results("opposite_points", folder)
    drawn = {
        "walk": theorem1.walk_to_infinity(results("theorem1", folder)),
        "attraction": theorem1.attracting(points),
        "noise": theorem1.noise(points),
    }
    for name, figure in drawn.items():
        with whole(folder / "proofs" / f"theorems_{name}.png", "wb") as file:
            figure.savefig(file, format="png", dpi=110)


def pdf(folder: Path) -> Path:
    """Typeset the document with a results folder's numbers and return the PDF's path."""
    import pypandoc
    import typst

    figures(folder)
    text = filled(SOURCE.read_text(encoding="utf-8"), judgements(folder))
    # The PDF is typeset in a folder that holds the figures, so that links lose their folders.
    text = FIGURE.sub(r"](\1)", re.sub(r"<!-- .*? -->\n?", "", text))
    text = NORM.sub(r"\\lVert \1\\rVert{}", text)
    body = pypandoc.convert_text(text, "typst", format=MARKDOWN, extra_args=["--wrap=none"])
    out = folder / "proofs" / "THEOREMS.pdf"
    # Typst reads files only below the folder of its source.
    with scratch(out) as place:
        for figure in (folder / "proofs").glob("theorems_*.png"):
            (place / figure.name).write_bytes(figure.read_bytes())
        (place / "main.typ").write_text(LAYOUT + body, encoding="utf-8")
        write_bytes(out, typst.compile(str(place / "main.typ")))
    return out


def flattened(notebook: dict[str, Any]) -> str:
    """Turn an executed notebook into Markdown: prose, outputs, and the code folded away."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        # Pandoc keeps raw HTML, so that the code can be folded away.
        parts.append(f"<details><summary>code</summary>\n\n```python\n{source}\n```\n\n</details>")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/markdown" in data:
                parts.append("".join(data["text/markdown"]))
            elif "image/png" in data:
                picture = "".join(data["image/png"]).replace("\n", "")
                parts.append(f"![](data:image/png;base64,{picture})")
    return "\n\n".join(parts)


def page(notebook: Path, out: Path) -> None:
    """Write an executed notebook as one HTML file, with formulas in MathML and pictures inside."""
    import pypandoc

    text = flattened(json.loads(notebook.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as temporary:
        header = Path(temporary) / "style.html"
        header.write_text(STYLE, encoding="utf-8")
        arguments = ["--standalone", "--embed-resources", "--mathml"]
        arguments += ["--include-in-header", str(header), "--variable", "document-css=false"]
        arguments += ["--metadata", f"pagetitle={notebook.stem}"]
        body = pypandoc.convert_text(text, "html5", format=MARKDOWN, extra_args=arguments)
    write_text(out, body)


def work(arguments: list[str] | None) -> int:
    """Run the command and return its exit status."""
    parser = command.Parser(prog="python -m proofs.document", description="THEOREMS.md")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("pdf", "fill"):
        commands.add_parser(name).add_argument("--results", type=Path, required=True)
    pages = commands.add_parser("page")
    pages.add_argument("notebook", type=Path)
    pages.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "pdf":
        print(pdf(options.results))
    elif options.command == "fill":
        text = SOURCE.read_text(encoding="utf-8")
        found = judgements(options.results)
        write_text(SOURCE, filled(text, found))
        readme = ROOT / "README.md"
        text = VERDICTS.sub(
            lambda match: f"{match[1]}{table(found)}{match[2]}", readme.read_text(encoding="utf-8")
        )
        write_text(readme, text)
    else:
        page(options.notebook, options.out)
    return 0


if __name__ == "__main__":
    command.leave(lambda: work(None))
