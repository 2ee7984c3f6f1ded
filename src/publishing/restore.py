"""Copies published results back to `results/<scale>/`, so that runs can be added to them.

    python -m publishing.restore laptop

Afterwards `make render` draws figures and tables from the restored runs and the new ones together.
Files that exist are kept.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from publishing.manifest import check_manifest
from system import command
from system.results import METRICS, PACKED, read_run
from system.writing import copy_file, write_text

ROOT = Path(__file__).resolve().parents[2]


def restore(scale: str, root: Path = ROOT) -> int:
    """Copy what is published of a scale; return the number of files.

    Raises:
        UserError: Nothing is published of the scale, or a file differs from the manifest.
    """
    published, results = root / "results" / "published" / scale, root / "results" / scale
    manifest = check_manifest(published)
    copied = []
    for name in sorted(manifest["files"]):
        source, target = published / name, results / name
        if source.name == PACKED:
            target = target.with_name(METRICS)
        if target.exists():
            continue
        if source.name == PACKED:
            write_text(target, read_run(source)[1])
        else:
            copy_file(source, target)
        copied.append(target)
    # One time for all: no output is older than what it was made from.
    for path in copied:
        os.utime(path, ns=(newest := copied[-1].stat().st_mtime_ns, newest))
    return len(copied)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command.Parser(prog="python -m publishing.restore", description="Published results.")
    parser.add_argument("scale", help="quick, laptop or paper")
    scale = parser.parse_args(arguments).scale
    print(f"{restore(scale)} files restored in results/{scale}")


if __name__ == "__main__":
    command.leave(main)
