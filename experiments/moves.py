"""Record that a change of the code left every number as it was.

    python -m experiments.moves COMMIT "what changed, and why no number did"

COMMIT is the last commit before the change. The golden traces are the proof: on this machine, the
code of COMMIT and the present code must compute the same traces.

`experiments/moves.yaml` then gets a block with the hash at COMMIT and the present hash of every
method. Both count as one code from now on: results and checkpoints of COMMIT's code stay valid, and
nothing is trained again. Results of older code are not affected. An experiment whose own task
changed, and that has no golden trace of its own, gets a new hash. So do the methods after `--but`,
whose numbers the change was made for: `--but cifar100/routing`.
"""

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
from collections.abc import Sequence
from pathlib import Path

import yaml

from multitask.runs.sources import MOVES, ROOT, code_hash, entry_hash, method_names, training_hash
from system import command
from system.errors import UserError
from system.writing import whole

GOLDEN = "tests/golden"
# Test files that write their golden file when they are run as a script.
TRACED = ("landscape", "multimnist", "cifar100", "dense_trace", "celeba", "triad")
WRITERS = ("core/test_golden.py", *(f"experiments/test_{name}.py" for name in TRACED))
FOLDERS = ("src", "experiments", "tests", "config")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")

Hashes = dict[str, dict[str, list[str]]]


def unpack(commit: str, folder: Path) -> None:
    """Extract the code of a commit into a folder."""
    archive = subprocess.run(["git", "archive", commit, *FOLDERS], cwd=ROOT, capture_output=True)
    if archive.returncode:
        why = "is no commit of this checkout; name the last one before the change"
        raise UserError(f"{commit} {why}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as file:
        file.extractall(folder, filter="data")


def traces(tree: Path) -> dict[str, list[float]]:
    """Compute the golden traces with the code in `tree`: {"experiment/method" or file: numbers}."""
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"}
    # Without the golden files, a trace that no script writes cannot count as computed.
    shutil.rmtree(tree / GOLDEN)
    (tree / GOLDEN).mkdir()
    for name in WRITERS:
        script = f"tests/{name}"
        done = subprocess.run(
            [sys.executable, script], cwd=tree, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(f"{script} fails: {done.stderr.strip()[-200:]}")
    found = {}
    for path in sorted((tree / GOLDEN).iterdir()):
        text = path.read_text(encoding="utf-8")
        parts = json.loads(text) if path.suffix == ".json" else None
        methods = parts if isinstance(parts, dict) else {}
        blocks = {f"{path.stem}/{name}": json.dumps(rows) for name, rows in methods.items()}
        for name, block in (blocks or {path.stem: text}).items():
            found[name] = [float(number) for number in NUMBER.findall(block)]
    return found


def require_same(
    before: dict[str, list[float]], after: dict[str, list[float]], but: Sequence[str] = ()
) -> None:
    """Raise UserError for the first golden trace whose numbers differ by more than rounding."""
    for name, numbers in before.items():
        if name in but:
            continue
        now = after.get(name, [])
        same = len(now) == len(numbers) and all(
            math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)
            for one, two in zip(numbers, now, strict=True)
        )
        if not same:
            raise UserError(
                f"golden trace {name}: its numbers changed; if that is the aim, name it after --but"
            )


def hashes(before: Path, traced: set[str], but: Sequence[str] = ()) -> Hashes:
    """{experiment: {method: [hash of the code in `before`, present hash]}}, where they differ.

    The method "" stands for an experiment's data. `traced` are experiments with a golden trace.
    """
    found: Hashes = {}
    for path in sorted(ROOT.glob("experiments/*/task.py")):
        experiment, task = path.parent.name, path.relative_to(ROOT)
        # An experiment that is newer than COMMIT has no results to keep.
        if not (before / task).is_file():
            continue
        own = [code_hash([task], root) for root in (before, ROOT)]
        if experiment not in traced and own[0] != own[1]:
            print(f"{task} changed, and no golden trace runs it: its runs get a new hash")
            continue
        names = {"", *method_names(experiment, ROOT)} & {"", *method_names(experiment, before)}
        found[experiment] = {
            name: [training_hash(experiment, name, root) for root in (before, ROOT)]
            for name in sorted(names)
            if f"{experiment}/{name}" not in but
        }
    entry = ("experiments.landscape.run", "run")
    found["landscape"] = {"": [entry_hash(*entry, root) for root in (before, ROOT)]}
    return {
        experiment: changed
        for experiment, methods in found.items()
        if (changed := {name: row for name, row in methods.items() if row[0] != row[1]})
    }


def record(commit: str, reason: str, but: Sequence[str] = ()) -> None:
    """Prove that the change is neutral and append its block to the file of moves."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        unpack(commit, before)
        # The present code is copied too: the writers would overwrite the golden files in place.
        for name in FOLDERS:
            shutil.copytree(ROOT / name, after / name)
        found = traces(before)
        require_same(found, traces(after), but)
        carried = hashes(before, {name.partition("/")[0] for name in found}, but)
    if not carried:
        print("no hash changed: there is nothing to record")
        return
    text = MOVES.read_text(encoding="utf-8") if MOVES.is_file() else ""
    block = [{"reason": reason, "hashes": carried}]
    with whole(MOVES) as file:
        file.write(text + yaml.safe_dump(block, sort_keys=False, default_flow_style=None))
    print(f"{sum(map(len, carried.values()))} hashes lead to those at {commit}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command.Parser(prog="python -m experiments.moves", description=__doc__)
    parser.add_argument("commit", help="the last commit before the change")
    parser.add_argument("reason", help="one sentence: what changed, and why no number did")
    parser.add_argument(
        "--but", nargs="+", default=[], metavar="experiment/method", help="methods to train again"
    )
    args = parser.parse_args(arguments)
    for name in args.but:
        experiment, _, method = name.partition("/")
        if not (ROOT / "experiments" / experiment / "task.py").is_file():
            raise UserError(f"--but {name}: there is no experiment {experiment!r}")
        if method not in method_names(experiment, ROOT):
            raise UserError(f"--but {name}: {experiment} has no method {method!r}")
    record(args.commit, args.reason, args.but)


if __name__ == "__main__":
    command.leave(main)
