"""Copy the results of one scale, with a manifest, to `results/published/<scale>/`.

    python -m publishing.publish laptop             # fails if an output is missing
    python -m publishing.publish laptop --partial   # publishes what exists

These are the only results that git keeps. With `--partial` the manifest lists the missing outputs.
Snakemake's report is copied if it is there, as a zip file; it holds the pages of the notebooks. The
copy is built in a temporary folder and then renamed. `manifest.json` holds the sha256 of every
file, the command, commit, config, machines and seconds. Metrics of more than 2,000 rows are packed
(`metrics.csv.gz`); every row is kept.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from publishing.manifest import commit, copy
from reporting.ledger.claims import read_ledger
from reporting.runs import Runs, metrics_below, read_runs
from system import command
from system.reading import read_yaml
from system.settings import rows
from system.writing import ENDING, scratch

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 30_000_000  # limit of everything below results/published
PATTERNS = (
    "figures/*.png", "figures/*.pdf", "tables/*.csv", "tables/*.md", "tables/*.tex",
    "tables/narrow/*.tex", "tables/*.html", "notebooks/*.ipynb", "article.pdf", "article.json",
    "proofs/*.json", "proofs/THEOREMS.pdf", "proofs/theorems_*.png", "claims.csv", "claims.md",
    "landscape/*.json", "landscape/*.npz", "gallery/*.json", "metaworld/*.json", "data/*.json",
    "tuning/*/*/chosen.json", "runs/*/*/*/metrics.csv", "runs/*/*/*/run.json", "runtimes.csv",
    "runtimes.md", "report.zip",
)  # fmt: skip
# {script that writes several tables: their names}.
SEVERAL = {"table_metaworld": ("table_reach", "table_mt3", "table_mt10", "table_mt50")}


def expected(root: Path, experiments: Collection[str]) -> list[str]:
    """List the outputs of a complete scale.

    Every figure script, table script, notebook and proof has an output. Scripts of an experiment
    that trains count only if it is among the scale's `experiments`.
    """

    def shown(script: Path) -> bool:
        return script.parent.name in experiments or not script.with_name("task.py").is_file()

    figures, scripts = (
        [path.stem for path in root.glob(f"experiments/*/{kind}_*.py") if shown(path)]
        for kind in ("figure", "table")
    )
    tables = [table for stem in scripts for table in SEVERAL.get(stem, (stem,))]
    # Claims about the theory name the statements that have a file of proofs.
    tests = [claim["test"] for claim in read_ledger(root / "experiments" / "claims.yaml")]
    names = {f"proofs/{test['statement']}.json" for test in tests if test["kind"] == "proof"}
    names |= {f"figures/{figure}.{kind}" for figure in figures for kind in ("png", "pdf")}
    names |= {f"tables/{table}.{kind}" for table in tables for kind in ("csv", "md", "tex")}
    names |= {f"notebooks/{notebook.name}" for notebook in root.glob("notebooks/*.ipynb")}
    return sorted([*names, "claims.csv", "claims.md"])


def absent_runs(config: dict[str, Any], runs: Runs) -> list[str]:
    """Runs of the config that are missing or unfinished, as "runs/experiment/method/seed"."""
    found = {
        (info["experiment"], info["method"], seed)
        for info in runs.infos
        for seed in info["seeds"]
        if str(seed) not in info.get("unfinished", {})
    }
    wanted = {
        (experiment, method, seed)
        for experiment, block in config["experiments"].items()
        for method, seeds in rows(block).items()
        for seed in seeds
    }
    return ["runs/{}/{}/seed {}".format(*run) for run in sorted(wanted - found)]


def sources(folder: Path) -> Iterator[Path]:
    """Yield the files of a scale that are published."""
    for pattern in PATTERNS:
        for path in sorted(folder.glob(pattern)):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            # A run.json without metrics vouches for nothing.
            alone = path.name == "run.json" and not path.with_name("metrics.csv").is_file()
            # Hidden files belong to a writer that was killed.
            if not hidden and not alone:
                yield path


def publish(
    scale: str, *, root: Path = ROOT, results: Path | None = None, partial: bool = False
) -> Path:
    """Publish one scale and return its new folder.

    Raises:
        ValueError: An output is missing or stale, or the published results would be too large.
    """
    results = results or root / "results"
    folder, place = results / scale, results / "published" / scale
    path = root / "config" / f"{scale}.yaml"
    if not path.is_file():
        raise ValueError(f"no scale {scale!r}: there is no {path}")
    config = read_yaml(path, "restore it from the repository")
    runs = read_runs(metrics_below(folder))
    absent = [
        name for name in expected(root, config["experiments"]) if not (folder / name).is_file()
    ] + absent_runs(config, runs)
    command = f"snakemake --cores all --configfile config/{scale}.yaml"
    if absent and not partial:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise ValueError(
            f"{folder} lacks {', '.join(absent[:3])}{more}; run `{command}`, or pass --partial"
        )
    if not any(sources(folder)):
        raise ValueError(f"{folder} holds no results; run `{command}` first")
    refuse_stale(folder, command)

    # Build the whole copy in a scratch folder, so that a fault leaves the published one untouched.
    recover(place)
    with scratch(place) as temporary:
        built = temporary / scale
        copies = [copy(p, built / p.relative_to(folder)) for p in sources(folder)]
        files = {str(path.relative_to(built)): line for path, line in copies}
        # The manifest says how the copy was made, so that each file can be traced to its run.
        manifest = {
            "scale": scale,
            "partial": bool(absent),
            "absent": absent,
            "command": command,
            "commit": commit(root),
            "commits_of_runs": sorted({str(info.get("commit")) for info in runs.infos}),
            "config": config,
            "machines": distinct([info.get("machine") for info in runs.infos]),
            "versions": distinct([info.get("versions") for info in runs.infos]),
            "seconds": seconds(runs),
            "files": files,
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (built / "manifest.json").write_text(text, encoding="utf-8")
        # The limit holds for all scales together; the old folder of this one is replaced.
        others = [f for f in place.parent.glob("[!.]*") if f.is_dir() and f != place]
        refuse_large(built, sum(map(size, others)))
        replace(built, place, temporary / "old")
    return place


def refuse_stale(folder: Path, command: str) -> None:
    """Raise ValueError if the ledger is older than a run that it judges."""
    ledger = folder / "claims.csv"
    # Compare times of modification, as Snakemake does.
    newest = max(
        folder.glob("runs/*/*/*/metrics.csv"), key=lambda p: p.stat().st_mtime, default=None
    )
    if newest and ledger.is_file() and ledger.stat().st_mtime < newest.stat().st_mtime:
        raise ValueError(f"{ledger} is older than {newest}; run `{command}` again")


def refuse_large(built: Path, others: int) -> None:
    """Raise ValueError, naming the largest file, if the published results exceed the limit."""
    sizes = {p: p.stat().st_size for p in built.rglob("*") if p.is_file()}
    if sum(sizes.values()) + others > MOST_BYTES:
        largest = max(sizes, key=lambda p: sizes[p])
        total = (sum(sizes.values()) + others) / 1e6
        raise ValueError(
            f"published results would take {total:.1f} MB of {MOST_BYTES / 1e6:.0f}; "
            f"the largest new file is "
            f"{largest.relative_to(built)} ({sizes[largest] / 1e6:.1f} MB)"
        )


def recover(place: Path) -> None:
    """Restore the old folder if an earlier process was killed between the two renames."""
    for old in place.parent.glob(f".{place.name}.*{ENDING}/old"):
        if not place.exists():
            old.rename(place)


def replace(built: Path, place: Path, old: Path) -> None:
    """Replace the old folder by the new one with two renames, so that no copy is partial."""
    if place.exists():
        place.rename(old)
    # If the second rename fails, undo the first.
    try:
        built.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise


def distinct(values: list[Any]) -> list[Any]:
    """Each value once, in order."""
    return [value for index, value in enumerate(values) if value and value not in values[:index]]


def size(folder: Path) -> int:
    """Total bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def seconds(runs: Runs) -> dict[str, float]:
    """Seconds of training per experiment, summed over methods and seeds."""
    total = defaultdict[str, float](float)
    for info in runs.infos:
        total[info["experiment"]] += sum(info.get("seconds", {}).values())
    return {experiment: round(value, 1) for experiment, value in total.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a fault is reported in one line with exit status 2."""
    parser = command.Parser(prog="python -m publishing.publish", description=__doc__)
    parser.add_argument("scale", help="quick, laptop or paper")
    what = "publish what there is; the manifest lists what is absent"
    parser.add_argument("--partial", action="store_true", help=what)
    parser.add_argument(
        "--results", type=Path, help="folder of the results (default: results/ of the checkout)"
    )
    args = parser.parse_args(arguments)
    try:
        place = publish(args.scale, results=args.results, partial=args.partial)
    except (ValueError, OSError) as error:
        command.tell(f"error: {command.told(error)}")
        return 2
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    size = sum(line["bytes"] for line in manifest["files"].values()) / 1e6
    without = f", without {len(manifest['absent'])} outputs" if manifest["partial"] else ""
    print(f"published {len(manifest['files'])} files, {size:.1f} MB, in {place}{without}")
    return 0


if __name__ == "__main__":
    command.leave(main)
