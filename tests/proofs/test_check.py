import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from proofs import check, sampling
from proofs.momentum import three_cycle
from proofs.pictures import common, overview, theorem1, theorem2
from proofs.tally import BrokenError, Tally, Trial, total

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    **{"seed": 0, "instances": 30, "trajectories": 5, "updates": 100},
    **{"search_rounds": 2, "high_dimensions": [100]},
}
CONFIG = json.dumps({"scale": "tiny", "theory": SETTINGS})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with every statement."""
    path = tmp_path_factory.mktemp("results")
    for statement in check.STATEMENTS:
        drawn: list[str] = []  # names of the random streams

        def checksum(name: bytes, drawn: list[str] = drawn) -> int:
            drawn.append(f"{SETTINGS['seed']}/{name.decode()}")
            return zlib.crc32(name)

        out = path / "proofs" / f"{statement}.json"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling, "crc32", checksum)
            assert check.main([statement, "--config", CONFIG, "--out", str(out)]) == 0
        (path / f"{statement}_drawn.json").write_text(json.dumps(drawn))
    return path


def streams(report: Any) -> Iterator[str]:
    """The streams that a report names for its instances."""
    if isinstance(report, dict):
        if report.get("stream"):
            yield report["stream"]
        report = list(report.values())
    if isinstance(report, list):
        for value in report:
            yield from streams(value)


def test_instances_come_from_the_streams_that_the_reports_name(folder: Path) -> None:
    named = 0
    for statement in check.STATEMENTS:
        report = json.loads((folder / "proofs" / f"{statement}.json").read_text())
        found = set(streams(report))
        assert found <= set(json.loads((folder / f"{statement}_drawn.json").read_text())), statement
        named += len(found)
    assert named > 20


VERDICTS = {
    "holds": """identities figure2 theorem1_descent theorem1_sharp proposition1_descent theorem2_a
        theorem2_range attraction no_conflict_two fixed_points random_orders""",
    "holds in this reading": """theorem1_value theorem1_bounded proposition1_angle corollary1_step
        corollary1_limit theorem2_c theorem2_pointwise theorem2_remainder theorem3_bound
        theorem3_if_remainder theorem3_isotropic theorem4_gradient theorem4_commuting
        noise_escape""",
    "false as stated": """theorem1 proposition1 corollary1_descent corollary1 theorem2 theorem3_if
        theorem3_only_if theorem4 anywhere noise_optimum descent_direction no_conflict_many
        stationary_points""",
    "misprint": "theorem4_step",
}


def test_reports_have_judgements_and_provenance(folder: Path) -> None:
    found: dict[str, set[str]] = {verdict: set() for verdict in VERDICTS}
    for statement in check.STATEMENTS:
        report = json.loads((folder / "proofs" / f"{statement}.json").read_text())
        assert report["settings"] == SETTINGS
        assert report["seconds"] > 0
        assert {"torch", "scipy", "sympy", "mpmath", "z3-solver"} <= report["versions"].keys()
        for row in report["judgements"]:
            verdict = row["verdict"]
            found[verdict].add(row["name"])
            assert row["decided_by"]
            refuted = verdict in ("false as stated", "misprint")
            assert refuted == (row["counterexample"] is not None)
            assert row["reading"] or verdict != "holds in this reading"
    assert found == {verdict: set(names.split()) for verdict, names in VERDICTS.items()}
    assert list((folder / "proofs").glob(".*")) == []


def test_the_notebooks_pictures_and_tables_are_made_of_the_reports(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCGRAD_RESULTS", str(folder))
    one, two, algebra = (common.results(name) for name in ("theorem1", "theorem2", "identities"))
    points = common.results("opposite_points")
    texts = [
        common.verdicts(two),
        common.instance(two, "theorem2"),
        common.formulas(algebra, ["b_implies_a"]),
        common.counts(one["descent"]["families"]),
        theorem1.ends_table(one),
        theorem1.gaps_table(one),
        theorem2.coverage_table(two),
        overview.kill_table(algebra),
        overview.conflicts_table(common.results("three_tasks")),
    ]
    assert "**false as stated**" in texts[0]
    assert "✓ (c)" in texts[1]
    assert r"\xi" in texts[2]
    assert "| walking |" in texts[4]
    assert not any("{" in text.replace("{PC}", "") for text in texts if "$$" not in text)
    for figure in (
        common.margins({"a": one["descent"]}, "x"),
        theorem1.two_ends(),
        theorem1.walk_to_infinity(one, 20),
        theorem1.attracting(points),
        theorem1.noise(points),
        theorem2.counterexample_picture(),
        theorem2.region(),
        theorem2.coverage(two),
        overview.two_cases(),
        overview.momentum(6),
        overview.three_tasks(),
        overview.region_with_runs(),  # no runs: the region alone
    ):
        assert len(figure.axes) in (1, 2, 3)
        common.plt.close(figure)


def test_missing_results_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PCGRAD_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="snakemake theory"):
        common.results("theorem1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("nowhere.yaml", "nowhere.yaml is missing"),
        ("{", "no JSON"),
        ('{"scale": "x"}', "scale and theory"),
        (
            json.dumps({"scale": "x", "theory": {**SETTINGS, "instances": 0}}),
            "theory.instances must be",
        ),
        (json.dumps({"scale": "x", "theory": {"seed": 1}}), "theory.instances must be"),
        (
            json.dumps({"scale": "x", "theory": {**SETTINGS, "high_dimensions": [50]}}),
            "high_dimensions must list some",
        ),
    ],
)
def test_bad_configs_die_in_one_line(
    config: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.json"
    assert check.main(["identities", "--config", config, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_broken_machinery_exits_1_and_publishes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(three_cycle, "second_route", lambda _: 1.0)
    out = tmp_path / "theorem4.json"
    assert check.main(["theorem4", "--config", CONFIG, "--out", str(out)]) == 1
    assert "the core leaves the three-cycle" in capsys.readouterr().err
    assert not out.exists()


def test_tally_counts() -> None:
    tally = Tally("x", "y", 0)
    margin = torch.tensor([1.0, -1.0, 1e-9, 0.5, -5.0], dtype=torch.float64)
    accepted = torch.tensor([True, True, True, True, False])
    noise, unit = torch.full_like(margin, 1e-6), torch.full_like(margin, 2.0)
    tally.add(Trial(accepted, margin, margin, unit, noise, {"index_again": torch.arange(5)}))
    report = tally.report()
    found = (report.trials, report.accepted, report.skipped, report.undecided, report.violations)
    assert found == (5, 4, 1, 1, 1)
    assert report.smallest_margin == -0.5
    assert report.instance["index"] == report.instance["index_again"] == 1
    assert sum(report.histogram) == 2
    assert total({"a": report, "b": report}).violations == 2
    with pytest.raises(BrokenError, match="no y instance"):
        Tally("x", "y", 0).report()


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_notebooks_are_short_empty_and_import_only(name: str) -> None:
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert 0 < len(code) < len(cells) <= 16
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    text = "\n".join("".join(cell["source"]) for cell in code)
    assert "def " not in text
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imports == [
        "from IPython.display import Markdown, display",
        f"from proofs.pictures import common, {name}",
    ]
