"""The article: `<folder>/article.pdf`, typeset by typst from result files.

    python -m publishing.article results/laptop     # reads that folder, writes article.pdf into it

`article.json` in the same folder holds every number and sentence that the article shows. The prose
of `report/article.typ` describes methods and no results.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reporting import findings, overview, render
from reporting.findings import Results
from reporting.labels import label
from reporting.ledger.verdicts import NOT_REPLICATED, NOT_TESTED, THEORY
from system import command
from system.errors import UserError
from system.reading import read_yaml
from system.results import read_info
from system.writing import copy_file

ROOT = Path(__file__).resolve().parents[2]
# Settings that say how large a run is.
SIZES = (
    "epochs", "train_examples", "collections", "samples_per_collection", "updates_per_collection",
    "width",
)  # fmt: skip
WIDEST = 4  # quantities in a table of the article
ELSEWHERE = ("Is the theory", "What does it cost")  # questions that have a section of their own
# Its figures and references, which no result changes.
FIXED = read_yaml(ROOT / "report" / "article.yaml", "restore it from the repository")


def content(
    results: Sequence[Results], benchmarks: Path | None, root: Path = ROOT
) -> dict[str, Any]:
    """Collect everything that the article shows from result files."""
    claims = findings.ledger(results)
    answers = findings.answers(results, benchmarks)
    # `findings.read` puts the strongest scale first.
    first = results[0]
    return {
        "scales": ", ".join(dict.fromkeys(one.scale for one in results)),
        "commit": str(first.file("manifest.json").get("commit", commit_of(first)))[:12],
        "verdicts": findings.tally(claims),
        "abstract": abstract(answers),
        "answers": [
            {"question": one.question, "text": text_of(one), "claims": sentences(claims, one)}
            for one in answers
            if not one.question.startswith(ELSEWHERE)
        ],
        "settings": settings(results),
        "deviations": deviations(root),
        "figures": [],
        "tables": [
            part
            for name, one in findings.strongest(results).items()
            for part in tables_of(one, name)
        ],
        "theory": plain(findings.theory(claims)),
        "statements": statements(results),
        "tried": tried(results),
        "failed": [
            plain(findings.claim_sentence(line))
            for line in claims[claims["verdict"] == NOT_REPLICATED].to_dict("records")
        ],
        "cost": findings.cost(benchmarks) if benchmarks else "",
        "costs": costs(results),
        "has_cost": bool(benchmarks and (benchmarks / "speed_cpu.csv").is_file()),
        "open": [
            [line["source"], line["claim"], plain(str(line["reason"]))]
            for line in claims[claims["verdict"] == NOT_TESTED].to_dict("records")
        ],
        "references": [[text] for text in FIXED["references"]],
    }


def plain(text: str) -> str:
    """The text without Markdown's marks of bold and italics."""
    return text.replace("*", "")


def text_of(answer: findings.Answer) -> str:
    """An answer as a paragraph: the verdicts of its claims, the short answer, its details."""
    claims = f"Claims: {answer.claims}." if answer.claims else ""
    return plain(" ".join(filter(None, [claims, answer.answer, answer.details])))


def abstract(answers: Sequence[findings.Answer]) -> str:
    """The verdicts of the claims by question."""
    parts = [f"{one.question} {one.claims}." for one in answers if one.claims]
    return f"By question: {' '.join(parts)}" if parts else ""


def sentences(claims: pd.DataFrame, answer: findings.Answer) -> list[str]:
    """One sentence for each tested claim that supports an answer."""
    rows = claims[claims["id"].isin(answer.ids) & (claims["verdict"] != NOT_TESTED)]
    return [plain(findings.claim_sentence(line)) for line in rows.to_dict("records")]


def commit_of(one: Results) -> str:
    """The commit of the newest run."""
    # Results that are not published have no manifest; any run names the commit.
    for path in sorted(one.folder.glob("runs/*/*/*/run.json"), reverse=True):
        return str(read_info(path).get("commit", "unknown"))
    return "unknown"


def records(one: Results) -> dict[str, list[dict[str, Any]]]:
    """{experiment: the `run.json` of its runs}."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(one.folder.glob("runs/*/*/*/run.json")):
        record = read_info(path)
        found.setdefault(record["experiment"], []).append(record)
    return found


def settings(results: Sequence[Results]) -> list[list[str]]:
    """Experiment, data, number of methods, seeds and size of the runs of every scale but quick."""
    rows = []
    for one in evidence(results):
        for experiment, found in records(one).items():
            runs = Counter(record["method"] for record in found for _ in record["seeds"])
            seeds = sorted({min(runs.values()), max(runs.values())})
            data = found[0]["data"]
            name = str(data.get("name") or f"Meta-World {data.get('metaworld', '')}")
            size = [
                # 0 examples stand for the whole training set.
                f"{key.replace('_', ' ')} {found[0]['settings'][key] or 'all'}"
                for key in SIZES
                if key in found[0]["settings"]
            ]
            counts = [str(len(runs)), "–".join(map(str, seeds))]
            rows.append([f"{experiment} ({one.scale})", name, *counts, ", ".join(size)])
    return rows


def evidence(results: Sequence[Results]) -> list[Results]:
    """All scales but quick, whose numbers are no evidence; quick if it is the only one."""
    return [one for one in results if one.scale in findings.RANK] or list(results)


def deviations(root: Path) -> list[str]:
    """The entries of the list in `docs/deviations.md`."""
    entries: list[str] = []
    for line in (root / "docs" / "deviations.md").read_text(encoding="utf-8").splitlines():
        # An entry starts with its number and can continue on indented lines.
        if line[:1].isdigit():
            entries.append(line.partition(". ")[2])
        elif line.startswith("   ") and entries:
            entries[-1] += f" {line.strip()}"
    return [plain(entry).replace("`", "") for entry in entries]


def results_of(folders: Sequence[Path]) -> list[Results]:
    """The results of the folders that have any.

    Raises:
        UserError: None of them has.
    """
    if results := findings.read(folders):
        return results
    raise UserError(f"no claims.csv in {', '.join(map(str, folders))}; run the pipeline first")


def tables_of(one: Results, name: str) -> list[dict[str, Any]]:
    """A table reduced to methods, compared quantities and the paper's numbers, in parts.

    A part has as many quantities as fit on a page in portrait format.
    """
    table = one.table(name)
    # Only tables of methods fit the article's columns.
    if not {"method", "task", "metric", "paper"} <= set(table.columns):
        return []
    pairs = list(dict.fromkeys(zip(table["task"], table["metric"], strict=True)))
    # A table without a comparison shows its first quantity.
    compared = [pair for pair in pairs if _is_compared(table, *pair)] or pairs[:1]
    title = f"{caption(one.title(name))}, scale {one.scale}"
    parts = [compared[start : start + WIDEST] for start in range(0, len(compared), WIDEST)]
    return [_part(table, part, title) for part in parts]


def _part(table: pd.DataFrame, compared: Sequence[tuple[str, str]], title: str) -> dict[str, Any]:
    header = ["method", *(_column(task, metric) for task, metric in compared), "paper", "seeds"]
    rows = []
    for method, lines in table.groupby("method", sort=False):
        cells, papers = [], []
        for task, metric in compared:
            part = lines[(lines["task"] == task) & (lines["metric"] == metric)].to_dict("records")
            cells.append(_cell(part[0]) if part else render.DASH)
            papers += [f"{part[0]['paper']:.4g}"] if part and pd.notna(part[0]["paper"]) else []
        if set(cells) != {render.DASH}:
            # A row "a - b" is the difference of two methods.
            names = " − ".join(label(part) for part in str(method).split(" - "))
            seeds = str(lines["seeds"].max() or render.DASH)
            rows.append([names, *cells, " / ".join(papers) or render.DASH, seeds])
    notes = "Brackets: 95% interval over seeds; differences are paired by seed."
    return {"header": header, "rows": rows, "caption": f"{title}. {notes}"}


def caption(title: str) -> str:
    """A table's title whose number in the paper cannot be taken for one of the article."""
    number, colon, words = title.partition(": ")
    return f"{words} (the paper's {number})" if colon and number.startswith("Table") else title


def _is_compared(table: pd.DataFrame, task: str, metric: str) -> bool:
    rows = table[(table["task"] == task) & (table["metric"] == metric)]
    return bool(rows["method"].str.contains(" - ").any() or rows["paper"].notna().any())


def _column(task: str, metric: str) -> str:
    words = metric.removeprefix("test_").removeprefix("evaluation_").replace("_", " ")
    return words if task == "all" else f"{words}, {task}"


def _cell(line: dict[Any, Any]) -> str:
    if line["seeds"] == 0:
        return render.NOT_RUN
    return render.significant(line["mean"], line["ci_low"], line["ci_high"], 4)


def drawing(results: Sequence[Results], name: str) -> Path | None:
    """The smaller file (PDF or PNG) of a figure, from the strongest scale that has the figure."""
    for one in results:
        paths = [one.folder / "figures" / f"{name}.{kind}" for kind in ("pdf", "png")]
        if found := [path for path in paths if path.is_file()]:
            return min(found, key=lambda path: path.stat().st_size)
    return None


def statements(results: Sequence[Results]) -> list[list[str]]:
    """The table of the theory: source, statement and reading, verdict, kinds of checks."""
    for one in results:
        table = one.table("table_theory")
        if len(table):
            order = {word: place for place, word in enumerate(THEORY)}
            ranked = table.sort_values("verdict", key=lambda one: one.map(order), kind="stable")
            return [
                [
                    str(row["source"]),
                    # The reading is nan for statements that are judged as printed.
                    f"{row['statement']} ({row['reading']})"
                    if isinstance(row.get("reading"), str)
                    else str(row["statement"]),
                    str(row["verdict"]),
                    # Tables of older results call the column `rests_on`.
                    str(row.get("decided_by", row.get("rests_on"))),
                ]
                for row in ranked.to_dict("records")
            ]
    return []


def tried(results: Sequence[Results]) -> list[str]:
    """One line per table with its rows that are not in the paper."""
    lines = []
    for name, one in findings.strongest(results).items():
        table = one.table(name)
        if not {"paper", "method"} <= set(table.columns):
            continue
        own = table[~table["method"].str.contains(" - ")]
        named = set(own[own["paper"].notna()]["method"])
        extra = [label(method) for method in own["method"].unique() if method not in named]
        # A table that is all ours has no row of the paper to vary.
        if named and extra:
            lines.append(f"{caption(one.title(name))}: {'; '.join(extra)}.")
    return lines


def costs(results: Sequence[Results]) -> list[list[str]]:
    """One row per experiment and scale: experiment, core-hours of training, scale."""
    rows = []
    for one in evidence(results):
        for experiment, found in records(one).items():
            seconds = sum(sum(record.get("seconds", {}).values()) for record in found)
            rows.append([experiment, f"{seconds / 3600:.1f}", one.scale])
    return rows


def write(folders: Sequence[Path], out: Path, root: Path = ROOT) -> Path:
    """Write `article.json` and `article.pdf` into `out` from the results in `folders`."""
    # Imported here, because no other command needs typst.
    import typst

    results = results_of(folders)
    benchmarks = root / "results" / "published" / "benchmarks"
    data = content(results, benchmarks if benchmarks.is_dir() else None, root)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        overview.write(folders, place, benchmarks / "speed_cpu.csv")
        for name, words in FIXED["figures"].items():
            source = drawing(evidence(results), name)
            if source is not None:
                shutil.copyfile(source, place / source.name)
                data["figures"].append({"file": source.name, **words})
        # With few panels, a full-width figure would be enlarged too much.
        panels = overview.paper_numbers(results)["metric"].nunique()
        data["width"] = 88 if panels > 2 else 40
        shutil.copyfile(root / "report" / "article.typ", place / "article.typ")
        # The template report/article.typ reads every text and number from this file.
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        (place / "article.json").write_text(text, encoding="utf-8")
        template, target = place / "article.typ", place / "article.pdf"
        try:
            typst.compile(template, output=target)
        except typst.TypstError as error:
            # typst 0.15 fails to tag some pages, depending on where they break; without tags the
            # pages are the same, but a screen reader knows less of their structure.
            if "internal error" not in str(error):
                raise
            typst.compile(template, output=target, pdf_tags=False)
        out.mkdir(parents=True, exist_ok=True)
        for name in ("article.json", "article.pdf"):
            copy_file(place / name, out / name)
    return out / "article.pdf"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a fault is reported in one line."""
    parser = command.Parser(prog="python -m publishing.article", description=__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, help="folders of results, for example results/laptop"
    )
    parser.add_argument("--out", type=Path, help="where to write (default: the first folder)")
    args = parser.parse_args(arguments)
    try:
        place = write(args.folders, args.out or args.folders[0])
    except (ValueError, OSError, ImportError) as error:
        command.tell(f"error: {command.told(error)}")
        return 2
    print(f"wrote {place}")
    return 0


if __name__ == "__main__":
    command.leave(main)
