"""Lists the commands with hardware, time and result, for the README's table and `make help`.

The times are those of the published runs.
"""

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system import command
from system.errors import UserError
from system.times import duration

ROOT = Path(__file__).resolve().parents[2]
CORES = 2  # cores of a published scale's machine, if its manifest does not say
# {experiment of the laptop scale: (what it gives, the file that holds it)}.
SHOWN = {
    "multimnist": ("Table 4, MultiMNIST on real MNIST", "tables/table_4.md"),
    "cifar100": ("Table 2, CIFAR-100 as 20 tasks", "tables/table_2.md"),
    "triad": ("Figure 4, two Meta-World tasks", "figures/figure_4.png"),
    "metaworld_mt3": ("MT3 (ours), three Meta-World tasks", "tables/table_mt3.md"),
    "metaworld_mt10": ("Figure 3, MT10", "tables/table_mt10.md"),
}

# Targets of make that only read or copy files.
AT_ONCE = ("help", "watch", "report", "publish", "campaign-status", "clean", "config")
DRY_RUN = "`snakemake -n -q rules` lists the jobs"


def seconds(root: Path, scale: str) -> dict[str, float]:
    """{rule: core-seconds} of a published scale; empty if the scale is not published."""
    return seconds_of(root / "results" / "published" / scale)


def seconds_of(folder: Path) -> dict[str, float]:
    """{rule: core-seconds}, read from a scale's run times; empty if it has none."""
    path = folder / "runtimes.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["rule"]: float(row["core_seconds"]) for row in csv.DictReader(file)}


def manifest(root: Path, scale: str) -> dict[str, Any]:
    """The manifest of a published scale; empty if the scale is not published."""
    folder = root / "results" / "published" / scale
    path = folder / "manifest.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} is no manifest ({error}); publish again") from None


def training(root: Path, scale: str) -> dict[str, float]:
    """{experiment: seconds of training, summed over methods and seeds}."""
    return {name: float(value) for name, value in manifest(root, scale).get("seconds", {}).items()}


def hardware(root: Path, scale: str) -> str:
    """The machine of a scale's runs in words, for example `2 cores`."""
    machines = manifest(root, scale).get("machines") or [{}]
    return f"{machines[0].get('cores', CORES)} cores"


def elapsed(root: Path, scale: str) -> float:
    """Least wall-clock seconds of the whole scale on its machine's cores."""
    rules = seconds(root, scale)
    # Runs of a campaign have no benchmark file of Snakemake, only their own seconds.
    trained = sum(training(root, scale).values())
    rest = sum(value for rule, value in rules.items() if not rule.startswith("train_"))
    known = sum(value for rule, value in rules.items() if rule.startswith("train_"))
    return (rest + max(trained, known)) / CORES


def rows(root: Path) -> list[tuple[str, str, str, str, str]]:
    """The rows of the table: purpose, command, hardware, time, file."""
    quick, laptop = seconds(root, "quick"), training(root, "laptop")
    proofs = sum(value for rule, value in quick.items() if rule.startswith("proof_"))
    cores = hardware(root, "quick")
    figure = "figures/figure_1.png"
    times = [elapsed(root, "quick"), proofs / CORES, quick.get("landscape", 0)]
    all_quick, theory, landscape = map(duration, times)
    published = "results/published/laptop"
    ours, all_laptop = hardware(root, "laptop"), duration(elapsed(root, "laptop"))
    found = [
        ("everything, quick", "`make reproduce`", cores, all_quick, "`results/quick/report.html`"),
        ("the theory", "`snakemake --cores all theory`", cores, theory, "`results/quick/proofs/`"),
        ("Figure 1, in full", f"`snakemake --cores 1 results/quick/{figure}`", "1 core", landscape,
         f"[figure 1]({published}/{figure})"),
        ("all published laptop runs", "`make laptop`", ours, all_laptop, f"[laptop]({published})"),
    ]  # fmt: skip
    for name, (what, file) in SHOWN.items():
        if name in laptop and (root / published / file).is_file():
            target = Path(file).with_suffix(".csv" if file.endswith(".md") else ".png")
            command = f"`snakemake --workflow-profile profiles/laptop results/laptop/{target}`"
            cell = f"[{Path(file).stem.replace('_', ' ')}]({published}/{file})"
            found.append((what, command, ours, duration(laptop[name] / CORES), cell))
    paper = duration(elapsed(root, "paper")) if manifest(root, "paper") else "not run"
    command = "`snakemake --workflow-profile profiles/paper`"
    return [*found, ("the paper's settings", command, "GPUs", paper, "`results/paper/`")]


def table(root: Path = ROOT) -> str:
    """The README's table of commands."""
    lines = ["| what | command | hardware | time, about | result |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(root))])


def targets(root: Path, scale: str) -> list[str]:
    """Files that a scale's published training runs, proofs and landscape consist of."""
    names = manifest(root, scale).get("files", {})
    # Figures and tables are not listed: they need every run of the scale.
    # Written out: `make help` runs before anything is installed, where `system.results` is not.
    wanted = ("metrics.csv", "metrics.csv.gz", "landscape/summary.json")
    return [
        f"results/{scale}/{name.removesuffix('.gz')}"
        for name in names
        if name.endswith(wanted) or (name.startswith("proofs/") and name.endswith(".json"))
    ]


def estimate(root: Path, scale: str) -> str:
    """One line with the expected time, to print before a scale is run."""
    if not seconds(root, scale) and not training(root, scale):
        return f"{scale}: no published run to estimate the time from"
    return (
        f"{scale}: about {duration(elapsed(root, scale))} on {hardware(root, scale)}, "
        f"as published; {DRY_RUN}"
    )


def costs(root: Path) -> Mapping[str, str]:
    """{make target: its cost in words}, for `make help`."""
    quick = seconds(root, "quick")
    measured = {
        "reproduce": elapsed(root, "quick"),
        "verify": elapsed(root, "quick"),
        "laptop": elapsed(root, "laptop"),
        "campaign": elapsed(root, "laptop"),
        "article": quick.get("article", 0.0),
    }
    return {
        **dict.fromkeys(AT_ONCE, "seconds"),
        **{name: duration(value) for name, value in measured.items() if value},
    }


def usage(root: Path) -> str:
    """The Makefile's targets, one line each with description and cost."""
    found = costs(root)
    lines = ["usage: make TARGET [SCALE=quick|laptop|paper] [CORES=n]", ""]
    for line in (root / "Makefile").read_text(encoding="utf-8").splitlines():
        head, mark, about = line.partition("## ")
        if mark and ":" in head and not head.startswith(("#", "\t")):
            # A target's description follows its rule after `##`.
            name = head.partition(":")[0].strip()
            lines.append(f"  {name:<15}  {found.get(name, ''):>7}  {about}")
    return "\n".join([*lines, "", f"times are those of the published runs; {DRY_RUN}"])


def main(arguments: list[str]) -> int:
    """Run the command `help`, `estimate SCALE` or `targets SCALE`."""
    what, *rest = arguments or [""]
    if what not in ("help", "estimate", "targets") or (what != "help" and not rest):
        raise UserError("publishing.commands takes help, estimate SCALE or targets SCALE")
    if what == "help":
        print(usage(ROOT))
    elif what == "estimate":
        # An unknown scale prints nothing; the launcher reports it.
        if (ROOT / "config" / f"{rest[0]}.yaml").is_file():
            print(estimate(ROOT, rest[0]))
    else:
        print(" ".join(targets(ROOT, rest[0])))
    return 0


if __name__ == "__main__":
    command.leave(lambda: main(sys.argv[1:]))
