"""Check one statement and write the results as JSON.

    python -m proofs.check theorem1 --config config/quick.yaml \\
        --out results/quick/proofs/theorem1.json

The config is a file or JSON text with `scale` and `theory`.

Exit codes:
    0: The check ran. A refuted statement is a finding and is written with its verdict.
    1: The machinery is broken, and no file is written: an identity or a goal is not proved, a
        counterexample's routes disagree or its hypotheses fail, or a family has no accepted
        instances or too few conflicts.
    2: The command line or the config is wrong.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import asdict
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

from proofs.algebra.formula import IdentityError
from proofs.algebra.implication import GoalError
from proofs.sampling import LARGE
from proofs.settings import Theory
from proofs.tally import BrokenError
from system import command
from system.errors import UserError
from system.reading import parse_json, read_json, read_yaml
from system.writing import probe, write_text

STATEMENTS = (
    "identities",
    "theorem1",
    "proposition1",
    "corollary1",
    "theorem2",
    "theorem3",
    "theorem4",
    "opposite_points",
    "three_tasks",
)
KEYS = ("seed", "instances", "trajectories", "updates", "search_rounds")
PACKAGES = ("torch", "numpy", "scipy", "sympy", "mpmath", "z3-solver")


class UsageError(UserError):
    """The command line or the config is wrong."""


def load(config: str) -> tuple[str, Theory]:
    """Read a config, given as a YAML or JSON file or as JSON text.

    Returns:
        The scale and the `theory` block.

    Raises:
        UsageError: A key is missing or has a wrong value.
    """
    remedy = "compare it with config/quick.yaml"
    # The workflow passes its config as JSON text; no file name starts with a brace.
    if config.lstrip().startswith("{"):
        content = parse_json(config, "--config", remedy)
    elif config.endswith((".yaml", ".yml")):
        content = read_yaml(Path(config), remedy)
    else:
        content = read_json(Path(config), remedy)
    theory = content.get("theory") if isinstance(content, dict) else None
    if not isinstance(theory, dict) or "scale" not in content:
        raise UsageError("the config needs the keys scale and theory")
    for key in KEYS:
        least = 0 if key == "seed" else 1
        if not isinstance(theory.get(key), int) or theory[key] < least:
            raise UsageError(f"theory.{key} must be a whole number, at least {least}")
    high = theory.get("high_dimensions")
    if not isinstance(high, list) or not high or not set(high) <= set(LARGE):
        raise UsageError(f"theory.high_dimensions must list some of {', '.join(map(str, LARGE))}")
    return content["scale"], cast(Theory, theory)


def check(statement: str, scale: str, theory: Theory) -> dict[str, Any]:
    """Run the check of one statement and return its report."""
    begin = time.perf_counter()
    report = import_module(f"proofs.{statement}").check(theory)
    return {
        "statement": statement,
        "scale": scale,
        "settings": theory,
        **asdict(report),
        "seconds": round(time.perf_counter() - begin, 2),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    return command.run(lambda: work(arguments))


def work(arguments: list[str] | None) -> int:
    """Parse the arguments, check the statement and return the exit status."""
    parser = command.Parser(
        prog="python -m proofs.check", description="Check one statement of the theory."
    )
    parser.add_argument("statement", choices=STATEMENTS)
    parser.add_argument("--config", required=True, help="YAML or JSON file, or JSON text")
    parser.add_argument("--out", required=True, type=command.place, help="JSON file to write")
    options = parser.parse_args(arguments)
    # A folder that cannot be written is reported before minutes of work.
    probe(options.out.parent)
    try:
        scale, theory = load(options.config)
        report = check(options.statement, scale, theory)
        # NaN is not JSON and would mean that a check lost a number, so that it is refused.
        text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
        write_text(options.out, text + "\n")
    # These errors mean broken machinery, hence exit status 1 without a file.
    except (BrokenError, IdentityError, GoalError) as error:
        print(
            f"error: {options.statement}: {error}; the check is at fault, nothing was written",
            file=sys.stderr,
        )
        return 1
    for row in report["judgements"]:
        print(f"{row['name']}: {row['verdict']} ({', '.join(row['decided_by'])})")
    return 0


if __name__ == "__main__":
    command.leave(lambda: work(None))
