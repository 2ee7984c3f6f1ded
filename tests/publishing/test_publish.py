"""Published snapshots: complete or marked partial, atomic, covered by hashes; verification."""

import csv
import gzip
import hashlib
import json
import os
import shutil

import pytest
import yaml

from publishing import manifest, publish, verify
from publishing.publish import main as publish_main
from publishing.publish import sources
from publishing.restore import restore
from publishing.verify import main as verify_main
from system.errors import UserError
from system.results import describe, read_info, read_run
from system.settings import rows

CONFIG = {
    "scale": "quick",
    "experiments": {"multimnist": {"methods": ["sum", "pcgrad"], "seeds": [0, 1], "epochs": 2}},
}
TABLE = """method,task,metric,mean,ci_low,ci_high,seeds,paper,difference,estimator,p_holm
sum,left,test_accuracy,95,94,96,3,,,mean,
sum,all,run_seconds,20,19,21,3,,,mean,
pcgrad - sum,left,test_accuracy,0.5,,,1,,,mean,
"""
CLAIMS = """id,verdict,reason,effect,ci_low,ci_high,seeds,p,p_holm,\
ours,ours_low,ours_high,paper,agrees
a,inconclusive,the interval contains zero,0.2,-0.1,0.5,3,0.2,0.4,95,94,96,96,yes
"""


STATEMENTS = (
    "identities",
    "theorem1",
    "proposition1",
    "corollary1",
    "theorem2",
    "theorem3",
    "theorem4",
    "opposite_points",
    "three_tasks",
)


@pytest.fixture
def root(tmp_path, write_job):
    """A repository with one figure, one table, one notebook and one proof, and the results of its
    quick scale.
    """
    results = tmp_path / "results" / "quick"
    files = {
        "config/quick.yaml": yaml.safe_dump(CONFIG),
        "experiments/multimnist/table_4.py": "",
        "experiments/landscape/figure_1.py": "",
        "notebooks/theorem1.ipynb": "{}",
        "experiments/claims.yaml": (publish.ROOT / "experiments" / "claims.yaml").read_text(),
        "results/quick/figures/figure_1.png": "png",
        "results/quick/figures/figure_1.pdf": "pdf",
        "results/quick/tables/table_4.csv": TABLE,
        "results/quick/tables/table_4.md": "md",
        "results/quick/tables/table_4.tex": "tex",
        "results/quick/notebooks/theorem1.html": "html",
        "results/quick/notebooks/theorem1.ipynb": "{}",
        "results/quick/logs/train.log": "not published",
        "results/quick/checkpoints/seed0.pt": "not published",
        "results/quick/claims.md": "md",
        "results/quick/claims.csv": CLAIMS,
        **{f"results/quick/proofs/{name}.json": "{}" for name in STATEMENTS},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for method in ("sum", "pcgrad"):
        rows = {seed: [(e, "left", "test_accuracy", 0.1 + e) for e in range(3)] for seed in (0, 1)}
        path = write_job("multimnist", method, rows, root=results, scale="quick")
        os.utime(path, (1, 1))
    return tmp_path


def published(root, **options):
    return publish.publish("quick", root=root, **options)


def test_manifest_vouches_for_every_file(root):
    place = published(root)
    content = manifest.check_manifest(place)
    there = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    assert there == set(content["files"]) | {"manifest.json"}
    for name, line in content["files"].items():
        assert line["sha256"] == hashlib.sha256((place / name).read_bytes()).hexdigest()
        assert line["bytes"] == (place / name).stat().st_size
    assert not any("log" in name or "checkpoint" in name for name in there)
    assert (content["partial"], content["absent"]) == (False, [])
    assert content["config"] == CONFIG
    assert content["command"].endswith("--configfile config/quick.yaml")
    assert content["seconds"] == {"multimnist": 42.0}  # 10 + 11 seconds, two methods
    assert content["machines"] == [{"processor": "A CPU", "cores": 2, "system": "Linux"}]
    assert content["commit"]
    assert (place / "runs/multimnist/sum/seeds0-1/metrics.csv").read_text().count("\n") == 7


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("figures/figure_1.pdf", "figures/figure_1.pdf"),
        ("tables/table_4.tex", "tables/table_4.tex"),
        ("notebooks/theorem1.ipynb", "notebooks/theorem1.ipynb"),
        ("proofs/theorem2.json", "proofs/theorem2.json"),
        ("runs/multimnist/sum/seeds0-1/metrics.csv", "runs/multimnist/sum/seed 0"),
    ],
)
def test_missing_output_is_refused_unless_partial(root, gone, named):
    (root / "results/quick" / gone).unlink()
    with pytest.raises(ValueError, match=named) as caught:
        published(root)
    assert "\n" not in str(caught.value)
    assert not (root / "results/published/quick").exists()
    content = manifest.check_manifest(published(root, partial=True))
    assert content["partial"]
    assert named in content["absent"]


def test_old_snapshot_is_replaced_whole(root):
    place = published(root)
    (place / "left_over.txt").write_text("old")
    (root / "results/quick/figures/figure_1.png").write_text("new")
    assert published(root) == place
    assert (place / "figures/figure_1.png").read_text() == "new"
    assert not (place / "left_over.txt").exists()
    assert [p.name for p in place.parent.iterdir()] == ["quick"]


def test_failure_leaves_the_old_snapshot(root, monkeypatch):
    place = published(root)
    before = (place / "manifest.json").read_bytes()
    monkeypatch.setattr(publish, "MOST_BYTES", 1_000)
    with pytest.raises(ValueError, match=r"MB of 0; the largest new file is"):
        published(root)
    assert (place / "manifest.json").read_bytes() == before
    assert [p.name for p in place.parent.iterdir()] == ["quick"]


def test_the_limit_counts_other_scales(root, monkeypatch):
    size = publish.size(published(root))
    monkeypatch.setattr(publish, "MOST_BYTES", size + 500)
    published(root)  # replacing itself, it does not count twice
    other = root / "results/published/laptop/big"
    other.parent.mkdir()
    other.write_bytes(b"0" * 600)
    with pytest.raises(ValueError, match="published results would take"):
        published(root)


def test_stale_claims_are_refused(root):
    os.utime(root / "results/quick/claims.csv", (0, 0))
    with pytest.raises(ValueError, match=r"claims.csv is older than .*metrics.csv"):
        published(root)


def test_unknown_scale_and_empty_results(root, tmp_path):
    with pytest.raises(ValueError, match="no scale 'huge'"):
        publish.publish("huge", root=root)
    with pytest.raises(ValueError, match="holds no results"):
        publish.publish("quick", root=root, results=tmp_path / "nothing", partial=True)


def test_command_reports_in_one_line(root, monkeypatch, capsys):
    monkeypatch.setattr(publish, "ROOT", root)
    assert publish_main(["huge"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no scale")
    assert error.count("\n") == 1


def lengthen(path, rows):
    """Adds rows to a run as training would have written them; nothing becomes stale."""
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [0, step, "left", "test_accuracy", step / 7] for step in range(3, 3 + rows)
        )
    os.utime(path, (1, 1))
    info = json.loads(path.with_name("run.json").read_text())
    info["metrics"] = describe(path.read_bytes())
    path.with_name("run.json").write_text(json.dumps(info))


@pytest.mark.parametrize(("more", "name"), [(1994, "metrics.csv"), (1995, "metrics.csv.gz")])
def test_published_metrics_keep_every_row(root, more, name):
    path = root / "results/quick/runs/multimnist/sum/seeds0-1/metrics.csv"
    lengthen(path, more)
    place = published(root)
    copied = place / path.parent.relative_to(root / "results/quick") / name
    assert [file.name for file in sorted(copied.parent.iterdir())] == [name, "run.json"]
    assert read_run(copied) == read_run(path)
    assert copied.with_name("run.json").read_bytes() == path.with_name("run.json").read_bytes()
    line = manifest.check_manifest(place)["files"][copied.relative_to(place).as_posix()]
    assert line["rows"] == 6 + more
    # Published again, the same run gives the same bytes.
    before = copied.read_bytes()
    published(root)
    assert copied.read_bytes() == before


def test_restored_results_are_those_that_were_published(root):
    folder = root / "results/quick"
    lengthen(folder / "runs/multimnist/sum/seeds0-1/metrics.csv", 3000)
    published(root)
    before = {path.relative_to(folder): path.read_bytes() for path in sources(folder)}
    shutil.rmtree(folder)
    count = restore("quick", root)
    after = {path.relative_to(folder): path.read_bytes() for path in sources(folder)}
    assert (after, count) == (before, len(before))
    # No rule runs again: nothing is newer than what was made from it.
    assert len({path.stat().st_mtime_ns for path in sources(folder)}) == 1
    published(root)
    # New files are never replaced.
    (folder / "claims.md").write_text("new")
    assert restore("quick", root) == 0
    assert (folder / "claims.md").read_text() == "new"


@pytest.mark.parametrize("damage", ["cut", "no gzip", "another content", "two streams"])
def test_damaged_packed_metrics_are_named(root, damage):
    path = root / "results/quick/runs/multimnist/sum/seeds0-1/metrics.csv"
    lengthen(path, 3000)
    place = published(root)
    packed = place / "runs/multimnist/sum/seeds0-1/metrics.csv.gz"
    content = packed.read_bytes()
    packed.write_bytes(
        {
            "cut": content[:-9],
            "no gzip": b"seed,step",
            "another content": gzip.compress(b"seed,step,task,metric,value\n0,0,all,x,1\n"),
            "two streams": gzip.compress(b"") + content,
        }[damage]
    )
    with pytest.raises(UserError, match=r"metrics\.csv\.gz .*train the run again"):
        read_run(packed)


def test_a_process_killed_between_the_two_renames_loses_nothing(root):
    place = published(root)
    stale = place.with_name(".quick.abc.partial")
    stale.mkdir()
    place.rename(stale / "old")
    (root / "results/published/.laptop.x.partial").mkdir()
    (root / "results/published/.laptop.x.partial/large").write_bytes(bytes(100))
    assert published(root) == place
    assert not stale.exists()
    assert (place / "manifest.json").is_file()


@pytest.mark.parametrize("tamper", ["change", "remove", "add"])
def test_tampering_is_found(root, tamper):
    place = published(root)
    table = place / "tables" / "table_4.csv"
    if tamper == "change":
        table.write_text(TABLE.replace("95,94", "97,94"))
    elif tamper == "remove":
        table.unlink()
    else:
        (place / "tables" / "table_9.csv").write_text(TABLE)
    with pytest.raises(
        ValueError, match=r"table_[49].csv (was changed|is missing|is not in the manifest)"
    ):
        manifest.check_manifest(place)
    assert verify_main([str(root / "results/quick"), str(place)]) == 2


def test_verify_finds_everything_again(root, capsys):
    place = published(root)
    assert verify_main([str(root / "results/quick"), str(place)]) == 0
    assert "every cell" in capsys.readouterr().out


def change(root, name, old, new):
    path = root / "results/quick" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        (
            "tables/table_4.csv",
            "95,94,96,3",
            "95.001,94,96,3",
            "row sum/left/test_accuracy, column mean",
        ),
        ("tables/table_4.csv", "0.5,,,1", "0.5,0.1,,1", "column ci_low"),
        ("tables/table_4.csv", "94,96,3", "94,96,4", "column seeds"),
        ("tables/table_4.csv", "pcgrad - sum", "pcgrad - mgda", "only in the published table"),
        ("tables/table_4.csv", "estimator", "estimate", "columns"),
        (
            "claims.csv",
            "inconclusive",
            "replicated",
            "row a, column verdict: published 'inconclusive'",
        ),
        ("claims.csv", "0.2,0.4", "0.2,0.5", "column p_holm"),
        ("claims.csv", "contains zero", "is wide", "column reason"),
    ],
)
def test_verify_names_the_one_cell_that_changed(root, capsys, name, old, new, named):
    place = published(root)
    change(root, name, old, new)
    assert verify_main([str(root / "results/quick"), str(place)]) == 1
    out = capsys.readouterr().out
    assert name in out
    assert named in out
    assert out.count("\n") == 1


def test_verify_never_compares_seconds_and_allows_rounding(root):
    place = published(root)
    change(root, "tables/table_4.csv", "run_seconds,20,19,21", "run_seconds,40,39,41")
    change(root, "tables/table_4.csv", "95,94,96", "95.00000001,94,96")
    assert verify.compare(root / "results/quick", place) == ""


def test_another_machine_has_room_but_no_more(root):
    place = published(root)
    for path in (root / "results/quick/runs").rglob("run.json"):
        path.write_text(path.read_text().replace("A CPU", "Another CPU"))
    change(
        root,
        "tables/table_4.csv",
        "sum,left,test_accuracy,95,94,96",
        "sum,left,test_accuracy,96,95,97",
    )
    change(root, "claims.csv", "0.2,0.4", "0.3,0.6")
    change(
        root, "tables/table_4.csv", "0.5,,,1", "-7,,,1"
    )  # one seed: nothing says how far it may move
    assert verify.compare(root / "results/quick", place) == ""
    change(root, "tables/table_4.csv", "96,95,97", "80,79,81")
    assert "column mean: published '95', fresh '80' (tolerance" in verify.compare(
        root / "results/quick", place
    )


def test_a_verdict_of_the_theory_never_moves_and_its_margin_only_elsewhere(root):
    path = root / "results/quick/tables/table_theory.csv"
    path.write_text("name,statement,verdict,smallest_margin\ntheorem1,Theorem 1,holds,0.001\n")
    place = published(root)
    change(root, "tables/table_theory.csv", "0.001", "0.002")
    found = (
        "tables/table_theory.csv, row theorem1, column smallest_margin: "
        "published '0.001', fresh '0.002'"
    )
    assert verify.compare(root / "results/quick", place) == found
    for run in (root / "results/quick/runs").rglob("run.json"):
        run.write_text(run.read_text().replace("A CPU", "Another CPU"))
    assert verify.compare(root / "results/quick", place) == ""
    change(root, "tables/table_theory.csv", "holds", "false as stated")
    assert "row theorem1, column verdict" in verify.compare(root / "results/quick", place)


def test_a_table_that_was_not_made_is_a_difference(root):
    place = published(root)
    (root / "results/quick/tables/table_4.csv").unlink()
    assert (
        verify.compare(root / "results/quick", place)
        == "tables/table_4.csv: published, but not made"
    )


def test_nothing_published_is_said(root, capsys):
    assert verify_main([str(root / "results/quick"), str(root / "results/published/quick")]) == 2
    assert "make publish" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["quick", "laptop"])
def test_a_published_config_asks_for_exactly_what_ran(scale):
    """`make laptop` would train other rows than the published ones, or miss some."""
    place = publish.ROOT / "results" / "published" / scale
    blocks = yaml.safe_load((publish.ROOT / "config" / f"{scale}.yaml").read_text())["experiments"]
    asked = {
        (experiment, method, seed)
        for experiment, block in blocks.items()
        for method, seeds in rows(block).items()
        for seed in seeds
    }
    infos = [read_info(path) for path in sorted(place.glob("runs/*/*/*/run.json"))]
    ran = {(one["experiment"], one["method"], seed) for one in infos for seed in one["seeds"]}
    assert asked == ran
    assert json.loads((place / "manifest.json").read_text())["absent"] == []
