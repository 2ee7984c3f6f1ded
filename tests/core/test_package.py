"""The package as others see it: names, dependencies, typing marker."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pcgrad

FOLDER = Path(pcgrad.__file__).parent


def test_it_imports_torch_and_itself_only() -> None:
    for path in FOLDER.glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                assert root in {"torch", "pcgrad"} or root in sys.stdlib_module_names, (
                    f"{path.name} imports {name}"
                )


def test_every_public_name_is_documented() -> None:
    for name in pcgrad.__all__:
        member = getattr(pcgrad, name)
        if inspect.isfunction(member) or inspect.isclass(member):
            assert len(inspect.getdoc(member) or "") > 40, name
    assert sorted(pcgrad.__all__) == pcgrad.__all__


def test_the_typing_marker_is_there() -> None:
    assert (FOLDER / "py.typed").exists()
