"""Check one statement and write what came out as JSON.

    python -m proofs.check theorem1 --config config/quick.yaml --out
    results/quick/proofs/theorem1.json

STATEMENT is one of STATEMENTS below. The config is a file or JSON text with `scale` and `theory`.

**Exit code.** A violated statement is a finding: it is written with its verdict (`false as stated`)
and the exit code is 0, so that the ledger and the notebooks show it. Exit 1, and no file, is for
broken machinery, whose numbers must not be published: an identity that does not simplify to zero, a
Lipschitz constant that scipy contradicts, a quadrature that misses the curvature, a family without
accepted instances or with too few conflicts. Exit 2 is for wrong usage.

**Verdicts** derive from the counts: `holds` and `holds after repair` mean that no trial and no
counterexample violates the statement, `false as stated` that at least one does. A trial violates it
beyond rounding only: 128 epsilon times the sum of absolute values that enter the compared losses
(`problems.rounding`)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from proofs.identities import IdentityError
from proofs.sampling import LARGE
from proofs.tally import BrokenError

STATEMENTS = (
    "identities",
    "theorem1",
    "proposition1",
    "corollary1",
    "theorem2",
    "theorem3",
    "theorem4",
)
KEYS = ("seed", "instances", "trajectories", "updates", "lipschitz_instances", "search_rounds")
PACKAGES = ("torch", "numpy", "scipy", "sympy", "mpmath")


class UsageError(ValueError):
    """The command line or the config is wrong."""


def load(config: str) -> tuple[str, dict[str, Any]]:
    """(scale, theory block) of a config given as a YAML or JSON file or as JSON text."""
    text = config
    if not config.lstrip().startswith("{"):
        if not Path(config).is_file():
            raise UsageError(f"no config file {config}; give a file or JSON text")
        text = Path(config).read_text(encoding="utf-8")
    try:
        if config.endswith((".yaml", ".yml")):
            import yaml

            content = yaml.safe_load(text)
        else:
            content = json.loads(text)
    except ValueError as error:  # JSONDecodeError; yaml's errors name themselves
        raise UsageError(f"the config is not readable: {error}") from None
    theory = content.get("theory") if isinstance(content, dict) else None
    if not isinstance(theory, dict) or "scale" not in content:
        raise UsageError("the config needs the keys scale and theory")
    missing = [
        key for key in KEYS if not isinstance(theory.get(key), int) or theory[key] < (key != "seed")
    ]
    if missing:
        raise UsageError(
            f"theory.{missing[0]} must be a whole number, at least {int(missing[0] != 'seed')}"
        )
    high = theory.get("high_dimensions")
    if not isinstance(high, list) or not high or not set(high) <= set(LARGE):
        raise UsageError(f"theory.high_dimensions must list some of {', '.join(map(str, LARGE))}")
    return content["scale"], theory


def check(statement: str, scale: str, theory: dict[str, Any]) -> dict[str, Any]:
    """The report of one statement."""
    begin = time.perf_counter()
    result = import_module(f"proofs.{statement}").check(theory)
    return {
        "statement": statement,
        "scale": scale,
        "settings": theory,
        **result,
        "seconds": round(time.perf_counter() - begin, 2),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write JSON atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(
            json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m proofs.check", description="Check one statement of the theory."
    )
    parser.add_argument("statement", choices=STATEMENTS)
    parser.add_argument("--config", required=True, help="YAML or JSON file, or JSON text")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    try:
        scale, theory = load(options.config)
        report = check(options.statement, scale, theory)
        write(report, options.out)
    except (BrokenError, IdentityError) as error:
        print(
            f"error: {options.statement}: {error}; the check is at fault, nothing was written",
            file=sys.stderr,
        )
        return 1
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, verdict in report["verdicts"].items():
        print(f"{name}: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
