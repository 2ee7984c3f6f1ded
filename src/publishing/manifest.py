"""Copies result files and records their checksums in a manifest."""

import gzip
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

from reporting import findings
from system.errors import UserError
from system.reading import read_json
from system.results import METRICS, PACKED, read_run

PLAIN_ROWS = 2_000  # longer metrics are packed


def copy(source: Path, target: Path) -> tuple[Path, dict[str, Any]]:
    """Copy one file; return the path of the copy and its entry of the manifest.

    A long `metrics.csv` is packed as `metrics.csv.gz`. Every row is kept, so that tables can be
    drawn again from published runs, for example when seeds are added.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    line: dict[str, Any] = {}
    if source.name == METRICS:
        info, text = read_run(source)
        line = {"rows": info["metrics"]["rows"]}
        if line["rows"] > PLAIN_ROWS:
            target = target.with_name(PACKED)
            # Without a time in the header, the same metrics give the same file.
            target.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
    if target.name != PACKED:
        shutil.copyfile(source, target)
    return target, {"sha256": digest(target), "bytes": target.stat().st_size, **line}


def digest(path: Path) -> str:
    """The file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit(root: Path) -> str:
    """The checkout's commit, with "+changes" if the tree differs; "unknown" outside git."""
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        dirty = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if dirty else "")


def check_manifest(folder: Path) -> dict[str, Any]:
    """Check a published scale against its manifest and return the manifest.

    Raises:
        UserError: A file is missing, not listed, or different from its entry.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"no {path}; run `make publish` first")
    manifest = read_json(path, "publish again")
    try:
        digests = {name: line["sha256"] for name, line in manifest["files"].items()}
        [one.get for key in ("machines", "versions") for one in manifest[key]]
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{path} is no manifest; publish again") from None
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {
        "manifest.json"
    }
    for name in sorted(there ^ set(digests)):
        raise UserError(
            f"{folder / name} is {'not in the manifest' if name in there else 'missing'}; publish "
            "again"
        )
    for name, found in digests.items():
        if digest(folder / name) != found:
            raise UserError(f"{folder / name} was changed after it was published; publish again")
    return dict(manifest)


def checked(folder: Path) -> list[findings.Results]:
    """The published scales in a folder, each as its manifest says, strongest scale first."""
    found = findings.read(folder.glob("*"))
    for one in found:
        check_manifest(one.folder)
    return found
