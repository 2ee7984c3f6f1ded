"""A type checker's report on a user's file."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pcgrad

SOURCE = Path(pcgrad.__file__).parents[1]

USER = """
import torch
import pcgrad

trunk, generator = torch.nn.Linear(2, 2), torch.Generator()
losses = [trunk(torch.ones(2)).sum(), trunk(torch.ones(2)).norm()]
pcgrad.backward(losses, trunk.parameters(), orders="shared", generator=generator)
pcgrad.backward(losses, granularity={"trunk": trunk.parameters()})
pcgrad.backward(losses, trunk.named_parameters(), weighting=lambda gramian: gramian.sum(0))
"""
MISTAKES = (
    'pcgrad.backward(losses, trunk.parameters(), orders="sharde")',
    'pcgrad.backward(losses, trunk.parameters(), reduction="average")',
    'pcgrad.backward(losses, trunk.parameters(), granularity="layer")',
    "pcgrad.backward(losses, trunk.parameters(), generator)",
    "pcgrad.backward(losses, trunk.parameters(), generator=0)",
    "pcgrad.backward(losses, trunk)",
    'pcgrad.LinearRecorder(trunk, 2).backward(losses, orders="sharde")',
    'pcgrad.surgery(torch.eye(2), pcgrad.fixed_orders(2), reduction="average")',
)


@pytest.mark.long
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_mistakes_show_before_anything_runs(checker: str, tmp_path: Path) -> None:
    """Fails where an option is a plain string, or a correct call is refused."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    path = tmp_path / "user.py"
    path.write_text(USER + "\n".join(MISTAKES) + "\n")
    extra = ["--strict", "--cache-dir", str(tmp_path / "cache")]
    if checker == "pyright":
        extra = ["--pythonpath", sys.executable]
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{SOURCE}"]}}')
    run = subprocess.run(
        [sys.executable, "-m", checker, *extra, path.name],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(SOURCE)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in run.stdout.splitlines() if path.name in line and "error" in line]
    found = {int(line.split(path.name + ":")[1].split(":")[0]) for line in lines}
    first = len(USER.splitlines()) + 1
    assert found == set(range(first, first + len(MISTAKES))), run.stdout


def test_the_version_is_the_project_s() -> None:
    lines = (SOURCE.parent / "pyproject.toml").read_text().splitlines()
    assert f'version = "{pcgrad.__version__}"' in lines
