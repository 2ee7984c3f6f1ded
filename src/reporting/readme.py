"""Copy published tables into the README, so that no number in it is typed by hand.

    python -m reporting.readme           # rewrite the blocks
    python -m reporting.readme --check   # exit 1 if a block differs from its file

A block stands between `<!-- begin PATH -->` and `<!-- end PATH -->`, where PATH is a Markdown file of the repository.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- begin (?P<path>\S+) -->\n)(?P<body>.*?)(<!-- end (?P=path) -->)", re.DOTALL)


def filled(text: str, root: Path = ROOT) -> str:
    """The README's text with every block replaced by the content of its file; FileNotFoundError names a missing one."""

    def replace(match: re.Match[str]) -> str:
        content = (root / match["path"]).read_text(encoding="utf-8").strip()
        return f"{match[1]}{content}\n{match[4]}"

    return BLOCK.sub(replace, text)


def main(arguments: list[str]) -> int:
    """Rewrite the README, or check it."""
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" in arguments:
        if new != old:
            print("README.md differs from the published tables; run `python -m reporting.readme`", file=sys.stderr)
        return int(new != old)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
