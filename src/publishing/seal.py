"""Adds the checksum of `metrics.csv` to each `run.json` that lacks it.

    python -m publishing.seal results/laptop

Training writes the checksum; only runs of older code lack it. If the folder has a manifest, every
file must match it, and the manifest is updated. The files keep their times, so no rule runs again.
"""

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from publishing.manifest import check_manifest, digest
from system import command
from system.errors import UserError
from system.results import REMEDY, describe, read_info
from system.writing import write_json, write_text


def seal(folder: Path) -> int:
    """Complete every `run.json` below `folder`; return how many lacked the checksum."""
    try:
        manifest = check_manifest(folder) if (folder / "manifest.json").is_file() else None
    except ValueError as error:
        raise UserError(str(error)) from None
    changed = 0
    if not (paths := sorted(folder.rglob("run.json"))):
        raise UserError(f"{folder} holds no run; name a folder such as results/laptop")
    for path in paths:
        info = read_info(path)
        if "metrics" in info:
            continue
        metrics = path.with_name("metrics.csv")
        try:
            described = describe(metrics.read_bytes())
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{metrics} holds no rows of a run ({error!s:.80}); {REMEDY}") from None
        if not set(described["seeds"]) <= set(info["seeds"]):
            raise UserError(f"{path}: its metrics.csv has other seeds; {REMEDY}")
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
