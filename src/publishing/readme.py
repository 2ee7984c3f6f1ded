"""Copy published tables into the README and the page of the benchmarks, so that no number there is
typed by hand.

    python -m publishing.readme           # rewrite the blocks
    python -m publishing.readme --check   # exit 1 if a block differs from its file

A block stands between `<!-- begin PATH -->` and `<!-- end PATH -->`, where PATH is a Markdown file
of the repository."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "benchmarks/README.md")
BLOCK = re.compile(
    r"(<!-- begin (?P<path>\S+) -->\n)(?P<body>.*?)(<!-- end (?P=path) -->)", re.DOTALL
)


def filled(text: str, root: Path = ROOT) -> str:
    """The README's text with every block replaced by the content of its file; FileNotFoundError
    names a missing one.
    """

    def replace(match: re.Match[str]) -> str:
        content = (root / match["path"]).read_text(encoding="utf-8").strip()
        return f"{match[1]}{content}\n{match[4]}"

    return BLOCK.sub(replace, text)


def main(arguments: list[str]) -> int:
    """Rewrite the pages, or check them."""
    differing = []
    for page in PAGES:
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = filled(old, ROOT)
        if "--check" not in arguments:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            print(
                f"{page} differs from the published tables; run `python -m publishing.readme`",
                file=sys.stderr,
            )
            differing.append(page)
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
