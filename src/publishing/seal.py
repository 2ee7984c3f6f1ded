"""Adds the checksum of `metrics.csv` to each `run.json` that lacks it.

    python -m publishing.seal results/laptop

Training writes the checksum; only runs of older code lack it. If the folder has a manifest, every
file must match it, and the manifest is updated. The files keep their times, so no rule runs again.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from publishing.manifest import check_manifest, digest
from system import command
from system.errors import UserError
from system.results import describe, read_info
from system.writing import write_json, write_text


def seal(folder: Path) -> int:
    """Complete every `run.json` below `folder`; return how many lacked the checksum."""
    manifest = check_manifest(folder) if (folder / "manifest.json").is_file() else None
    changed = 0
    for path in sorted(folder.rglob("run.json")):
        info = read_info(path)
        if "metrics" in info:
            continue
        described = describe(path.with_name("metrics.csv").read_bytes())
        if not set(described["seeds"]) <= set(info["seeds"]):
            raise UserError(f"{path}: its metrics.csv has other seeds; train the run again")
        times = path.stat()
        write_json(path, {**info, "metrics": described})
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        if manifest:
            line = manifest["files"][path.relative_to(folder).as_posix()]
            line.update(sha256=digest(path), bytes=path.stat().st_size)
        changed += 1
    if manifest and changed:
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        write_text(folder / "manifest.json", text)
    return changed


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    if not arguments:
        raise UserError("which folder? for example results/laptop")
    for folder in map(Path, arguments):
        print(f"{folder}: {seal(folder)} runs were completed")


if __name__ == "__main__":
    command.leave(lambda: main(sys.argv[1:]))
