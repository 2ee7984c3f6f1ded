"""The one training command: train one method of one experiment for a range of seeds.

    python -m experiments.run multimnist pcgrad --seeds 0-4 --config config/laptop.yaml \\
        --out results/laptop/runs/...

The command writes `metrics.csv` and `run.json` into the output folder when every seed is done.
Until then each seed has a checkpoint in the folder of checkpoints, and the same command resumes.

Options:
    --so-far: Train nothing and write what the checkpoints hold. `run.json` then has `unfinished`,
        {seed: last step}.
    --grid: Instead of `--seeds`: train every point of the config's tuning grid. Each point has a
        folder of its own, without the metrics of the test split.
    --chosen: File with the values of a method named `<method>_tuned`.

Exit status: 0 done, 2 a fault that the message names, 3 stopped and resumable.
"""

import argparse
import importlib
import itertools
import os
import re
import resource
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments import config as configs
from experiments.protocol import Task
from multitask.runs.errors import NonFiniteError, UserError
from multitask.runs.provenance import ROOT, commit, machine, numeric_settings, versions
from multitask.runs.sources import training_hash
from multitask.runs.startup import keep_freed_memory, loading
from system import command, lifeline, stopping
from system.reading import read_json
from system.results import CHECKS, read_info
from system.settings import TUNED
from system.writing import probe

# Modules that need torch are imported where they are used: --help and faults must answer at once.
if TYPE_CHECKING:
    from experiments.progress import ToldSession
    from multitask.runs.checkpoint import Session
    from multitask.runs.records import Records

# Keys of `tuning` that are no axis of the grid.
BUDGET = ("methods", "seeds", "validation_share", "epochs")
# Settings that do not identify a run: the data have a fingerprint, and workers change no number.
PLACES = ("data_root", "workers")
KEPT = ("pt", "csv", "lock")  # endings of a seed's files in the folder of checkpoints
EXIT_FAULT, EXIT_STOPPED = command.FAULT, command.STOPPED
PROGRESS = "progress: "  # how a line about a training's progress begins
MOST_SEEDS = 10_000  # largest number of seeds of one job


def load_task(experiment: str) -> Task:
    """Import the module `experiments.<name>.task`.

    Raises:
        UserError: There is no such experiment. The message lists those that exist.
    """
    known = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/task.py"))
    if experiment not in known:
        raise UserError(f"unknown experiment {experiment!r}; there are {', '.join(known)}")
    return cast("Task", importlib.import_module(f"experiments.{experiment}.task"))


def parse_seeds(text: str) -> list[int]:
    """Parse "3" or "0-4" (both ends included) into a list of seeds.

    Raises:
        UserError: The text is neither, or names more than MOST_SEEDS seeds.
    """
    # At most 18 digits, because seeds are 64-bit integers.
    found = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", text, re.ASCII)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not first <= last < first + MOST_SEEDS:
        raise UserError(
            f"--seeds takes a number or a range of at most {MOST_SEEDS:,} such as 0-4, not {text!r}"
        )
    return list(range(first, last + 1))


@dataclass(frozen=True)
class Job:
    """The runs of one output folder: a method's seeds under one set of settings.

    Attributes:
        method: The method's name in the task, without the suffix `_tuned`.
        seeds: Seeds that are trained one after the other.
        settings: Settings from the config.
        chosen: Tuned values, which replace settings of the same name.
        notes: Further entries of `run.json`.
        out: Folder of the outputs.
        checkpoints: Folder with one checkpoint per seed.
    """

    method: str
    seeds: list[int]
    settings: dict[str, Any]
    chosen: dict[str, Any]
    notes: dict[str, Any]
    out: Path
    checkpoints: Path


def jobs(args: argparse.Namespace, methods: Collection[str]) -> list[Job]:
    """The jobs of a command line: one for a method's seeds, or one per point of its tuning grid."""
    base = args.method.removesuffix(TUNED)
    if base not in methods:
        raise UserError(
            f"unknown method {args.method!r} of {args.experiment}; there are {', '.join(methods)}"
        )
    config = configs.read(args.config)
    settings = configs.settings_of(config, args.experiment, base)
    if args.grid:
        if args.chosen or base != args.method:
            raise UserError(
                f"--grid tunes {base} itself; leave out --chosen and the ending {TUNED}"
            )
        return grid_jobs(args, settings, config["experiments"][args.experiment].get("tuning"))
    chosen: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    if args.chosen or base != args.method:
        chosen, notes = read_chosen(args, base)
        check_chosen(args, config, chosen)
    folder = args.checkpoints / args.experiment / args.method
    return [Job(base, parse_seeds(args.seeds), settings, chosen, notes, args.out, folder)]


def grid_jobs(
    args: argparse.Namespace, settings: dict[str, Any], tuning: dict[str, Any] | None
) -> list[Job]:
    """Make a job for every point of the tuning grid.

    The points are all combinations of the values that `tuning` lists. Every point has the epochs,
    the seeds and the held-out share of training examples of `tuning`.
    """
    if not tuning:
        raise UserError(
            f"config has no block experiments.{args.experiment}.tuning; --grid trains its points"
        )
    if missing := [key for key in configs.notes(configs.Tuning) if key not in {*tuning, "methods"}]:
        raise UserError(f"experiments.{args.experiment}.tuning has no {', '.join(missing)}; add it")
    axes = {key: value for key, value in tuning.items() if key not in BUDGET}
    made = []
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        # Points are compared at the last epoch, so one evaluation at the end is enough.
        budget = {key: tuning[key] for key in ("validation_share", "epochs")} | {
            "evaluate_every": tuning["epochs"]
        }
        name = "_".join(f"{key}_{value}" for key, value in point.items())
        folder = args.checkpoints / "tuning" / args.experiment / args.method / name
        notes = {"point": point}
        made.append(
            Job(
                args.method,
                tuning["seeds"],
                settings | budget | point,
                {},
                notes,
                args.out / name,
                folder,
            )
        )
    return made


def read_chosen(args: argparse.Namespace, base: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the tuned values of a method, and their description for `run.json`, from `--chosen`.

    Raises:
        UserError: The file is missing, incomplete, or the choice of another method.
    """
    if not args.chosen or base == args.method:
        raise UserError(
            f"{args.method}: a method named *{TUNED} needs --chosen, rule choose's file; "
            "others take none"
        )
    content = read_json(args.chosen, "rule choose makes it again")
    # Checked as `run.json` will be, which is written only when the training has ended.
    if not isinstance(content, dict) or not CHECKS["tuning"](content) or not is_choice(content):
        raise UserError(
            f"{args.chosen} holds no choice among the values that were tried; "
            "rule choose makes it again"
        )
    found = content["experiment"], content["method"]
    if found != (args.experiment, base):
        raise UserError(
            f"{args.chosen} is the choice of {'/'.join(found)}, not of {args.experiment}/{base}"
        )
    # `run.json` records how the values were chosen, for the footers of tables.
    notes = {
        "chosen": content["chosen"],
        "tuning": {key: content[key] for key in ("budget", "value", "edges")},
    }
    return content["chosen"], notes


def is_choice(content: dict[str, Any]) -> bool:
    """Whether the content of a `chosen.json` names its run and chooses among what was tried."""
    chosen, tried = content.get("chosen"), content["budget"]
    return (
        all(isinstance(content.get(key), str) for key in ("experiment", "method"))
        and isinstance(chosen, dict)
        and len(chosen) > 0
        and all(isinstance(tried.get(k), list) and v in tried[k] for k, v in chosen.items())
    )


def check_chosen(args: argparse.Namespace, config: dict[str, Any], chosen: dict[str, Any]) -> None:
    """Check that the config stays valid when the chosen values replace its own.

    Raises:
        UserError: A chosen value is no setting of the experiment, or not an allowed value.
    """
    block = config["experiments"][args.experiment]
    try:
        if unknown := sorted(set(chosen) - set(block)):
            raise UserError(f"{args.experiment} has no setting {', '.join(unknown)}")
        blocks = {**config["experiments"], args.experiment: {**block, **chosen}}
        configs.check({**config, "experiments": blocks}, part=True)
    except UserError as error:
        raise UserError(f"{args.chosen}: {error}; rule choose makes it again") from None


def train(args: argparse.Namespace) -> None:
    """Train all jobs of the command line, write their outputs and remove their checkpoints."""
    keep_freed_memory()
    with loading():
        import torch

        from multitask.runs.records import write_run

        task = load_task(args.experiment)
        asked = jobs(args, task.METHODS)
        settings = asked[0].settings
        # A folder that cannot be written is reported before hours of training.
        for job in asked:
            refuse_irregular(job)
            probe(job.out)
            probe(job.checkpoints)
        # Done within `loading`, because it imports torch's compiler.
        prepare_torch(settings)
    data = fingerprint(task, settings)
    hashed = training_hash(args.experiment, asked[0].method)
    deadline = None if args.max_minutes is None else time.monotonic() + 60 * args.max_minutes
    identities = [identity_of(job, data, hashed) for job in asked]
    seeds = [
        (*pair, seed) for pair in zip(asked, identities, strict=True) for seed in pair[0].seeds
    ]
    # A checkpoint that is refused is reported before the seeds before it are trained; the first is
    # read next, and a replay buffer takes seconds.
    for job, identity, seed in seeds[1:]:
        session_of(args, job, identity, seed).load()
    for job, identity in zip(asked, identities, strict=True):
        trained = so_far if args.so_far else partial(train_seeds, deadline=deadline)
        records, costs = trained(args, task, job, identity)
        info = {
            "experiment": args.experiment,
            "method": args.method,
            "seeds": job.seeds,
            "scale": settings["scale"],
            **identity,
            "commit": commit(),
            "versions": versions(),
            "device": device_name(settings["device"]),
            "machine": machine(),
            "numeric_settings": {
                "cpu_capability": torch.backends.cpu.get_cpu_capability(),
                **numeric_settings(),
            },
            "peak_memory_of": "process"
            if settings["device"] == "cpu" or not torch.cuda.is_available()
            else "GPU",
            **costs,
        }
        write_run(job.out, records, info)
    # Only after all jobs are written: an interrupted grid resumes from its finished points.
    for job in () if args.so_far else asked:
        for seed in job.seeds:
            for left in KEPT:
                (job.checkpoints / f"seed{seed}.{left}").unlink(missing_ok=True)


def identity_of(job: Job, data: dict[str, Any], hashed: str) -> dict[str, Any]:
    """What all seeds of a job share; a checkpoint is resumed only by a run with the same."""
    kept = {key: value for key, value in job.settings.items() if key not in PLACES}
    identity = {"settings": kept, "data": data, "code_hash": hashed, **job.notes}
    if "precision" in kept:
        from multitask.rl.sac.precision import precision_of

        identity["precision"] = precision_of(kept, job.method)
    return identity


def session_of(
    args: argparse.Namespace,
    job: Job,
    identity: dict[str, Any],
    seed: int,
    *,
    deadline: float | None = None,
) -> "ToldSession":
    """The session of one seed of a job."""
    from experiments.progress import ToldSession

    number, count = job.seeds.index(seed) + 1, len(job.seeds)
    point = f" {job.out.name}" if args.grid else ""
    place = f" ({number} of {count})" if count > 1 else ""
    return ToldSession(
        job.checkpoints / f"seed{seed}.pt",
        {**identity, "method": args.method, "seed": seed},
        name=f"{args.experiment}/{args.method}{point} seed {seed}{place}",
        settings=job.settings | job.chosen,
        later=count - number,
        deadline=deadline,
        every_seconds=args.checkpoint_seconds,
        accept_code_change=args.accept_code_change,
    )


def refuse_irregular(job: Job) -> None:
    """Refuse folders, pipes and broken links where files must be, before a training meets them.

    Raises:
        UserError: Something else is in the place of a file that a job writes.
    """
    files = [job.out / name for name in ("metrics.csv", "run.json")]
    files += [job.checkpoints / f"seed{seed}.{end}" for seed in job.seeds for end in KEPT]
    for path in files:
        if os.path.lexists(path) and not path.is_file():
            raise UserError(f"{path} is no regular file; delete it or choose another place")


def fingerprint(task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    """The task's fingerprint of its data, whose splits must not be the same.

    Raises:
        UserError: The data are missing or damaged, or test on what they train on.
    """
    from multitask.data.scenes import Scenes, in_both

    found = task.fingerprint(settings)
    # Other sets have lists of their splits, or are compared with the published content.
    scenes = task.source(settings) if hasattr(task, "source") else None
    if isinstance(scenes, Scenes) and (same := in_both(scenes)):
        count = len(scenes.test[0])
        said = f"{same} of the {count} images in val/ of {settings['data']} are in train/ as well"
        if same == count:
            raise UserError(f"{said}; put the set's own two parts there")
        print(f"note: {said}", file=sys.stderr, flush=True)
    return found


def prepare_torch(settings: dict[str, Any]) -> None:
    """Make numbers reproducible: use deterministic algorithms and a fixed number of threads."""
    import torch

    torch.use_deterministic_algorithms(True, warn_only=settings["device"] != "cpu")
    torch.set_num_threads(settings["torch_threads"])
    # Filling uninitialized memory is slow, and no code reads memory before it writes it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def train_seeds(
    args: argparse.Namespace,
    task: Task,
    job: Job,
    identity: dict[str, Any],
    *,
    deadline: float | None,
) -> tuple[dict[int, "Records"], dict[str, Any]]:
    """Train every seed of a job and return its records and costs.

    A seed whose checkpoint is marked as finished is not trained again. A signal that arrives while
    a seed's end is saved stops the process after that.

    Returns:
        The records by seed, and the entries of `run.json` on memory, seconds and code changes.
    """
    from multitask.runs.records import Records

    done: dict[int, dict[str, Any]] = {}
    # {seed: code hashes} of seeds that were resumed under --accept-code-change.
    changes: dict[str, list[str]] = {}
    for seed in job.seeds:
        session = session_of(args, job, identity, seed, deadline=deadline)
        with lifeline.alone(session.path.with_suffix(".lock")) as mine:
            if not mine:
                where = session.path
                raise UserError(f"another process trains into {where}; wait for it or stop it")
            saved = session.load()
            if saved is None or "finished" not in saved:
                rows = train_one(task, job, seed, session, validation_only=args.grid)
                peak = peak_memory_mb(job.settings["device"])
                saved = {"finished": rows, "seconds": session.elapsed(), "peak_memory_mb": peak}
                # Hold signals back until the finished seed is saved.
                stopping.wait()
                session.save(saved)
                stopping.proceed()
        if len(session.code_hashes) > 1:
            changes[str(seed)] = session.code_hashes
        done[seed] = saved
    # From here signals wait for the end of the process, so outputs are written whole.
    stopping.wait()
    costs = {
        "peak_memory_mb": max(saved.get("peak_memory_mb", 0) for saved in done.values()),
        "seconds": {str(seed): round(saved["seconds"], 1) for seed, saved in done.items()},
        **({"accepted_code_changes": changes} if changes else {}),
    }
    return {seed: Records(saved["finished"]) for seed, saved in done.items()}, costs


def so_far(
    args: argparse.Namespace, _task: Task, job: Job, identity: dict[str, Any]
) -> tuple[dict[int, "Records"], dict[str, Any]]:
    """Read the records and costs of a job from its checkpoints without training.

    Raises:
        UserError: A seed has no checkpoint or one without rows, or the run is finished.
    """
    from multitask.runs.records import Records

    info = job.out / "run.json"
    whole = info.is_file() and "unfinished" not in read_info(info)
    records, seconds, unfinished = {}, {}, {}
    changes: dict[str, list[str]] = {}
    for seed in job.seeds:
        session = session_of(args, job, identity, seed)
        saved: dict[str, Any] = session.load() or {}
        rows = saved.get("finished", saved.get("records", []))
        # A point of a grid that diverged is finished without a row.
        if "finished" not in saved:
            if whole:
                raise UserError(f"{job.out} holds a finished run; delete it, or leave out --so-far")
            if not rows:
                path = session.path
                raise UserError(f"no rows in {path}; train the run before it is written so far")
            unfinished[str(seed)] = max(row[0] for row in rows)
        if len(session.code_hashes) > 1:
            changes[str(seed)] = session.code_hashes
        records[seed] = Records([tuple(row) for row in rows])
        seconds[str(seed)] = round(session.elapsed(), 1)
    notes = {"unfinished": unfinished, "accepted_code_changes": changes}
    return records, {"seconds": seconds, **{key: value for key, value in notes.items() if value}}


def train_one(
    task: Task, job: Job, seed: int, session: "Session", *, validation_only: bool
) -> list[Any]:
    """Train one run and return its rows.

    A point of a tuning grid keeps no row of the test split, and has no rows if training diverges.
    """
    if not validation_only:
        return task.train(job.method, seed, job.settings | job.chosen, session).rows
    try:
        rows = task.train(job.method, seed, job.settings, session).rows
    # Divergence disqualifies a point of the grid; any other fault ends the command.
    except NonFiniteError as error:
        print(f"{job.out.name}, seed {seed}: {error}", file=sys.stderr)
        return []
    return [row for row in rows if not row[2].startswith("test_")]


def device_name(device: str) -> str:
    """Describe the device for the footers of tables."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} thread(s)"
    return torch.cuda.get_device_name()


def peak_memory_mb(device: str) -> int:
    """Peak memory in MiB: torch's on a GPU, else the process's, including libraries and data."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    # In bytes on macOS, in KiB elsewhere.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(
        prog="python -m experiments.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("experiment", help="a folder of experiments/ with a task.py")
    parser.add_argument("method", help="a method of that experiment")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", help="a seed or a range, e.g. 0-4")
    what.add_argument(
        "--grid",
        action="store_true",
        help="every point of the tuning grid, with the seeds of `tuning`",
    )
    parser.add_argument(
        "--chosen", type=command.place, help="chosen.json with the values of a method named *_tuned"
    )
    parser.add_argument("--config", required=True, help="a YAML file, or JSON text")
    parser.add_argument(
        "--out", required=True, type=command.place, help="folder for metrics.csv and run.json"
    )
    parser.add_argument(
        "--checkpoints",
        type=command.place,
        help="folder of the checkpoints (default: next to the runs' folder)",
    )
    parser.add_argument(
        "--max-minutes", type=span, help="save and stop (exit 3) after so many minutes"
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=span,
        default=60.0,
        help="time between checkpoints (default: 60)",
    )
    parser.add_argument(
        "--accept-code-change", action="store_true", help="resume a checkpoint of other code"
    )
    parser.add_argument(
        "--so-far", action="store_true", help="train nothing: write what the checkpoints hold"
    )
    args = parser.parse_args(arguments)
    if args.so_far and args.max_minutes is not None:
        parser.error("--so-far trains nothing and takes no --max-minutes")
    if args.checkpoints is None:
        # results/<scale>/runs/<experiment>/<method>/seeds0-4 -> results/<scale>/checkpoints
        parents = args.out.absolute().parents
        args.checkpoints = (parents[3] if len(parents) > 3 else args.out.parent) / "checkpoints"
    return args


def span(text: str) -> float:
    """Parse a time of the command line: a finite number, 0 or more.

    Raises:
        argparse.ArgumentTypeError: The text is no such number.
    """
    # float() alone would accept "nan", "inf" and "1e9".
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{0,18})?", text, re.ASCII):
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no time; give a number such as 30 or 0.5")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and turn faults and signals into one line and an exit status."""
    return command.run(lambda: train(parse(arguments)))


if __name__ == "__main__":
    command.leave(lambda: train(parse(None)))
