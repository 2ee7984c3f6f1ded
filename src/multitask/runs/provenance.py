"""Where a number comes from: the code that could change it, the versions, the machine. Imports no
torch.
"""

import ast
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "torchjd",
    "metaworld",
    "mujoco",
    "gymnasium",
    "scikit-learn",
    "pillow",
)


def _strip_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:]
    return tree


@cache
def _syntax(source: str) -> str:
    """The tree in words; cached, because Snakemake hashes the shared sources anew for every
    experiment.
    """
    return ast.dump(_strip_docstrings(ast.parse(source)))


def code_hash(paths: Iterable[str | Path], root: Path = ROOT) -> str:
    """Hash of the syntax trees below `paths` (files or folders under `root`), without comments and
    docstrings.
    """
    files: set[Path] = set()
    for path in paths:
        full = root / path
        found = set(full.rglob("*.py")) if full.is_dir() else {full}
        if not found or not all(file.is_file() for file in found):
            raise FileNotFoundError(f"code_hash: no Python source at {full}")
        files |= found
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(
            f"{file.relative_to(root).as_posix()}\n{_syntax(file.read_text(encoding='utf-8'))}\n".encode()
        )
    return digest.hexdigest()[:16]


def training_sources(experiment: str) -> list[str]:
    """Exactly the sources that can change a training result of `experiment`."""
    return [
        "src/pcgrad",
        "src/multitask",
        f"experiments/{experiment}/task.py",
        "experiments/run.py",
    ]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor and system in words; no host name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        model = next(
            (value.strip() for key, _, value in lines if key.strip() == "model name"), model
        )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """The commit of the checkout, with "+changes" if the tree differs from it; "unknown" outside
    git.
    """
    try:
        run = {"cwd": ROOT, "capture_output": True, "text": True, "check": True, "timeout": 20}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run).stdout.strip()  # type: ignore[call-overload]
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        ).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+changes" if dirty else "")
