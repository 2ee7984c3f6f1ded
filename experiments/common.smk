# What the rules share: the import path, the jobs that a config asks for, and what a job's parameters say.
import json
import os
import sys
from functools import cache
from pathlib import Path

# Shell and script jobs import the checkout itself: nothing but the environment has to be installed.
_roots = [f"{workflow.basedir}/src", str(workflow.basedir)]
sys.path[:0] = [root for root in _roots if root not in sys.path]
os.environ.update(
    PYTHONPATH=os.pathsep.join([*_roots, *filter(None, [os.environ.get("PYTHONPATH")])])
)

from experiments.config import check, complete, declared, settings_of, trains
from multitask.runs.errors import UserError
from system.reading import read_yaml
from system.settings import TUNED, defaults, rows
from multitask.runs.sources import code_hash, entry_hash, script_hash, training_hash

# `make render` asks for what the runs on disk show, whichever of the config's they are.
RENDER = bool(config.pop("render", False))

try:
    for path in workflow.configfiles:  # Snakemake lets the last of two equal keys win
        read_yaml(Path(path), "correct it, then run again")
    check(config)
    config.update(complete(config))
except UserError as error:
    sys.exit(f"error: {error}")


pathvars:
    results=f"results/{config['scale']}",
    logs=f"results/{config['scale']}/logs",
    benchmarks=f"results/{config['scale']}/benchmarks",


# A target's name becomes a word of a shell's command line: no wildcard matches what a shell reads.
wildcard_constraints:
    experiment=r"\w+",
    method=r"\w+",
    first=r"\d+",
    last=r"\d+",
    statement=r"\w+",
    notebook=r"\w+",


EXPERIMENTS = [name for name in config["experiments"] if trains(name)]
REPORTED = sorted(glob_wildcards("experiments/reported/{name}.csv").name)  # the paper's numbers


@cache
def code(*sources):
    """Hash of the sources that can change a result; in `params:`, because Snakemake does not see imports."""
    return code_hash(sources)


def settings(experiment, method="", **more):
    """What one job reads of the config, as JSON; `more` is added. Without a method: what the data depend on."""
    read = settings_of(config, experiment, method)
    shared = {key: read.pop(key) for key in ("scale", "data_root", "torch_threads", "device")}
    return json.dumps({**shared, "experiments": {experiment: {**read, **more}}}, sort_keys=True)


def paper_settings(experiment):
    """An experiment's settings in the paper; tables name what differs from them."""
    return defaults(declared()[experiment])


def seed_ranges(seeds):
    """Consecutive seeds cut into jobs of at most `seeds_per_job`: [0, 1, 2, 5] -> ["0-2", "5-5"]."""
    ranges = []
    for seed in sorted(seeds):
        if ranges and seed == ranges[-1][-1] + 1 and len(ranges[-1]) < config["seeds_per_job"]:
            ranges[-1].append(seed)
        else:
            ranges.append([seed])
    return [f"{group[0]}-{group[-1]}" for group in ranges]


def grid(experiment):
    """The tuning block of one experiment without the methods: which others are tuned changes no point."""
    return {
        key: value
        for key, value in config["experiments"][experiment]["tuning"].items()
        if key != "methods"
    }


def untuned(method):
    """The method that a row trains: a row with tuned values is named after it."""
    return method.removesuffix(TUNED)


def chosen(wildcards):
    """The tuned values that a row asks for by its name."""
    base = untuned(wildcards.method)
    if base == wildcards.method:
        return []
    return [f"<results>/tuning/{wildcards.experiment}/{base}/chosen.json"]


def runs(*experiments):
    """The metrics of every job that the config asks for, or of those that are there."""
    if RENDER:
        there = Path("results", config["scale"], "runs")
        return sorted(  # a run that lost its metrics is a missing input, and not fewer seeds
            {
                str(path.with_name("metrics.csv"))
                for experiment in experiments
                for name in ("metrics.csv", "run.json")
                for path in there.glob(f"{experiment}/*/seeds*/{name}")
            }
        )
    return [
        f"<results>/runs/{experiment}/{method}/seeds{seeds}/metrics.csv"
        for experiment in experiments
        for method, seeds_of_row in rows(config["experiments"][experiment]).items()
        for seeds in seed_ranges(seeds_of_row)
    ]


# Faults that a job names end its log in a line "error: ..."; repeat them where the eye falls.
onerror:
    for path in [log] if isinstance(log, str) else log:
        with open(path, encoding="utf-8") as file:
            print(
                *dict.fromkeys(line for line in file if line.startswith("error: ")),
                sep="",
                end="",
                file=sys.stderr,
            )
