"""Build the site from `docs/` and the published results.

    python -m publishing.site results/site          # writes results/site/html/index.html

The folder `docs/` is copied to `<out>/source`, pages of results are added, and Sphinx builds
`<out>/html`. The site works without a network.
"""

import html
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pandas as pd

from publishing import commands
from publishing.manifest import checked
from publishing.readme import BLOCK, filled
from reporting import findings, render
from reporting.findings import Results
from system import command
from system.results import read_info

ROOT = Path(__file__).resolve().parents[2]
# {output that is not in the paper: its title}; listed after the paper's.
OURS = {
    "figure_tasks": "Success of every task",
    "figure_conflicts": "Cosine, magnitude similarity and ξ along training",
}
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|#|mailto:)([^)\s#]+)((?:#[^)]*)?\))")


def build(out: Path, root: Path = ROOT, results: Path | None = None) -> Path:
    """Write the sources, build the site and return its folder."""
    source = out / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "docs", source)
    folder = results or root / "results" / "published"
    scales = checked(folder)
    write_pages(source, root, folder, scales)
    if _sphinx(source, out / "html"):
        raise ValueError(f"the site was not built; the messages above say why ({source})")
    return out / "html"


def _sphinx(source: Path, target: Path) -> int:
    # Sphinx is an optional dependency (the extra `docs`).
    from sphinx.cmd.build import main

    # Sphinx would keep pages whose source is gone.
    shutil.rmtree(target, ignore_errors=True)
    return int(main(["-q", "-b", "html", "-j", "auto", str(source), str(target)]))


def write_pages(source: Path, root: Path, folder: Path, scales: list[Results]) -> None:
    """Write all pages that are made from files."""

    def text_of(path: str) -> str:
        return (root / path).read_text("utf-8")

    page(source, root, "findings.md", filled(text_of("docs/findings.md"), root))
    benchmarks = filled(text_of("benchmarks/README.md"), root)
    page(source, root, "benchmarks.md", benchmarks, at="benchmarks")
    page(source, root, "howto/commands.md", commands.table(root), at="")
    contributing = text_of("CONTRIBUTING.md").partition("\n")[2]
    page(source, root, "howto/contributing.md", contributing, at="")
    page(source, root, "theory/theorems.md", text_of("proofs/THEOREMS.md"), at="proofs")
    names = notebooks(source, scales)
    index = (source / "theory" / "index.md").read_text("utf-8")
    (source / "theory" / "index.md").write_text(
        index.replace("theorems\n", "\n".join(["theorems", *names, ""])), "utf-8"
    )
    for path in [source / p.relative_to(root / "docs") for p in (root / "docs").rglob("*.md")]:
        # Hand-written pages link to files of the repository. The others were rewritten above.
        if path.stem not in ("findings", "benchmarks", "theorems", "commands", "contributing"):
            name = path.relative_to(source)
            page(source, root, str(name), path.read_text("utf-8"), at=f"docs/{name.parent}")
    write_ledger(source, scales)
    made = [output_page(source, root, name, scales) for name in outputs(scales)]
    toc = "\n".join(["ledger", *filter(None, made)])
    (source / "results" / "index.md").write_text(
        f"# Figures and tables\n\n{gallery(scales)}\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{toc}\n```\n",
        "utf-8",
    )


def page(source: Path, root: Path, name: str, text: str, *, at: str = "docs") -> None:
    """Write a page whose links are relative to the folder `at` of the repository.

    Links to pages of the site are redirected. Pictures and all other linked files are copied, so
    that each number can be looked up offline.
    """
    place = source / name
    place.parent.mkdir(parents=True, exist_ok=True)

    def follow(match: re.Match[str]) -> str:
        path = (root / at / match[2]).resolve()
        # A picture that is not published is replaced by its description.
        if not path.exists() and match[1].startswith("!"):
            return f"*({match[1].strip('![(]')})*"
        # Links to the web, and to files outside the repository, stay as they are.
        if not path.exists() or not path.is_relative_to(root):
            return match[0]
        inside = path.relative_to(root).as_posix()
        # Leads from the folder of the page to the root of the site.
        up = "../" * (len(Path(name).parts) - 1)
        if inside.startswith("docs/") and path.suffix == ".md":
            return f"{match[1]}{up}{inside.removeprefix('docs/')}{match[3]}"
        shown = SHOWN.fullmatch(inside)
        if shown and not match[1].startswith("!"):
            return f"{match[1]}{up}results/{shown[1]}.md{match[3]}"
        if inside in PLACES:
            return f"{match[1]}{up}{PLACES[inside]}{match[3]}"
        if path.is_dir():
            return f"`{inside}/`"
        target = source / "_files" / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        if match[1].startswith("!"):
            return f"{match[1]}{up}_files/{inside}{match[3]}"
        words = match[1].strip("[(]").strip("!")
        return f"{{download}}`{words} <{up}_files/{inside}>`"

    place.write_text(LINK.sub(follow, BLOCK.sub(lambda m: m["body"], text)), encoding="utf-8")


# Links to a published figure or table, which lead to its page.
SHOWN = re.compile(r"results/published/\w+/(?:figures|tables)/((?:figure|table)_\w+)\.(?:md|png)")
PLACES = {
    "benchmarks/README.md": "benchmarks.md",
    "proofs/README.md": "theory/theorems.md",
    "proofs/THEOREMS.md": "theory/theorems.md",
    "CONTRIBUTING.md": "howto/extend.md",
    **{
        f"results/published/{scale}/claims.md": "results/ledger.md"
        for scale in ("quick", "laptop", "paper", "gpu")
    },
}


def notebooks(source: Path, scales: list[Results]) -> list[str]:
    """Copy the executed notebooks of the strongest scale that has them; return their names."""
    for one in scales:
        paths = sorted(one.folder.glob("notebooks/*.ipynb"))
        for path in paths:
            shutil.copyfile(path, source / "theory" / path.name)
        if paths:
            return [path.stem for path in paths]
    return []


def outputs(scales: list[Results]) -> list[str]:
    """The names of figures and tables in the paper's order, then ours."""
    names = {path.stem for one in scales for path in one.folder.glob("figures/figure_*.png")}
    names |= {name for one in scales for name in one.tables()}
    # Names that end in a number are the paper's: figure_4, but not table_mt10.
    own = {name: not name.rpartition("_")[2].isdigit() for name in names}
    return sorted(names, key=lambda name: (own[name], "table" in name, findings.order(name)))


def title(name: str, scales: list[Results]) -> str:
    """The title of an output, for example `Figure 3` or `Table 4: MultiMNIST`."""
    if name.startswith("table"):
        return next((one.title(name) for one in scales if name in one.tables()), name)
    return OURS.get(name, name.replace("_", " ").capitalize())


def output_page(source: Path, root: Path, name: str, scales: list[Results]) -> str:
    """The page of one figure or table: sentences, picture or rows, caption, command, provenance."""
    kind = "figures" if name.startswith("figure") else "tables"
    parts = [f"# {title(name, scales)}", claims_of(name, scales)]
    for one in scales:
        file = one.folder / kind / f"{name}.{'png' if kind == 'figures' else 'md'}"
        if file.is_file():
            parts += [f"## Scale {one.scale}", show(source, one, file)]
            parts += [caption(root, one, name), provenance(one, file)]
    (source / "results").mkdir(exist_ok=True)
    (source / "results" / f"{name}.md").write_text("\n\n".join(filter(None, parts)) + "\n", "utf-8")
    return name


def claims_of(name: str, scales: list[Results]) -> str:
    """One sentence for every claim about the figure or table, then sentences about its rows."""
    claims = findings.ledger(scales)
    sources = findings.sources_of(claims, title(name, scales))
    lines = [
        f"- {findings.claim_sentence(line)}"
        for line in claims[claims["source"].isin(sources)].to_dict("records")
    ]
    one = findings.strongest(scales).get(name)
    if one is not None:
        table = one.table(name)
        lines += [
            f"- {findings.standing(table, method)} Scale {one.scale}."
            for method in findings.compared(table)
        ]
    if any("*)" in line for line in lines):
        lines.append("- Star: the difference does not remain after Holm's correction.")
    return "\n".join(lines)


def show(source: Path, one: Results, file: Path) -> str:
    """The picture, or the rows of a table with its footer in a box."""
    if file.suffix == ".md":
        # A table's file has its rows first, then the lines of its footer as a list.
        rows, _, notes = file.read_text("utf-8").partition("\n- ")
        title = "How to read it, data, seeds, versions, deviations"
        body = f":::{{admonition}} {title}\n- {notes.strip()}\n:::" if notes else ""
        return f'<div class="wide">\n\n{rows}\n\n</div>\n\n{body}'
    target = source / "_files" / one.scale / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return f"![{file.stem} at scale {one.scale}](../_files/{one.scale}/{file.name})"


def caption(root: Path, one: Results, name: str) -> str:
    """The caption from the report, filled in with the settings of the scale."""
    # Several tables share one script and its caption (`publish.SEVERAL`).
    names = [name, "table_metaworld"] if name.startswith("table") else [name]
    found = [path for stem in names for path in root.glob(f"experiments/*/captions/{stem}.rst")]
    config = one.file("manifest.json").get("config")
    if not found or not config:
        return ""
    config = {**config, "experiments": whole(one, config["experiments"])}
    # The captions are templates of Snakemake's report, which gives them these two names.
    wildcards = SimpleNamespace(tasks=name.rpartition("_")[2], name=name)
    text = jinja2.Template(found[0].read_text("utf-8")).render(
        snakemake=SimpleNamespace(config=config, wildcards=wildcards)
    )
    return f"```{{eval-rst}}\n{text.strip()}\n```"


def whole(one: Results, experiments: Mapping[str, Any]) -> dict[str, Any]:
    """The config's blocks with the settings that they leave at their defaults, from the runs."""
    found = {}
    landscape = one.file("landscape/summary.json").get("settings", {})
    for name, block in experiments.items():
        paths = sorted(one.folder.glob(f"runs/{name}/*/*/run.json"))
        kept = read_info(paths[0]).get("settings", {}) if paths else {}
        kept = landscape if name == "landscape" else kept
        found[name] = {**kept, **block}
    return found


def provenance(one: Results, file: Path) -> str:
    """The command, the time, the machine and the entry of the manifest."""
    manifest = one.file("manifest.json")
    relative = file.relative_to(one.folder).as_posix()
    line: Mapping[str, Any] = manifest.get("files", {}).get(relative, {})
    # The rule's target is the CSV; the same rule writes the Markdown that is shown.
    target = f"results/{one.scale}/{relative}".replace(".md", ".csv")
    # Manifests of older results have no machines.
    machines = manifest.get("machines") or [{}]
    rules = commands.seconds_of(one.folder)
    own = f"{rules[file.stem]:.0f} s" if file.stem in rules else "not recorded"
    machine = f"{machines[0].get('processor', 'unknown')}, {machines[0].get('cores', '?')} cores"
    rows = [
        ("command", f"`snakemake --cores all --configfile config/{one.scale}.yaml {target}`"),
        ("seconds of this rule, without the runs behind it", own),
        ("machine", machine),
        ("commit", f"`{str(manifest.get('commit', 'unknown'))[:12]}`"),
        ("sha256", f"`{str(line.get('sha256', 'not published'))[:16]}`"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


def gallery(scales: list[Results]) -> str:
    """One line for each output with its name and the verdicts on its claims."""
    claims = findings.ledger(scales)
    lines = [
        "| | claims |",
        "|---|---|",
        "| [The ledger of claims](ledger.md) | all of them, by verdict |",
    ]
    for name in outputs(scales):
        rows = claims[claims["source"] == name.replace("_", " ").capitalize()]
        words = findings.verdict_words(rows) if len(rows) else "ours, no claim of the paper"
        lines.append(f"| [{title(name, scales)}]({name}.md) | {words} |")
    return "\n".join(lines)


def write_ledger(source: Path, scales: list[Results]) -> None:
    """Write the page of the ledger with a filter by verdict."""
    claims = findings.ledger(scales)
    numbers = {word: number for word, number in findings.count(claims).items() if number}
    buttons = [f'<button data-verdict="all" aria-pressed="true">all {len(claims)}</button>']
    buttons += [
        f'<button data-verdict="{word}" aria-pressed="false">{word} {number}</button>'
        for word, number in numbers.items()
    ]
    heads = ("source", "claim", "verdict", "why", "effect [95%]", "ours", "paper", "scale")
    rows = [f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    for line in claims.to_dict("records"):
        effect = render.significant(line["effect"], line["ci_low"], line["ci_high"])
        ours = render.significant(line["ours"], line["ours_low"], line["ours_high"], 4)
        paper = render.DASH if pd.isna(line["paper"]) else f"{line['paper']:g}"
        reason = "" if pd.isna(line["reason"]) else str(line["reason"])
        words = [line["source"], line["claim"], line["verdict"], reason]
        cells = [*words, effect, ours, paper, line["scale"]]
        texts = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        rows.append(f'<tr data-verdict="{line["verdict"]}">{texts}</tr>')
    table = f'<div class="wide"><table>{"".join(rows)}</table></div>'
    text = (
        "Effect: above 0 on the claimed side. The rules are in `experiments/claims.yaml`, which "
        "also says what was written after the runs."
    )
    (source / "results").mkdir(exist_ok=True)
    (source / "results" / "ledger.md").write_text(
        f"# The ledger of claims\n\n{text}\n\n```{{raw}} html\n"
        f'<div class="ledger"><p>{"".join(buttons)}</p>{table}</div>\n```\n',
        "utf-8",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site into the given folder; a fault is reported in one line."""
    parser = command.Parser(prog="python -m publishing.site", description=__doc__)
    where = "folder of the site (default: results/site)"
    parser.add_argument(
        "out", nargs="?", type=command.place, default=ROOT / "results/site", help=where
    )
    args = parser.parse_args(arguments)
    try:
        place = build(args.out.resolve())
    except (ValueError, OSError, ImportError) as error:
        command.tell(f"error: {command.told(error)}")
        return 2
    print(f"open {place / 'index.html'}")
    return 0


if __name__ == "__main__":
    command.leave(main)
