"""Trains long runs from a clone at a tagged commit, independent of edits in the working tree.

    python -m experiments.campaign laptop                         # all runs of the config
    python -m experiments.campaign laptop metaworld_mt10/sac/0-4  # these runs
    python -m experiments.campaign laptop --status                # progress, from another shell
    python -m experiments.campaign laptop --so-far                # write unfinished runs as well

The first call tags the last commit `campaign-<scale>-<commit>` and clones it into a folder of that
name next to the project. Later calls use this clone until `--tag` names another tag. A few runs are
trained at a time, at low priority, seed by seed in the given order. Each is copied into
`results/<scale>/runs` when it is done. After an interruption, the same command resumes from the
checkpoints.

A target is experiment, experiment/method or experiment/method/seeds; missing parts are taken from
the config. Methods that the config does not list can be trained by name.
"""

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.run import PLACES, PROGRESS, parse_seeds
from multitask.runs.errors import UserError
from multitask.runs.provenance import ROOT
from system import command, lifeline
from system.results import METRICS, PACKED, read_info
from system.settings import TUNED, defaults, rows
from system.times import duration
from system.writing import write_text

NICE = 19
STATUS_SECONDS = 30.0  # time between two status lines


@dataclass(frozen=True)
class Target:
    """One run: a method of an experiment under one seed."""

    experiment: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment}/{self.method}/{self.seed}"

    def folder(self, results: Path) -> Path:
        """The folder of its outputs below `results/<scale>`."""
        seeds = f"seeds{self.seed}-{self.seed}"
        return results / "runs" / self.experiment / self.method / seeds

    def checkpoint(self, results: Path, kind: str) -> Path:
        """The file of its checkpoint (`pt`) or of its rows so far (`csv`)."""
        return results / "checkpoints" / self.experiment / self.method / f"seed{self.seed}.{kind}"


def targets(names: Sequence[str], config: dict[str, Any]) -> list[Target]:
    """The runs that the names select, each once; without names all runs of the config.

    Of each name all methods of a seed precede the next seed.
    """
    blocks = config["experiments"]
    found: dict[Target, None] = {}
    for name in names or [e for e, block in blocks.items() if block.get("methods")]:
        experiment, _, rest = name.partition("/")
        method, _, seeds = rest.partition("/")
        if experiment not in blocks:
            known = ", ".join(blocks)
            raise UserError(f"no experiment {experiment!r} in the config; it has {known}")
        named = [method] if method else blocks[experiment].get("methods", [])
        asked = rows({**blocks[experiment], "methods": named, "tuning": {}})
        if seeds:
            asked = dict.fromkeys(named, parse_seeds(seeds))
        for seed in sorted({seed for row in asked.values() for seed in row}):
            methods = [method for method, row in asked.items() if seed in row]
            found |= dict.fromkeys(Target(experiment, method, seed) for method in methods)
    if not found:
        wanted = " ".join(names)
        raise UserError(f"{wanted} asks for no run; name a method: experiment/method/seeds")
    return list(found)


def is_done(target: Target, results: Iterable[Path], config: dict[str, Any]) -> bool:
    """Whether a folder `results/<scale>` holds the finished run with the config's settings."""
    method = target.method.removesuffix(TUNED)
    wanted = configs.settings_of(config, target.experiment, method)
    usual = defaults(configs.declared()[target.experiment])
    for path in (path for one in results for path in target.folder(one).parent.glob("*/run.json")):
        info = read_info(path)
        # Compare only settings that the method reads; older runs hold others as well, and a
        # setting that is newer than the run is at its default.
        had = {**usual, **info.get("settings", {})}
        same = all(had.get(key) == value for key, value in wanted.items() if key not in PLACES)
        whole = target.seed in info["seeds"] and "unfinished" not in info
        there = any(path.with_name(name).is_file() for name in (METRICS, PACKED))
        if there and whole and same:
            return True
    return False


# --- the clone


def git(*words: str) -> str:
    """Run a git command and return its output.

    Raises:
        UserError: The command fails.
    """
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("git is not on the PATH; a campaign trains from a clone") from None
    if done.returncode:
        why = (done.stderr.strip() or "failed").splitlines()[-1]
        raise UserError(f"git {' '.join(words)}: {why}")
    return done.stdout.strip()


def place(scale: str, tag: str = "") -> Path:
    """The folder of a clone, named as its tag.

    The tag is the named one, else the newest campaign of the scale, else a new one at the last
    commit.
    """
    if not re.fullmatch(r"(\w[\w.-]*)?", tag):
        raise UserError(
            f"--tag {tag!r}: a folder is named after it; use letters, digits, _, . and -"
        )
    tags = git("tag", "--sort=-creatordate").splitlines()
    known = [one for one in tags if one.startswith(f"campaign-{scale}-")]
    tag = tag or next((one for one in known if (ROOT.parent / one).is_dir()), "")
    return ROOT.parent / (tag or f"campaign-{scale}-{git('rev-parse', '--short=10', 'HEAD')}")


def clone(scale: str, tag: str = "") -> Path:
    """The folder of a clone; clone and tag are made if they are missing.

    Raises:
        UserError: The folder is there and no clone at its tag, such as the project itself.
    """
    folder = place(scale, tag)
    tag = folder.name
    known = tag in git("tag").splitlines()
    if folder.is_dir():
        inside = [str(folder.resolve()), git("rev-parse", f"{tag}^{{commit}}") if known else ""]
        try:
            found = git("-C", str(folder), "rev-parse", "--show-toplevel", "HEAD").splitlines()
        except UserError:
            found = []
        if found != inside or folder == ROOT:
            raise UserError(
                f"{folder} is no clone at the tag {tag}; move it, or give another --tag"
            )
    else:
        if not known:
            git("tag", tag)
        # An interrupted clone must not be taken for a complete one.
        temporary = folder.with_suffix(".partial")
        shutil.rmtree(temporary, ignore_errors=True)
        git("clone", "--quiet", "--branch", tag, str(ROOT), str(temporary))
        temporary.rename(folder)
    if git("status", "--porcelain", "--untracked-files=no"):
        print("note: changes that are not committed are no part of the campaign", flush=True)
    return folder


# --- running


def train_command(target: Target, scale: str, out: Path, *more: str) -> list[str]:
    """The training command of one run."""
    words = [target.experiment, target.method, "--seeds", str(target.seed)]
    places = ["--config", f"config/{scale}.yaml", "--out", str(out)]
    python = ["nice", "-n", str(NICE), sys.executable]
    return [*python, "-m", "experiments.run", *words, *places, *more]


def environment(config: dict[str, Any]) -> dict[str, str]:
    """Environment of a run: imports from the clone, the project's data, the config's threads."""
    # Absolute, because a run's working folder is the clone.
    data = Path(os.environ.get("PCGRAD_DATA") or ROOT / config["data_root"]).absolute()
    # The clone has no data; without this variable every run would download them again.
    more = {"PCGRAD_DATA": str(data)} if data.is_dir() else {}
    threads = {"OMP_NUM_THREADS": str(config["torch_threads"])}
    return {**os.environ, **threads, **more, "PYTHONPATH": os.pathsep.join(["src", "."])}


class Campaign:
    """The runs of one call: those that wait, run and are done."""

    def __init__(self, folder: Path, scale: str, config: dict[str, Any]) -> None:
        self.folder, self.scale, self.config = folder, scale, config
        self.results = folder / "results" / scale
        self.mine = ROOT / "results" / scale
        # Environment by which runs notice that this process was killed.
        self.lifeline: dict[str, str] = {}
        self.waiting: list[Target] = []
        # {run: (time and step at its start)}.
        self.running: dict[Target, tuple[float, float]] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.done, self.failed, self.stopping = 0, 0, False
        self.lock = threading.Lock()

    def run(self, asked: Sequence[Target], jobs: int) -> int:
        """Train the given runs that are not done, `jobs` at a time; return the exit status."""
        published = ROOT / "results" / "published" / self.scale
        folders = (self.mine, published)
        self.waiting = [one for one in asked if not is_done(one, folders, self.config)]
        self.done = len(asked) - len(self.waiting)
        threads = [threading.Thread(target=self.work) for _ in range(min(jobs, len(asked)))]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                self.tell()
                # Wait up to one status interval for threads that are still alive.
                threads[0].join(STATUS_SECONDS)
                for thread in threads[1:]:
                    thread.join(0.0 if threads[0].is_alive() else STATUS_SECONDS)
        finally:
            # On a signal the runs save their checkpoints and stop; wait for them.
            self.stopping = True
            for process in self.processes:
                if process.poll() is None:
                    process.terminate()
            for thread in threads:
                thread.join()
            self.tell()
        return command.FAULT if self.failed else command.DONE

    def work(self) -> None:
        """Train waiting runs one after the other until none is left."""
        while True:
            with self.lock:
                if self.stopping or not self.waiting:
                    return
                target = self.waiting.pop(0)
                self.running[target] = time.monotonic(), step_of(self.log(target))
            try:
                status = self.train(target)
            # Such as a full disk: the run counts as failed, and the others go on.
            except Exception as error:
                print(f"{target}: {type(error).__name__}: {command.told(error)}", flush=True)
                status = command.FAULT
            with self.lock:
                del self.running[target]
                self.done += status == command.DONE
                self.failed += status not in (command.DONE, command.STOPPED)

    def log(self, target: Target) -> Path:
        """The log of a run, in which it writes its progress."""
        return self.results / "logs" / "campaign" / f"{str(target).replace('/', '_')}.log"

    def train(self, target: Target) -> int:
        """Train one run and copy it into the project."""
        out = target.folder(self.results)
        if not is_done(target, [self.results], self.config):
            log = self.log(target)
            log.parent.mkdir(parents=True, exist_ok=True)
            words = train_command(target, self.scale, out)
            with log.open("ab") as file, self.lock:
                # Checked under the lock, so that no run starts after the others were stopped.
                if self.stopping:
                    return command.STOPPED
                variables = environment(self.config) | self.lifeline
                process = subprocess.Popen(
                    words, cwd=self.folder, env=variables, stdout=file, stderr=file
                )
                self.processes.append(process)
            status = process.wait()
            if status != command.DONE:
                print(f"{target}: ended with {status}; {log} says why", flush=True)
                return status
        copy(out, target.folder(self.mine))
        print(f"{target}: done, in {target.folder(self.mine)}", flush=True)
        return command.DONE

    def tell(self) -> None:
        """Print the status line and save it for `--status`."""
        with self.lock:
            text = self.status()
        print(text, flush=True)
        write_text(self.results / "campaign.txt", text + "\n")

    def status(self) -> str:
        """The status line: runs that are done, running (with the time left) and waiting."""
        now, parts, left = time.monotonic(), [], []
        for target, (began, first) in self.running.items():
            step, last = step_of(self.log(target)), steps(self.config, target.experiment)
            # Seconds for one step; nan before the first.
            each = (now - began) / (step - first) if step > first else math.nan
            left.append((rest := (last - step) * each, last * each))
            more = "" if math.isnan(each) else f", {duration(rest)} left"
            parts.append(f"{target} at {step:.0f} of {last}{more}")
        words = [time.strftime("%m-%d %H:%M"), f"{self.done} done", *parts]
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{len(self.waiting)} waiting"] if self.waiting else []
        # Without a rate for every run (nan) the total cannot be estimated.
        if left and not any(math.isnan(rest) for rest, _ in left):
            whole = sum(one for _, one in left) / len(left)
            total = (sum(rest for rest, _ in left) + whole * len(self.waiting)) / len(left)
            words.append(f"about {duration(total)} in all")
        return " · ".join(words)


def steps(config: dict[str, Any], experiment: str) -> int:
    """The number of collections or epochs of a run."""
    block = config["experiments"][experiment]
    return int(block.get("collections") or block.get("epochs") or 0)


def step_of(log: Path) -> float:
    """The finished epochs or collections that the last line of progress in a log tells."""
    try:
        with log.open("rb") as file:
            # Logs grow long; a run writes such a line every minute.
            file.seek(max(0, log.stat().st_size - 2000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return 0.0  # the run has not begun
    form = rf"^{PROGRESS}.*: \w+ (\d+) of \d+(?:, step (\d+)(?: of (\d+))?)?"
    told = re.findall(form, text, re.MULTILINE)
    if not told:
        return 0.0
    whole, step, length = told[-1]
    # A line with a step names the epoch that runs; the length of the first one is not known yet.
    if step:
        return int(whole) - 1 + (int(step) / int(length) if length else 0)
    return int(whole)


def copy(source: Path, target: Path) -> None:
    """Copy a folder atomically: copy it under another name, then rename it."""
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def write_so_far(campaign: Campaign, asked: Sequence[Target]) -> int:
    """Write the runs that have a checkpoint but no end; run.json marks them as unfinished."""
    failed = False
    for target in asked:
        out = target.folder(campaign.mine)
        begun = target.checkpoint(campaign.results, "pt").exists()
        if not begun or is_done(target, [campaign.mine], campaign.config):
            continue
        kept = str((campaign.results / "checkpoints").absolute())
        words = train_command(target, campaign.scale, out, "--so-far", "--checkpoints", kept)
        done = subprocess.run(words, cwd=campaign.folder, env=environment(campaign.config))
        failed |= done.returncode != command.DONE
        # The command itself has said what is wrong.
        said = f"ended with {done.returncode}" if done.returncode else f"as far as it is, in {out}"
        print(f"{target}: {said}", flush=True)
    return command.FAULT if failed else command.DONE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(prog="python -m experiments.campaign", description="Long runs.")
    parser.add_argument("scale", help="a scale: config/<scale>.yaml")
    parser.add_argument("targets", nargs="*", help="experiment[/method[/seeds]]; none: all")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    tag = "the tag to train from; made at the last commit if new"
    parser.add_argument("--tag", default="", help=tag)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="print the last status line")
    what.add_argument("--so-far", action="store_true", help="write unfinished runs as well")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse(arguments)
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: at least one run at a time")
    # A misspelt name, or a question, makes no tag and no clone.
    here = ROOT / "config" / f"{args.scale}.yaml"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", args.scale) or not here.is_file():
        raise UserError(f"no scale {args.scale!r}: SCALE names a file config/SCALE.yaml")
    if not (folder := place(args.scale, args.tag)).is_dir():
        if args.status or args.so_far:
            raise UserError(f"no campaign has begun in {folder}; without the option one begins")
        targets(args.targets, configs.read(str(here)))
    folder = clone(args.scale, args.tag)
    config = configs.read(str(folder / "config" / f"{args.scale}.yaml"))
    campaign = Campaign(folder, args.scale, config)
    if args.status:
        path = campaign.results / "campaign.txt"
        print(path.read_text(encoding="utf-8").strip() if path.exists() else "not begun")
        return command.DONE
    asked = targets(args.targets, config)
    print(f"{len(asked)} runs, in {folder}", flush=True)
    if args.so_far:
        return write_so_far(campaign, asked)
    number = f"{os.getpid()} {time.time()}"
    lock = folder / ".campaign.lock"
    held = lifeline.hold(lock, number)
    if held is None:
        raise UserError(f"a campaign runs in {folder} already; `--status` says how far it is")
    with held:
        campaign.lifeline = lifeline.environment(lock, number)
        return campaign.run(asked, args.jobs)


if __name__ == "__main__":
    command.leave(main)
