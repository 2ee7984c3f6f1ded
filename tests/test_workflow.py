"""Snakemake on a copy of the tree: what a run makes, what an edit re-runs, how it resumes."""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from proofs.check import STATEMENTS
from system import settings

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = (
    ".git",
    ".venv",
    ".snakemake",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
)
TINY = ("--configfile", "tests/tiny.yaml")
# Rows, those with tuned values too.
METHODS = {
    name: len(block["methods"]) + len(block.get("tuning", {}).get("methods", ()))
    for name, block in yaml.safe_load((ROOT / TINY[1]).read_text())["experiments"].items()
    if "methods" in block
}
FIGURES = (*range(1, 11), "tasks", "conflicts")
TABLES = (*range(1, 9), "theory", "reach", "mt3", "mt10", "mt50")
TRIAD = "results/tiny/runs/triad/sac_pcgrad/seeds0-0/metrics.csv"
DIGITS = "results/tiny/runs/multimnist/pcgrad/seeds0-0/metrics.csv"


def environment(**more):
    """Put the tests' own interpreter first on the path, without what the Snakefile sets."""
    kept = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PCGRAD_DATA")
    }
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **more,
    }


def snakemake(tree, *arguments, **more):
    """Run Snakemake in `tree` and return (exit status, all it printed)."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(
        command,
        cwd=tree,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def planned(tree, *arguments):
    """Number of jobs per rule that a dry run would start."""
    status, output = snakemake(tree, "--dry-run", *arguments)
    assert status == 0, output[-3000:]
    jobs = {
        rule: int(count)
        for rule, count in re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE)
    }
    assert jobs or "Nothing to be done" in output, output[-3000:]
    return {rule: count for rule, count in jobs.items() if rule not in ("total", "all")}


@contextlib.contextmanager
def edited(path, edit):
    """The file with another content for a while."""
    before, times = path.read_text(encoding="utf-8"), path.stat()
    after = edit(before)
    assert after != before
    path.write_text(after, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")
        os.utime(
            path, ns=(times.st_atime_ns, times.st_mtime_ns)
        )  # Snakemake looks at a script's time


def left_out(folder, names):
    """What a copy of the tree does without: by name anywhere, data and results at the top alone."""
    everywhere = shutil.ignore_patterns(*NOT_COPIED)(folder, names)
    return everywhere | ({"data", "results"} if Path(folder) == ROOT else set())


def copy_tree(folder):
    return Path(shutil.copytree(ROOT, folder / "tree", ignore=left_out))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A copy of the tree in which nothing has run."""
    return copy_tree(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A copy of the tree after the whole tiny scale on two cores."""
    tree = copy_tree(tmp_path_factory.mktemp("done"))
    status, output = snakemake(tree, "--cores", "2", *TINY)
    assert status == 0, output[-6000:]
    return tree


def measured(path):
    """The rows of a run without those that hold a time."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "seconds" not in row["metric"]]
    assert rows
    return rows


def test_lint_finds_nothing(fresh):
    status, output = snakemake(fresh, "--lint")
    assert status == 0, output


@pytest.mark.parametrize("scale", ["quick", "laptop", "paper"])
def test_dry_run_of_a_scale_trains_what_its_config_lists(fresh, scale):
    """Quick needs no word; the profiles of the others name their config."""
    config = yaml.safe_load((ROOT / f"config/{scale}.yaml").read_text())
    jobs = planned(
        fresh, *(() if scale == "quick" else ("--workflow-profile", f"profiles/{scale}"))
    )
    blocks = [block for block in config["experiments"].values() if "methods" in block]
    per_job = config["seeds_per_job"]
    asked = [settings.rows(block) for block in blocks]
    assert jobs["train"] == sum(
        -(-len(seeds) // per_job) for found in asked for seeds in found.values()
    )
    assert jobs["data"] == sum(map(bool, asked))
    assert (
        jobs.get("tune", 0)
        == jobs.get("choose", 0)
        == sum(len(b.get("tuning", {}).get("methods", ())) for b in blocks)
    )
    assert {f"table_{n}" for n in range(1, 9)} | {f"figure_{n}" for n in FIGURES} <= jobs.keys()
    assert {"landscape", "proof", "notebook", "claims"} <= jobs.keys()


@pytest.mark.parametrize("profile", sorted(path.name for path in (ROOT / "profiles").iterdir()))
def test_every_profile_entry_is_an_option_and_has_a_comment(profile):
    from snakemake.cli import get_argument_parser

    options = {text for action in get_argument_parser()._actions for text in action.option_strings}
    lines = (ROOT / "profiles" / profile / "profile.yaml").read_text().splitlines()
    entries = [number for number, line in enumerate(lines) if re.match(r"[a-z-]+:", line)]
    assert entries
    for number in entries:
        assert "--" + lines[number].partition(":")[0] in options, lines[number]
        assert lines[number - 1].startswith("# "), f"{profile}: {lines[number]} has no comment"


def test_an_unknown_key_dies_with_its_name(fresh, tmp_path):
    path = tmp_path / "typo.yaml"
    path.write_text(
        (ROOT / "config/quick.yaml")
        .read_text()
        .replace("    methods: [sac, sac_pcgrad]\n", "    methods: [sac]\n    colections: 3\n", 1)
    )
    status, output = snakemake(fresh, "--dry-run", "--configfile", str(path))
    assert status != 0
    assert "error: config, experiments.triad" in output
    assert "no key 'colections'; did you mean 'collections'" in output
    assert "Traceback" not in output


def test_a_method_that_does_not_exist_dies_with_its_name(fresh, tmp_path):
    path = tmp_path / "method.yaml"
    path.write_text(
        (ROOT / "config/quick.yaml").read_text().replace("[sac, sac_pcgrad]", "[sac, sac_pcgard]")
    )
    status, output = snakemake(fresh, "--dry-run", "--configfile", str(path))
    assert status != 0
    assert "'sac_pcgard' is not one of" in output


def test_the_whole_tiny_scale(done):
    results = done / "results/tiny"
    files = {
        *(f"figures/figure_{number}.{kind}" for number in FIGURES for kind in ("png", "pdf")),
        *(f"tables/table_{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex")),
        *(f"proofs/{statement}.json" for statement in STATEMENTS),
        "proofs/THEOREMS.pdf",
        *(
            f"notebooks/{path.stem}.{kind}"
            for path in (ROOT / "notebooks").glob("*.ipynb")
            for kind in ("html", "ipynb")
        ),
        "claims.csv",
        "front.rst",
        "article.pdf",
        "article.json",
        *(f"figures/{name}.png" for name in ("scoreboard", "paper_against_ours")),
    }
    assert not [
        name
        for name in files
        if not (results / name).is_file() or not (results / name).stat().st_size
    ]
    for experiment, methods in METHODS.items():
        runs = list((results / "runs" / experiment).glob("*/seeds0-0/metrics.csv"))
        assert len(runs) == methods
        assert all(path.with_name("run.json").is_file() for path in runs)
    assert not list((results / "checkpoints").rglob("*.pt"))
    assert all(
        path.read_text(encoding="utf-8").isascii() for path in results.glob("tables/*.tex")
    )  # pdflatex reads it
    assert len(list((results / "benchmarks").rglob("*.tsv"))) <= 110


def test_the_report_carries_figures_tables_and_notebooks(done):
    status, output = snakemake(done, *TINY, "--report", "results/tiny/report.html")
    assert status == 0, output[-3000:]
    page = (done / "results/tiny/report.html").read_text(encoding="utf-8")
    for name in (
        "figure_1.html",
        "figure_5.html",
        "table_4.html",
        "table_8.html",
        "theorem1.html",
        "claims.html",
        "scoreboard.html",
        "article.pdf",
        "The headline numbers",  # the front page
    ):
        assert name in page, name


def test_render_shows_the_runs_that_are_there_and_trains_none(done, tmp_path):
    tree = Path(shutil.copytree(done, tmp_path / "tree"))
    shutil.rmtree(tree / "results/tiny/runs/triad")
    render = (*TINY, "--config", "render=1", "--rerun-triggers", "mtime")
    jobs = planned(tree, *render)
    assert not {job for job in jobs if job.startswith(("train", "tune", "data", "choose"))}, jobs
    status, output = snakemake(tree, *render, "--cores", "1", "-R", "claims", "--", "claims")
    assert status == 0, output[-3000:]
    text = (tree / "results/tiny/claims.csv").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("figure-4-return,"))
    assert "not tested" in row
    # Bug: a run that had lost its metrics was left out, and tables averaged fewer seeds.
    lost = next(tree.glob("results/tiny/runs/multimnist/*/*/metrics.csv"))
    lost.unlink()
    status, output = snakemake(tree, *render, "-n", "-R", "table_4")
    assert status != 0
    assert str(lost.relative_to(tree)) in output


def test_an_edit_of_the_core_retrains_everything(done):
    with edited(
        done / "src/pcgrad/_measures.py",
        lambda text: text.replace("    return ", "    return 1 * ", 1),
    ):
        jobs = planned(done, *TINY)
    assert jobs["train"] == sum(METHODS.values())
    assert jobs["landscape"] == 1
    assert jobs["proof"] == len(STATEMENTS)
    assert {"figure_1", "figure_4", "table_4", "claims", "notebook"} <= jobs.keys()


def test_what_changes_no_number_runs_nothing_again(done):
    """A second run, a comment in the core, and data that were only found again.

    One dry run sees all, because a dry run takes seconds and each of them must plan nothing.
    """
    os.utime(done / "results/tiny/data/multimnist.json")
    with (
        edited(done / "src/pcgrad/_surgery.py", lambda text: text + "\n# A remark.\n"),
        edited(done / "experiments/data.py", lambda text: text + "\nCHANGED = True\n"),
    ):
        assert planned(done, *TINY) == {}


def test_an_edit_of_a_plot_redraws_only_that_plot(done):
    """Bug: a figure's edit trains, or a picture of the notebooks checks a theorem again."""
    changed = "\nCHANGED = True\n"
    with (
        edited(done / "experiments/triad/figure_4.py", lambda text: text + changed),
        edited(done / "proofs/pictures/common.py", lambda text: text + changed),
    ):
        assert planned(done, *TINY) == {"figure_4": 1, "article": 1, "notebook": 3, "theorems": 1}


def test_an_edit_of_one_experiment_leaves_the_other_alone(done):
    wrapped = "\n_plain = train\n\n\ndef train(*given):\n    return _plain(*given)\n"
    with edited(done / "experiments/triad/task.py", lambda text: text + wrapped):
        jobs = planned(done, *TINY)
    assert jobs["train"] == METHODS["triad"]
    assert {"figure_4", "claims"} <= jobs.keys()
    assert not {"table_4", "landscape", "figure_1", "proof"} & jobs.keys()


def test_a_wider_grid_trains_the_tuned_rows_only(done):
    with edited(
        done / "tests/tiny.yaml", lambda text: text.replace("[0.02, 0.05]", "[0.02, 0.05, 0.1]")
    ):
        jobs = planned(done, *TINY)
    assert (jobs["tune"], jobs["choose"], jobs["train"]) == (1, 1, 1)
    assert "data" not in jobs


def test_an_edit_of_one_setting_retrains_its_experiment(done):
    with edited(
        done / "tests/tiny.yaml",
        lambda text: text.replace("    data: digits", "    dropout: 0.4\n    data: digits", 1),
    ):
        jobs = planned(done, *TINY)
    assert jobs["train"] == METHODS["multimnist"]
    assert {"table_4", "claims"} <= jobs.keys()
    assert not {"figure_4", "landscape", "proof"} & jobs.keys()


def test_a_further_seed_trains_that_seed_only(done):
    with edited(
        done / "tests/tiny.yaml", lambda text: text.replace("seeds: [0]", "seeds: [0, 3]", 1)
    ):
        assert planned(done, *TINY)["train"] == METHODS["multimnist"]


@pytest.fixture(scope="module")
def unbroken(fresh):
    """{run: its rows} of two runs on one core that nothing has stopped."""
    status, output = snakemake(fresh, "--cores", "1", *TINY, "--", TRIAD, DIGITS)
    assert status == 0, output[-3000:]
    return {name: measured(fresh / name) for name in (TRIAD, DIGITS)}


def test_one_core_gives_the_numbers_of_two(done, unbroken):
    for name, rows in unbroken.items():
        assert rows == measured(done / name)


@pytest.mark.parametrize("name", [TRIAD, DIGITS])
def test_a_killed_run_ends_with_the_numbers_of_an_unbroken_one(unbroken, fresh, name):
    """kill -9 once a checkpoint is on disk; Snakemake then finishes the job from it."""
    experiment, method = Path(name).parts[3:5]
    out, checkpoint = (
        Path(name).parent,
        fresh / f"results/tiny/checkpoints/{experiment}/{method}/seed0.pt",
    )
    shutil.rmtree(fresh / out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "experiments.run",
        experiment,
        method,
        "--seeds",
        "0-0",
        "--config",
    ]
    command += ["tests/tiny.yaml", "--out", str(out), "--checkpoint-seconds", "0"]
    paths = f"{fresh / 'src'}{os.pathsep}{fresh}"
    run = subprocess.Popen(
        command, cwd=fresh, env=environment(PYTHONPATH=paths), start_new_session=True
    )
    until = time.monotonic() + 90
    while not checkpoint.is_file() and run.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    assert run.poll() is None, "the run ended before it could be killed"
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert checkpoint.is_file()
    assert not (fresh / name).exists()
    status, output = snakemake(fresh, "--cores", "1", *TINY, "--", name)
    assert status == 0, output[-3000:]
    assert measured(fresh / name) == unbroken[name]
    assert not checkpoint.exists()


def real_format(folder):
    """A folder in MNIST's layout whose first file is cut off in the middle."""
    import gzip

    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (60_000, 28, 28))
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(1000)))
    return folder


@pytest.mark.parametrize(
    ("method", "data", "said"),
    [
        ("pcgrad", "none", "is no folder; correct it"),
        ("pcgrad", "cut", "train-images-idx3-ubyte.gz is truncated"),
        ("pcgard", "embedded", "unknown method 'pcgard'"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(fresh, tmp_path, method, data, said):
    folder = real_format(tmp_path / "cut") if data == "cut" else tmp_path / data
    if data == "embedded":
        folder.mkdir()
    target = f"results/tiny/runs/multimnist/{method}/seeds7-7/metrics.csv"
    override = (
        f'experiments={{"multimnist": {{"data": "{"digits" if data == "embedded" else "mnist"}"}}}}'
    )
    status, output = snakemake(
        fresh, "--cores", "1", *TINY, "--config", override, "--", target, PCGRAD_DATA=str(folder)
    )
    assert status != 0
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert lines
    assert said in lines[-1]
    assert "Traceback" not in output
    left = fresh / Path(target).parent
    assert not left.exists() or not list(left.iterdir())
