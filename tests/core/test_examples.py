"""The recipes run, are short, and do what they say."""

from __future__ import annotations

import importlib
import math
import os
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A recipe, imported as a user's script is: by its file."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


def test_recipes_are_short_and_listed() -> None:
    listed = (FOLDER / "README.md").read_text()
    assert len(NAMES) == 10
    for name in NAMES:
        assert f"`{name}.py`" in listed
        assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60, name


@pytest.mark.parametrize("name", ["amp", "accumulation", "multitask_rl"])
def test_losses_fall(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    main = load(name, monkeypatch).main
    assert main() < 0.8 * main(1)


@pytest.mark.parametrize(
    ("name", "package"), [("lightning_module", "lightning"), ("accelerate_loop", "accelerate")]
)
@pytest.mark.filterwarnings("ignore")
def test_frameworks(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package)
    main = load(name, monkeypatch).main
    assert main(8) < 0.8 * main(1)


@pytest.mark.long
def test_ddp(monkeypatch: pytest.MonkeyPatch) -> None:
    load("ddp", monkeypatch)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    )
    load("ddp", monkeypatch).main(2, port=29_900 + os.getpid() % 90)


def test_pinn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("pinn", monkeypatch).main() < 0.1


def test_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = load("conflicts", monkeypatch).main()
    assert [step for step, *_ in rows] == [10, 20, 30]
    assert any(share > 0 for _, share, _, _ in rows), "two of the targets are opposite"
    assert all(math.isfinite(value) for row in rows for value in row)


def test_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = load("uncertainty", monkeypatch).main()
    assert large > small, "the loss with the larger scale is weighted down"


def test_lora(monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = load("lora", monkeypatch).main()
    assert last < 0.5 * first
