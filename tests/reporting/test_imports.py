"""Reports read result files: they import neither torch nor anything that trains."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [*(ROOT / "src" / "reporting").rglob("*.py"), *(ROOT / "experiments").glob("*/table_*.py")]
FILES += [*(ROOT / "experiments").glob("*/figure_*.py"), ROOT / "experiments" / "claims.py"]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or ".").split(".")[0] if not node.level else "."


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_reports_import_nothing_that_trains(path):
    found = set(imported(path))
    assert not found & {
        "torch",
        "torchjd",
        "pcgrad",
        "multitask",
        "experiments",
        "proofs",
        "metaworld",
        "gymnasium",
    }
    assert not found & {".", "__future__"}  # Snakemake runs scripts as copies


def test_tables_load_nothing_slow():
    """What one seed's tables do not need: on two cores every second counts thirty times."""
    tables = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if "table_" in path.name
    ]
    slow = {"torch", "matplotlib", "scipy.stats", "sklearn"}
    code = f"import sys, {', '.join(tables)}, experiments.claims; print(*{slow} & {{*sys.modules}})"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert not done.stdout.split()


def test_the_check_sees_its_files():
    names = {path.name for path in FILES}
    assert {"tables.py", "statistics.py", "table_4.py", "claims.py", "verdicts.py"} <= names
    assert "torch" in set(imported(ROOT / "src" / "multitask" / "runs" / "checkpoint.py"))
