"""Fill the generated blocks of the README and other pages, so that no result in them is typed.

    python -m publishing.readme           # rewrite the blocks and the figures over all results
    python -m publishing.readme --check   # exit 1 if a block is out of date

A block is the text between `<!-- begin NAME -->` and `<!-- end NAME -->`. NAME is a Markdown file
of the repository, whose content is copied, or a key of BLOCKS, whose text is made from the
published results.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from publishing.commands import table as commands
from publishing.manifest import checked
from reporting import findings
from reporting.render import DASH
from system import command
from system.writing import write_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "benchmarks/README.md", "docs/findings.md")
BLOCK = re.compile(
    r"(<!-- begin (?P<path>\S+) -->\n)(?P<body>.*?)(<!-- end (?P=path) -->)", re.DOTALL
)


def published(root: Path) -> Path:
    """The folder of the published results."""
    return root / "results" / "published"


def verdicts(root: Path) -> str:
    """A table of the number of claims per verdict over all published scales."""
    claims = findings.ledger(checked(published(root)))
    words = [word for word, number in findings.count(claims).items() if number]
    lines = [f"| {len(claims)} claims | {' | '.join(words)} |", "|---|" + ":-:|" * len(words)]
    mine = findings.is_ours(claims)
    for rows, whose in (
        (claims[~mine], "the paper's"),
        (claims[mine], "ours: repairs of its theorems, further experiments"),
    ):
        numbers = findings.count(rows)
        cells = [f"**{numbers[word]}**" if numbers[word] else DASH for word in words]
        lines.append(f"| {whose} ({len(rows)}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def answers(root: Path) -> str:
    """The table of questions and answers."""
    folder = published(root)
    return findings.markdown(findings.answers(checked(folder), folder / "benchmarks"))


def all_answers(root: Path) -> str:
    """Every question with its answer, for a page in `docs/`."""
    folder = published(root)
    found = findings.answers(checked(folder), folder / "benchmarks")
    lines = []
    for one in found:
        at = f"../results/published/{one.scale}/{one.where}" if one.scale else f"../{one.where}"
        shown = f"[{findings.place(one)}]({at})"
        claims = f"*Claims: {one.claims}.*" if one.claims else ""
        parts = filter(None, [claims, one.answer, one.details, shown])
        lines += [f"### {one.question}", "", " ".join(parts), ""]
    return "\n".join(lines).strip()


def untested(root: Path) -> str:
    """The sources of claims that no published scale has tested."""
    names = findings.untested(checked(published(root)))
    return f"Not tested so far (number of claims): {names}." if names else ""


BLOCKS: dict[str, Callable[[Path], str]] = {
    "verdicts": verdicts,
    "answers": answers,
    "all_answers": all_answers,
    "untested": untested,
    "commands": commands,
}


def filled(text: str, root: Path = ROOT) -> str:
    """The text of a page with every block replaced by its present content.

    Raises:
        FileNotFoundError: A block names a file that does not exist.
    """

    def replace(match: re.Match[str]) -> str:
        name = match["path"]
        if name in BLOCKS:
            content = BLOCKS[name](root)
        else:
            content = (root / name).read_text(encoding="utf-8").strip()
        return f"{match[1]}{content}\n{match[4]}"

    return BLOCK.sub(replace, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the pages and the figures over all results, or check the pages."""
    parser = command.Parser(prog="python -m publishing.readme", description=__doc__)
    what = "change nothing; exit with 1 if a page is out of date"
    parser.add_argument("--check", action="store_true", help=what)
    check = parser.parse_args(arguments).check
    differing = []
    for page in PAGES:
        path = ROOT / page
        if not path.is_file():
            continue
        old = path.read_text(encoding="utf-8")
        new = filled(old, ROOT)
        if not check:
            write_text(path, new)
        elif new != old:
            words = "differs from the published results; run `python -m publishing.readme`"
            print(f"{page} {words}", file=sys.stderr)
            differing.append(page)
    if not check and (published(ROOT) / "quick").is_dir():
        # Imported here, because only the figures need matplotlib.
        from reporting import overview

        folder = published(ROOT)
        scales, costs = sorted(folder.glob("*")), folder / "benchmarks" / "speed_cpu.csv"
        overview.write(scales, folder / "overview", costs)
    return int(bool(differing))


if __name__ == "__main__":
    command.leave(main)
