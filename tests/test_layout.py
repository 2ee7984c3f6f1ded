"""The house rules that no tool checks: imports point one way, pins agree, configs are complete."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from experiments.config import RUNS, check, declared, trains
from experiments.run import load_task
from multitask.runs.errors import UserError
from multitask.runs.sources import method_names
from system.settings import defaults, notes

ROOT = Path(__file__).resolve().parents[1]
SCALES = ["config/quick.yaml", "config/laptop.yaml", "config/paper.yaml", "tests/tiny.yaml"]
HOUSE = {
    "system",
    "publishing",
    "pcgrad",
    "multitask",
    "reporting",
    "experiments",
    "proofs",
    "notebooks",
    "benchmarks",
    "tests",
}
# What each part may import of the others.
ALLOWED = {
    "src/system": set(),
    "src/pcgrad": set(),
    "src/multitask": {"pcgrad", "system"},
    "src/reporting": {"system"},
    "src/publishing": {"reporting", "system"},
    "experiments": {"pcgrad", "multitask", "reporting", "system"},
    "proofs": {"pcgrad", "system"},
}


def imported(path):
    """Top-level names of the modules that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_one_way(part):
    files = list((ROOT / part).rglob("*.py"))
    assert files
    for path in files:
        foreign = imported(path) & HOUSE - {Path(part).name} - ALLOWED[part]
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_reporting_and_plots_import_no_torch():
    scripts = [
        path
        for path in (ROOT / "experiments").rglob("*.py")
        if re.match(r"(figure|table)_|claims", path.name)
    ]
    files = [*(ROOT / "src/reporting").rglob("*.py"), *scripts]
    assert len(files) > 5
    for path in files:
        assert not imported(path) & {"torch", "pcgrad", "multitask"}, path.relative_to(ROOT)


def test_training_never_imports_a_plot():
    for path in (ROOT / "experiments").rglob("task.py"):
        assert not imported(path) & {"reporting", "matplotlib", "pandas"}, path.relative_to(ROOT)


def pins(lines):
    """{package: version}; extras in brackets say what comes with a package, not which."""
    return dict(
        re.sub(r"\[.*\]", "", line).strip(" -\n").split("==") for line in lines if "==" in line
    )


LOCKED = (
    "torch.txt",
    "locked.txt",
)  # what `make` and conda install; extras have files of their own


def locked(*names):
    """{package: version} of lock files."""
    found = {}
    for name in names:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        found |= dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;]+)", text, flags=re.MULTILINE))
    return {normal(name): version for name, version in found.items()}


def normal(name):
    return re.sub("[-_.]+", "-", name).lower()


def test_what_is_installed_has_the_pins_of_constraints():
    """A pin changed without `make lock` would change nothing."""
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    installed = locked(*LOCKED, "docs.txt", "slurm.txt", "bench.txt")
    for name, version in constraints.items():
        assert installed.get(normal(name)) == version, name
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert all(f"- -r requirements/{name}\n" in conda for name in LOCKED)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_every_pin_has_a_hash(path):
    text = re.sub(r"\\\n\s+", " ", path.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[A-Za-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line[:80]


def test_the_workflow_of_code_hosts_runs_what_there_is():
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "make test PYTHON=python" in commands
    assert re.search("^test: ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    oldest = re.search(r"torch>=([\d.]+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    assert f"torch=={oldest}.*" in jobs["core"]["strategy"]["matrix"]["torch"]
    uses = re.findall(r"uses: (\S+)", text)
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one) for one in uses), "a tag can be moved"


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    direct = {
        re.split(r"[<>=\[ ]", one)[0].lower()
        for one in project["dependencies"] + extras["reproduce"] + extras["test"]
    }
    pinned = {name.lower() for name in pins((ROOT / "constraints.txt").read_text().splitlines())}
    assert direct <= pinned, f"constraints.txt lacks {direct - pinned}"
    assert {normal(name) for name in direct} <= locked(*LOCKED).keys()


@pytest.mark.parametrize("path", SCALES)
def test_each_scale_is_sound_and_says_only_what_differs_from_the_paper(path):
    config = yaml.safe_load((ROOT / path).read_text())
    check(config)
    assert config["scale"] == Path(path).stem
    for name, block in config["experiments"].items():
        papers = defaults(declared()[name])
        same = {key for key in block if key not in RUNS and block[key] == papers[key]}
        assert not same, f"{path}, {name}: {same} repeat the paper's values"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scael": "quick"}, "scael"),
        ({"torch_threads": 0}, "torch_threads"),
        ({"device": "gpu"}, "device"),
        ({"theory": {}}, "theory"),
        ({"scale": "../elsewhere"}, "scale"),
    ],
)
def test_a_wrong_config_is_named_in_one_line(change, named):
    config = {**yaml.safe_load((ROOT / "config/quick.yaml").read_text()), **change}
    with pytest.raises(UserError, match=named) as caught:
        check(config)
    assert "\n" not in str(caught.value)


def test_a_typo_is_named_before_the_key_that_it_leaves_missing():
    config = yaml.safe_load((ROOT / "config/quick.yaml").read_text())
    block = config["experiments"]["multimnist"]
    block["epoch"] = block.pop("epochs")
    with pytest.raises(UserError, match="no key 'epoch'; did you mean 'epochs'"):
        check(config)


def test_every_setting_has_a_default_a_meaning_and_a_source_or_none():
    for name, block in declared().items():
        assert set(defaults(block)) == set(notes(block))
        assert all(note["text"] for note in notes(block).values()), name


def test_method_names_are_those_of_the_tasks():
    """The check of configs reads them from the source, without torch."""
    for name in filter(trains, declared()):
        assert method_names(name) == tuple(load_task(name).METHODS), name


def test_no_file_names_a_place_on_one_machine():
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    # Written in two pieces, so that this file does not name them itself.
    places = re.compile("(?:^|[\\s\"'=:(])/(?:" + "work|home|root|Users" + ")/")
    for name in listing.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".png", ".pdf", ".npz", ".gz", ".html"} or not path.is_file():
            continue
        found = places.search(path.read_text(encoding="utf-8", errors="replace"))
        assert not found, f"{name} names {found[0]!r}"


def rows_of(text, heading):
    """The cells of the Markdown table under a heading line."""
    lines = text.partition(heading)[2].splitlines()[1:]
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_contributing_sends_to_files_and_names_that_are_there():
    """Bug: a file is moved or a name changed, and CONTRIBUTING sends a stranger to nothing."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tasks = list(rows_of(text, "| you want to | file | name there |\n"))
    walks = list(rows_of(text, "| to follow | read |\n"))
    assert len(tasks) >= 12
    assert len(walks) == 4
    for task, files, names in tasks:
        code = ""
        for path in re.findall(r"`([^`]+)`", files):
            assert (ROOT / path).is_file(), (task, path)
            code += (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`([^`]+)`", names):
            # A definition, an import or a field, not a word of a comment.
            assert re.search(rf"^(?!\s*#).*\b{name}\b\s*[:=(,]", code, re.MULTILINE), (task, name)
    for thing, files in walks:
        for path in re.findall(r"`(\w[^`]+\.\w+)`", files):
            assert (ROOT / path).is_file(), (thing, path)


# Files written here are read by nobody before they are complete: folders that are renamed when
# they are whole, and temporary folders. {file: number of such calls}.
WHOLE_ELSEWHERE = {
    "src/publishing/manifest.py": 2,
    "src/publishing/publish.py": 1,
    "src/publishing/site.py": 9,
    "src/publishing/article.py": 3,
    "src/multitask/data/generated/labeled.py": 3,
    "src/multitask/data/generated/layout.py": 1,
    "experiments/campaign.py": 1,
    "experiments/moves.py": 1,
    "proofs/document.py": 3,
}
WRITES = ("write_text", "write_bytes", "copyfile", "copytree", "to_csv", "savefig")
ARRAYS = ("save", "savez", "savez_compressed")  # of numpy


def sources():
    folders = ("src", "experiments", "proofs", "benchmarks")
    return sorted(path for one in folders for path in (ROOT / one).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_are_written_whole_and_commands_end_in_one_line(path):
    """Every writer goes through `system.writing`, every command through `system.command`."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    direct = []
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        name = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
        # `writing.write_text(path, text)` is the sound form; `path.write_text(text)` is not.
        writes = WRITES if name not in MODULES else ARRAYS if name == "np" else ()
        if call.func.attr in writes and writes_a_path(call):
            direct.append(call.lineno)
    allowed = WHOLE_ELSEWHERE.get(path.relative_to(ROOT).as_posix(), 0)
    assert len(direct) == allowed, f"{path}:{direct} write in place; use system.writing"
    if '__name__ == "__main__"' in text:
        assert re.search(r"command\.(leave|script)\(", text), f"{path} ends with a traceback"


MODULES = {"render", "writing", "report", "np"}


def writes_a_path(call):
    """Whether the call may open a file of a name: it is given one, or is a method of a path."""
    method = call.func.attr
    if method in ("write_text", "write_bytes", "copyfile", "copytree"):
        return True
    # `to_csv()` returns a text; an open file is named `file` everywhere, a buffer `drawn`.
    first = call.args[0] if call.args else None
    opened = isinstance(first, ast.Name) and first.id in ("file", "drawn")
    return first is not None and not opened
