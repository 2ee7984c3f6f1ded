import json
import re
from pathlib import Path

import pytest
import torch

from proofs import check, lipschitz
from proofs.pictures import common, overview, theorem1, theorem2
from proofs.tally import BrokenError, Tally, Trial, total, verdict

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    **{"seed": 0, "instances": 30, "trajectories": 5, "updates": 100},
    **{"lipschitz_instances": 2, "search_rounds": 2, "high_dimensions": [100]},
}
CONFIG = json.dumps({"scale": "tiny", "theory": SETTINGS})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with every statement."""
    path = tmp_path_factory.mktemp("results")
    for statement in check.STATEMENTS:
        assert (
            check.main(
                [statement, "--config", CONFIG, "--out", str(path / "proofs" / f"{statement}.json")]
            )
            == 0
        )
    return path


def test_reports_have_counts_verdicts_and_provenance(folder: Path) -> None:
    false, repaired = "false as stated", "holds after repair"
    expected = {
        "identities": {"identities": "holds", "b_implies_a": "holds"},
        "theorem1": {"theorem1_descent": "holds", "theorem1": false, "theorem1_repaired": repaired},
        "proposition1": {
            "proposition1_descent": "holds",
            "proposition1": false,
            "proposition1_repaired": repaired,
        },
        "corollary1": {
            **{"corollary1_descent": false, "corollary1": false, "corollary1_repaired": repaired},
            **{"corollary1_descent_repaired": repaired, "corollary1_descent_short": repaired},
        },
        "theorem2": {
            **{"theorem2": false, "theorem2_quadratic": "holds", "theorem2_pointwise": "holds"},
            **{"theorem2_repaired": repaired},
        },
        "theorem3": {
            **{"theorem3_bound": "holds", "theorem3_if": false, "theorem3_if_repaired": repaired},
            **{"theorem3_only_if": false, "theorem3_equal_eigenvalues": "holds"},
        },
        "theorem4": {
            **{"theorem4": false, "theorem4_corrected": false, "theorem4_quadratic": false},
            **{"theorem4_repaired": repaired, "theorem4_repaired_momentum": repaired},
        },
    }
    assert set(expected) == set(check.STATEMENTS)
    for statement, verdicts in expected.items():
        report = json.loads((folder / "proofs" / f"{statement}.json").read_text())
        assert report["verdicts"] == verdicts
        assert report["settings"] == SETTINGS
        assert report["seconds"] > 0
        assert {"torch", "scipy", "sympy", "mpmath"} <= report["versions"].keys()
        assert {row["name"]: row["verdict"] for row in report["overview"]} == verdicts
    assert list((folder / "proofs").glob(".*")) == []


def test_the_notebooks_pictures_and_tables_are_made_of_the_reports(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCGRAD_RESULTS", str(folder))
    one, two, algebra = (common.results(name) for name in ("theorem1", "theorem2", "identities"))
    assert "| 30 |" in theorem1.descent_table(one)
    assert "-2/3" in theorem2.counterexample_table(two)
    assert "false as stated" in common.verdicts(two, algebra)
    assert r"\xi" in common.identities_table(algebra, ["b_implies_a"])
    reports = [common.results(name) for name in overview.STATEMENTS]
    assert common.dropped_table(*reports).count("**fails**") > 20
    assert "idle" in common.dropped_table(two)
    assert all(
        text in common.routes_table(*reports) for text in ("792/1225", "5376/14641", "**mpmath:**")
    )
    assert len(overview.verdict_table(reports).splitlines()) == 2 + sum(
        len(report["overview"]) for report in reports
    )
    assert overview.search_table(reports).count("slsqp") > 10
    for figure in (
        *(
            common.margins({"a": two["printed"]}, "x"),
            theorem1.ends_and_steps(one),
            theorem1.walk_to_infinity(one, 20),
        ),
        *(theorem1.longer_steps(one), theorem2.counterexample_picture(), theorem2.dropped(two)),
        *(theorem2.conservative(two), overview.two_cases(), overview.momentum(6)),
        *(
            overview.three_tasks(common.results("corollary1")),
            overview.region_with_runs(),
        ),  # no runs: the region alone
    ):
        assert len(figure.axes) in (1, 2)
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
    monkeypatch.setattr(lipschitz, "_bound", lambda *_: 1.0)
    out = tmp_path / "theorem1.json"
    assert check.main(["theorem1", "--config", CONFIG, "--out", str(out)]) == 1
    assert "scipy differs" in capsys.readouterr().err
    assert not out.exists()


def test_tally_counts_and_a_verdict_follows() -> None:
    tally = Tally("x", "y", 0)
    margin = torch.tensor([1.0, -1.0, 1e-9, 0.5, -5.0], dtype=torch.float64)
    accepted = torch.tensor([True, True, True, True, False])
    noise, unit = torch.full_like(margin, 1e-6), torch.full_like(margin, 2.0)
    tally.add(Trial(accepted, margin, margin, unit, noise, {"index_again": torch.arange(5)}))
    report = tally.report()
    counts = {
        key: report[key] for key in ("trials", "accepted", "skipped", "undecided", "violations")
    }
    assert counts == {"trials": 5, "accepted": 4, "skipped": 1, "undecided": 1, "violations": 1}
    assert report["smallest_margin"] == -0.5
    assert report["instance"]["index"] == report["instance"]["index_again"] == 1
    assert sum(report["margins"]["counts"]) + report["margins"]["negative"] == 3
    assert total({"a": report, "b": report})["violations"] == 2
    assert [verdict(0), verdict(1), verdict(0, repaired=True), verdict(2, repaired=True)] == [
        *("holds", "false as stated", "holds after repair", "false as stated")
    ]
    with pytest.raises(BrokenError, match="no y instance"):
        Tally("x", "y", 0).report()


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_notebooks_are_short_empty_and_import_only(name: str) -> None:
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert 0 < len(code) < len(cells) <= 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    text = "\n".join("".join(cell["source"]) for cell in code)
    assert "def " not in text
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imports == [
        "from IPython.display import Markdown, display",
        f"from proofs.pictures import common, {name}",
    ]


def test_the_errata_name_files_and_identities_that_exist() -> None:
    text = (ROOT / "proofs" / "README.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w/]+\.py)`", text))
    assert len(paths) > 20
    assert not [
        path
        for path in paths
        if not any((folder / path).is_file() for folder in (ROOT / "proofs", ROOT))
    ]
    for file, name in re.findall(r"`(identities\w*)\.(?!py`)(\w+)`", text):
        source = (
            ROOT / "proofs" / ("identities.py" if file == "identities" else f"algebra/{file}.py")
        )
        assert f"def {name}(" in source.read_text(encoding="utf-8"), name
