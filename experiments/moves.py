"""Record that a change of the code left every number as it was.

    python -m experiments.moves COMMIT "what changed, and why no number did"

COMMIT is the last commit before the change. The golden traces are the proof. On this machine, the
code of COMMIT and the present code must compute the same traces. For each published run, the golden
file must not have changed since the commit that trained it.

`experiments/moves.yaml` then gets a block with the published hash, the hash at COMMIT and the
present hash of every experiment and method. These hashes count as one code from now on: published
tables stay valid, checkpoints resume, and nothing is trained again.
"""

import argparse
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.run import TUNED
from multitask.runs.sources import MOVES, ROOT, training_hash
from system import command
from system.errors import UserError
from system.writing import whole

PUBLISHED = ROOT / "results" / "published"
GOLDEN = "tests/golden"
LOOP_OF_RL = "triad.csv"  # the golden trace of the RL loop, which several experiments share
# Test files that write their golden file when they are run as a script.
WRITERS = ("multimnist", "cifar100", "dense_trace", "celeba", "triad")
FOLDERS = ("src", "experiments", "tests", "config")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def published() -> Iterator[dict[str, Any]]:
    """The `run.json` of every published run."""
    for path in sorted(PUBLISHED.glob("*/runs/*/*/*/run.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def unpack(commit: str, folder: Path) -> None:
    """Extract the code of a commit into a folder."""
    archive = subprocess.run(["git", "archive", commit, *FOLDERS], cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise UserError(
            f"{commit} is no commit of this checkout; name the last one before the change"
        )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as file:
        file.extractall(folder, filter="data")


def traces(tree: Path) -> dict[str, list[float]]:
    """Compute the numbers of every golden trace with the code in `tree`."""
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"}
    for name in WRITERS:
        script = f"tests/experiments/test_{name}.py"
        done = subprocess.run(
            [sys.executable, script], cwd=tree, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(f"{script} fails: {done.stderr.strip()[-200:]}")
    return {
        path.name: [float(number) for number in NUMBER.findall(path.read_text(encoding="utf-8"))]
        for path in sorted((tree / GOLDEN).iterdir())
    }


def require_same(before: dict[str, list[float]], after: dict[str, list[float]]) -> None:
    """Raise UserError for the first golden trace whose numbers differ by more than rounding."""
    for name, numbers in before.items():
        now = after.get(name, [])
        same = len(now) == len(numbers) and all(
            math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)
            for one, two in zip(numbers, now, strict=True)
        )
        if not same:
            raise UserError(f"golden trace {name}: its numbers changed, so train its runs again")


def unmoved(experiment: str, commit: str) -> bool:
    """Whether an experiment's golden file is unchanged since the commit that trained it."""
    own = f"{experiment}.json"
    file = own if (ROOT / GOLDEN / own).is_file() else LOOP_OF_RL
    # A run from a changed tree is compared with the commit that the tree was based on.
    revision = commit.removesuffix("+changes")
    diff = ["git", "diff", "--quiet", revision, "--", f"{GOLDEN}/{file}"]
    return not subprocess.run(diff, cwd=ROOT, capture_output=True).returncode


def hashes(before: Path) -> dict[str, dict[str, list[str]]]:
    """{experiment: {method: [published hashes, hash of the code in `before`, present hash]}}."""
    found: dict[str, dict[str, list[str]]] = {}
    unproven: set[str] = set()
    for info in published():
        experiment, method = info["experiment"], info["method"].removesuffix(TUNED)
        row = found.setdefault(experiment, {}).setdefault(method, [])
        # Without an unchanged golden file nothing proves that the run's numbers are still the same.
        if not unmoved(experiment, info["commit"]):
            unproven.add(f"{info['scale']}, {experiment}, trained at {info['commit']}")
        elif info["code_hash"] not in row:
            row.append(info["code_hash"])
    for experiment, methods in found.items():
        for method, row in methods.items():
            more = training_hash(experiment, method, before), training_hash(experiment, method)
            methods[method] = list(dict.fromkeys([*row, *more]))
    for one in sorted(unproven):
        print(f"keeps its own hash, because its golden trace changed since: {one}")
    return found


def record(commit: str, reason: str) -> None:
    """Prove that the change is neutral and append its block to the file of moves."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        unpack(commit, before)
        # The present code is copied too: the writers would overwrite the golden files in place.
        for name in FOLDERS:
            shutil.copytree(ROOT / name, after / name)
        require_same(traces(before), traces(after))
        carried = hashes(before)
    text = MOVES.read_text(encoding="utf-8") if MOVES.is_file() else ""
    block = [{"reason": reason, "hashes": carried}]
    with whole(MOVES) as file:
        file.write(text + yaml.safe_dump(block, sort_keys=False, default_flow_style=None))
    print(f"{sum(map(len, carried.values()))} methods keep the hash of their published runs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command.Parser(
        prog="python -m experiments.moves", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("commit", help="the last commit before the change")
    parser.add_argument("reason", help="one sentence: what changed, and why no number did")
    args: argparse.Namespace = parser.parse_args(arguments)
    record(args.commit, args.reason)


if __name__ == "__main__":
    command.leave(main)
