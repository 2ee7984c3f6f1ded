"""The one training command: train one method of one experiment for a range of seeds.

    python -m experiments.run multimnist pcgrad --seeds 0-4 --config config/laptop.yaml --out results/laptop/runs/...

Writes `metrics.csv` and `run.json` into the output folder when every seed is done. Until then each seed keeps a
checkpoint beside the runs; the same command resumes. Exit status: 0 done, 2 a fault that the message names, 3 stopped
and resumable.
"""

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from experiments.config import check
from multitask.errors import UserError
from multitask.provenance import ROOT, code_hash, commit, machine, training_sources, versions

GLOBALS = ("scale", "data_root", "torch_threads", "device")
NOT_SETTINGS = ("methods", "seeds")  # which runs there are, not what one run does
EXIT_FAULT, EXIT_STOPPED = 2, 3


def read_config(text: str) -> dict[str, Any]:
    """A config from a YAML file's path or from JSON text (how Snakemake passes it)."""
    if text.lstrip().startswith("{"):
        return json.loads(text)
    path = Path(text)
    if not path.is_file():
        raise UserError(f"no config file {path}; the scales are in config/*.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise UserError(f"config file {path} holds no mapping; compare it with config/quick.yaml")
    check(content)
    return content


def settings_of(config: dict[str, Any], experiment: str) -> dict[str, Any]:
    """The settings of one run: the experiment's block and the globals."""
    missing = [key for key in GLOBALS if key not in config]
    if missing:
        raise UserError(f"config has no {', '.join(missing)}; compare it with config/quick.yaml")
    blocks = config.get("experiments", {})
    if experiment not in blocks:
        raise UserError(f"config has no block experiments.{experiment}; it has {', '.join(sorted(blocks)) or 'none'}")
    block = {key: value for key, value in blocks[experiment].items() if key not in NOT_SETTINGS}
    return {**{key: config[key] for key in GLOBALS}, **block}


def load_task(experiment: str) -> ModuleType:
    """The module `experiments.<name>.task`; UserError with the names that exist."""
    known = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/task.py"))
    if experiment not in known:
        raise UserError(f"unknown experiment {experiment!r}; there are {', '.join(known)}")
    module = importlib.import_module(f"experiments.{experiment}.task")
    if not hasattr(module, "METHODS"):
        raise UserError(f"experiment {experiment!r} trains nothing; run it by its rule (see experiments/{experiment})")
    return module


def parse_seeds(text: str) -> list[int]:
    """Seeds from "3" or "0-4" (both ends included)."""
    first, _, last = text.partition("-")
    try:
        seeds = list(range(int(first), int(last or first) + 1))
    except ValueError:
        seeds = []
    if not seeds:
        raise UserError(f"--seeds takes a number or a range such as 0-4, not {text!r}")
    return seeds


def train(args: argparse.Namespace) -> None:
    """Train every seed of the job, then write its outputs and drop its checkpoints."""
    import torch

    from multitask.checkpoint import Session
    from multitask.records import Records, write_run

    task = load_task(args.experiment)
    if args.method not in task.METHODS:
        raise UserError(f"unknown method {args.method!r} of {args.experiment}; there are {', '.join(task.METHODS)}")
    settings = settings_of(read_config(args.config), args.experiment)
    seeds = parse_seeds(args.seeds)
    torch.set_num_threads(settings["torch_threads"])
    torch.use_deterministic_algorithms(True, warn_only=settings["device"] != "cpu")
    data = task.fingerprint(settings)
    hashed = code_hash(training_sources(args.experiment))
    deadline = None if args.max_minutes is None else time.monotonic() + 60 * args.max_minutes
    # data_root is a place, not a setting: the data's fingerprint stands for it.
    identity = {"settings": {k: v for k, v in settings.items() if k != "data_root"}, "data": data, "code_hash": hashed}

    folder = args.checkpoints / args.experiment / args.method
    records: dict[int, Records] = {}
    seconds: dict[int, float] = {}
    for seed in seeds:
        session = Session(
            folder / f"seed{seed}.pt",
            {**identity, "method": args.method, "seed": seed},
            deadline=deadline,
            every_seconds=args.checkpoint_seconds,
            accept_code_change=args.accept_code_change,
        )
        saved = session.load()
        if saved is not None and "finished" in saved:
            records[seed], seconds[seed] = Records(saved["finished"]), saved["seconds"]
            continue
        records[seed] = task.train(args.method, seed, settings, session)
        seconds[seed] = session.elapsed()
        session.save({"finished": records[seed].rows, "seconds": seconds[seed]})

    info = {
        "experiment": args.experiment,
        "method": args.method,
        "seeds": seeds,
        "scale": settings["scale"],
        "settings": identity["settings"],
        "data": data,
        "code_hash": hashed,
        "commit": commit(),
        "versions": versions(),
        "device": device_name(settings["device"]),
        "machine": machine(),
        "peak_memory_mb": peak_memory_mb(settings["device"]),
        "seconds": {str(seed): round(value, 1) for seed, value in seconds.items()},
    }
    write_run(args.out, records, info)
    for seed in seeds:
        (folder / f"seed{seed}.pt").unlink(missing_ok=True)


def device_name(device: str) -> str:
    """The device in words, for the footers of tables."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} thread(s)"
    return torch.cuda.get_device_name()


def peak_memory_mb(device: str) -> int:
    """Most memory held at once: on a GPU what torch allocated there, else the whole process (libraries, data, model)."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment", help="a folder of experiments/ with a task.py")
    parser.add_argument("method", help="a method of that experiment")
    parser.add_argument("--seeds", required=True, help="a seed or a range, e.g. 0-4")
    parser.add_argument("--config", required=True, help="a YAML file, or JSON text")
    parser.add_argument("--out", required=True, type=Path, help="folder for metrics.csv and run.json")
    parser.add_argument("--checkpoints", type=Path, help="folder of the checkpoints (default: beside the runs' folder)")
    parser.add_argument("--max-minutes", type=float, help="save and stop (exit 3) after so many minutes")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, help="time between checkpoints (default: 60)")
    parser.add_argument("--accept-code-change", action="store_true", help="resume a checkpoint of other code")
    args = parser.parse_args(arguments)
    if args.checkpoints is None:
        # results/<scale>/runs/<experiment>/<method>/seeds0-4 -> results/<scale>/checkpoints
        parents = args.out.absolute().parents
        args.checkpoints = (parents[3] if len(parents) > 3 else args.out.parent) / "checkpoints"
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and turn faults into one line and an exit status."""
    args = parse(arguments)
    try:
        train(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAULT
    except Exception as error:
        if type(error).__name__ != "Stopped":
            raise
        print(f"stopped: {error}", file=sys.stderr)
        return EXIT_STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
