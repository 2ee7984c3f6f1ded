"""Copy the results of one scale to `results/published/<scale>/`, the only results that git keeps,
with a manifest.

    python -m publishing.publish laptop             # refuses while an output is missing
    python -m publishing.publish laptop --partial   # publishes what there is; the manifest lists
    what is absent

Snakemake's report is not copied: it repeats the figures, tables and notebooks. The copy is built
beside its place and then renamed. `manifest.json` holds per file its sha256, and command, commit,
config, machines and seconds. Metrics are thinned to 2,000 rows per run (one method, one seed).
"""

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from publishing.manifest import commit, copy
from reporting.ledger.claims import read_ledger
from reporting.runs import Runs, read_runs
from system.reading import read_yaml
from system.writing import ENDING, scratch

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 30_000_000  # of everything below results/published
PATTERNS = (
    *(
        "figures/*.png",
        "figures/*.pdf",
        "tables/*.csv",
        "tables/*.md",
        "tables/*.tex",
        "tables/narrow/*.tex",
        "tables/*.html",
    ),
    *(
        "notebooks/*.html",
        "notebooks/*.ipynb",
        "article.pdf",
        "article.json",
        "proofs/*.json",
        "proofs/THEOREMS.pdf",
        "proofs/theorems_*.png",
        "claims.csv",
        "claims.md",
        "landscape/*.json",
        "landscape/*.npz",
    ),
    *("gallery/*.json", "metaworld/*.json"),
    *("data/*.json", "tuning/*/*/chosen.json", "runs/*/*/*/metrics.csv", "runs/*/*/*/run.json"),
    *("runtimes.csv", "runtimes.md"),
)
# A script that draws more than one table.
SEVERAL = {"table_metaworld": ("table_reach", "table_mt3", "table_mt10", "table_mt50")}


def expected(root: Path, experiments: Collection[str]) -> list[str]:
    """What a complete scale holds: an output of each figure and table script, notebook and proof
    there is, without those of experiments that train and are not among the scale's `experiments`.
    """

    def shown(script: Path) -> bool:
        return script.parent.name in experiments or not script.with_name("task.py").is_file()

    names = [
        f"figures/{s.stem}.{kind}"
        for s in filter(shown, root.glob("experiments/*/figure_*.py"))
        for kind in ("png", "pdf")
    ]
    tables = [
        t
        for s in filter(shown, root.glob("experiments/*/table_*.py"))
        for t in SEVERAL.get(s.stem, (s.stem,))
    ]
    names += [f"tables/{table}.{kind}" for table in tables for kind in ("csv", "md", "tex")]
    names += [
        f"notebooks/{notebook.stem}.{kind}"
        for notebook in root.glob("notebooks/*.ipynb")
        for kind in ("html", "ipynb")
    ]
    tests = [claim["test"] for claim in read_ledger(root / "experiments" / "claims.yaml")]
    names += [
        f"proofs/{statement}.json"
        for statement in {t["statement"] for t in tests if t["kind"] == "proof"}
    ]
    return sorted([*names, "claims.csv", "claims.md"])


def absent_runs(config: dict[str, Any], runs: Runs) -> list[str]:
    """Runs that the config asks for and that are not there or not at their end:
    "runs/experiment/method/seed".
    """
    found = {
        (info["experiment"], info["method"], seed)
        for info in runs.infos
        for seed in info["seeds"]
        if str(seed) not in info.get("unfinished", {})
    }
    wanted = {
        (experiment, method, seed)
        for experiment, block in config["experiments"].items()
        for method in (
            *block.get("methods", ()),
            *(f"{m}_tuned" for m in block.get("tuning", {}).get("methods", ())),
        )
        for seed in block.get("seeds", ())
    }
    return [
        f"runs/{experiment}/{method}/seed {seed}"
        for experiment, method, seed in sorted(wanted - found)
    ]


def sources(folder: Path) -> Iterator[Path]:
    """The files of a scale that are published."""
    for pattern in PATTERNS:
        for path in sorted(folder.glob(pattern)):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            alone = path.name == "run.json" and not path.with_name("metrics.csv").is_file()
            if not hidden and not alone:
                yield path


def publish(
    scale: str, *, root: Path = ROOT, results: Path | None = None, partial: bool = False
) -> Path:
    """Publish one scale, return its new folder; ValueError (one line) if something is missing,
    stale or too large.
    """
    results = results or root / "results"
    folder, place = results / scale, results / "published" / scale
    path = root / "config" / f"{scale}.yaml"
    if not path.is_file():
        raise ValueError(f"no scale {scale!r}: there is no {path}")
    config = read_yaml(path, "restore it from the repository")
    runs = read_runs(folder.glob("runs/*/*/*/metrics.csv"))
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

    recover(place)
    with scratch(place) as temporary:
        built = temporary / scale
        files = {
            str(p.relative_to(folder)): copy(p, built / p.relative_to(folder))
            for p in sources(folder)
        }
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
        (built / "manifest.json").write_text(
            json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        others = [
            f
            for f in place.parent.iterdir()
            if f.is_dir() and f != place and not f.name.startswith(".")
        ]
        refuse_large(built, sum(map(size, others)))
        replace(built, place, temporary / "old")
    return place


def refuse_stale(folder: Path, command: str) -> None:
    """ValueError if the ledger is older than a run that it judges."""
    ledger = folder / "claims.csv"
    newest = max(
        folder.glob("runs/*/*/*/metrics.csv"), key=lambda p: p.stat().st_mtime, default=None
    )
    if newest and ledger.is_file() and ledger.stat().st_mtime < newest.stat().st_mtime:
        raise ValueError(f"{ledger} is older than {newest}; run `{command}` again")


def refuse_large(built: Path, others: int) -> None:
    """ValueError that names the largest file if everything published would pass the limit."""
    sizes = {p: p.stat().st_size for p in built.rglob("*") if p.is_file()}
    if sum(sizes.values()) + others > MOST_BYTES:
        largest = max(sizes, key=lambda p: sizes[p])
        total = (sum(sizes.values()) + others) / 1e6
        raise ValueError(
            f"published results would take {total:.1f} MB of {MOST_BYTES / 1e6:.0f}; the largest "
            "new file is "
            f"{largest.relative_to(built)} ({sizes[largest] / 1e6:.1f} MB)"
        )


def recover(place: Path) -> None:
    """Put back what a process moved away that was killed before the new folder was in its place."""
    for old in place.parent.glob(f".{place.name}.*{ENDING}/old"):
        if not place.exists():
            old.rename(place)


def replace(built: Path, place: Path, old: Path) -> None:
    """Put the new folder in the place of the old one; two renames, nothing half copied."""
    if place.exists():
        place.rename(old)
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
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def seconds(runs: Runs) -> dict[str, float]:
    """Seconds of training per experiment, summed over methods and seeds."""
    total: dict[str, float] = {}
    for info in runs.infos:
        total[info["experiment"]] = total.get(info["experiment"], 0.0) + sum(
            info.get("seconds", {}).values()
        )
    return {experiment: round(value, 1) for experiment, value in total.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a refusal is one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m publishing.publish", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("scale", help="quick, laptop or paper")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="publish what there is; the manifest lists what is absent",
    )
    parser.add_argument(
        "--results", type=Path, help="folder of the results (default: results/ of the checkout)"
    )
    args = parser.parse_args(arguments)
    try:
        place = publish(args.scale, results=args.results, partial=args.partial)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    size = sum(line["bytes"] for line in manifest["files"].values()) / 1e6
    without = f", without {len(manifest['absent'])} outputs" if manifest["partial"] else ""
    print(f"published {len(manifest['files'])} files, {size:.1f} MB, in {place}{without}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
