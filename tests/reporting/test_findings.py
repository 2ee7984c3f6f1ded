"""Sentences say what the files say: they are rendered anew, and exchanged methods exchange them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.metaworld.table_metaworld import table as taskset
from experiments.multimnist.table_4 import TABLE
from reporting import findings
from reporting.findings import questions
from reporting.findings.results import LEDGER
from reporting.ledger.claims import write as write_ledger

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = ROOT / "results" / "published" / "laptop"
pytestmark = pytest.mark.skipif(
    not (LAPTOP / "claims.csv").is_file(), reason="no published results at laptop"
)
# The runs that the test reads; the others would take time and change nothing.
USED = {
    "triad": ("sac", "sac_pcgrad"),
    "metaworld_mt10": ("sac", "sac_pcgrad"),
    "multimnist": ("sum", "pcgrad", "mgda"),
}
OTHER = {"sac": "sac_pcgrad", "sac_pcgrad": "sac", "sum": "pcgrad", "pcgrad": "sum"}


def exchanged(source, target):
    """A scale whose runs have exchanged methods, with tables and ledger made anew from them."""
    for name in ("landscape", "proofs", "gallery"):
        shutil.copytree(source / name, target / name)
    for path in source.glob("runs/*/*/*/metrics.csv*"):
        experiment, method, seeds = path.relative_to(source / "runs").parts[:3]
        if method not in USED.get(experiment, ()):
            continue
        place = target / "runs" / experiment / OTHER.get(method, method) / seeds
        place.mkdir(parents=True)
        shutil.copyfile(path, place / path.name)
        info = json.loads(path.with_name("run.json").read_text(encoding="utf-8"))
        info["method"] = OTHER.get(method, method)
        (place / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return made(target)


def made(folder):
    """Tables and ledger of a scale's runs."""
    for name, table in (("mt10", taskset("mt10")), ("4", TABLE)):
        runs = folder.glob(f"runs/{table.experiment}/*/*/metrics.csv*")
        out = {
            kind: str(folder / "tables" / f"table_{name}.{kind}")
            for kind in ("csv", "md", "tex", "html")
        }
        table.write([str(path) for path in runs], **out)
    write_ledger(
        str(ROOT / "experiments" / "claims.yaml"),
        [str(path) for path in folder.glob("runs/*/*/*/metrics.csv*")],
        str(folder / "landscape" / "summary.json"),
        [str(path) for path in folder.glob("proofs/*.json")],
        str(folder / "gallery" / "tasks.json"),
        "laptop",
        csv=str(folder / "claims.csv"),
        md=str(folder / "claims.md"),
    )
    return findings.Results(folder)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The results as they are and with exchanged methods, both made by the same code."""
    plain, swapped = (tmp_path_factory.mktemp(name) / "laptop" for name in ("plain", "swapped"))
    kept = {}
    kept.update(OTHER)
    OTHER.clear()
    first = exchanged(LAPTOP, plain)
    OTHER.update(kept)
    return first, exchanged(LAPTOP, swapped)


def test_exchanged_methods_change_every_sentence_about_them(both):
    plain, swapped = both
    for template in (
        findings.second_task,
        findings.returns_on_second_task,
        findings.conditions,
        findings.curvatures,
        findings.step_of_theorem_2,
        findings.xi_of_theorem_2,
        findings.gains_of_tasks,
        lambda one: findings.learned(one, "metaworld_mt10"),
        findings.headline,
        lambda one: findings.standing(one.table("table_mt10"), "sac_pcgrad"),
        lambda one: findings.standing(one.table("table_4"), "pcgrad"),
        lambda one: findings.short_standing(one.table("table_4"), "pcgrad"),
    ):
        before, after = template(plain), template(swapped)
        assert before
        assert after
        assert before != after


def test_exchanged_methods_change_the_sentence_of_every_claim_that_compares_them(both):
    first, second = (findings.ledger([one]).set_index("id") for one in both)
    tested = first[first["effect"].notna()].index
    about = [name for name in tested if name.startswith(("figure-4", "table-4"))]
    assert len(about) >= 8
    same = [
        name
        for name in about
        if findings.claim_sentence(first.loc[name]) == findings.claim_sentence(second.loc[name])
    ]
    assert same in (
        [],
        ["figure-4-sac-does-not"],
    )  # neither method ever succeeds: nothing to change


def test_the_jump_of_figure_4_belongs_to_the_method_that_made_it(both):
    """The README once gave PCGrad's jump to SAC."""
    plain, swapped = both
    for one in (plain, swapped):
        text = findings.returns_on_second_task(one)
        runs = one.runs("triad")
        task = runs.infos[0]["settings"]["tasks"][1]
        for method, name in (("sac", "SAC "), ("sac_pcgrad", "SAC + PCGrad ")):
            best = runs.select(method=method, task=task, metric="return")["value"].max()
            sentence = text[text.index(name) :].partition(" (seed")[0]
            assert f"highest return is {best:,.0f}" in sentence


def comparison(gain, low, high, p=0.01, metric="test_accuracy", seeds=5):
    rows = [
        ("pcgrad", 50.0, 49.0, 51.0, seeds, np.nan),
        ("pcgrad - sum", gain, low, high, seeds, p),
    ]
    names = ["method", "mean", "ci_low", "ci_high", "seeds", "p_holm"]
    return pd.DataFrame(rows, columns=names).assign(task="all", metric=metric)


@pytest.mark.parametrize(
    ("numbers", "metric", "words"),
    [
        ((1.0, 0.5, 1.5), "test_accuracy", "better than Sum of losses (1.0)"),
        ((-1.0, -1.5, -0.5), "test_accuracy", "worse than Sum of losses (−1.0)"),
        ((-1.0, -1.5, -0.5), "test_error", "better than Sum of losses (−1.0)"),
        ((1.0, -0.5, 2.5), "test_accuracy", "no clear difference from Sum of losses"),
        ((1.0, 0.5, 1.5, 0.2), "test_accuracy", "better than Sum of losses (1.0*)"),
    ],
)
def test_directions_come_from_the_interval_and_the_metric(numbers, metric, words):
    assert words in findings.standing(comparison(*numbers, metric=metric), "pcgrad")


def test_two_seeds_say_nothing():
    assert findings.standing(comparison(1.0, 0.5, 1.5, seeds=2), "pcgrad") == ""


def test_a_claim_is_taken_from_the_strongest_scale_that_tested_it(tmp_path):
    names = ["id", "source", "claim", "verdict", "reason", "effect", "ci_low", "ci_high", "seeds"]
    names += ["ours", "ours_low", "ours_high", "paper", "scale"]
    nan = float("nan")
    for scale, verdict in (
        ("paper", "not tested at this scale"),
        ("laptop", "inconclusive"),
        ("quick", "replicated"),
    ):
        rows = [
            (
                "a",
                "Table 4",
                "it helps",
                verdict,
                "why",
                nan,
                nan,
                nan,
                5,
                nan,
                nan,
                nan,
                nan,
                scale,
            )
        ]
        (tmp_path / scale).mkdir()
        pd.DataFrame(rows, columns=names).to_csv(tmp_path / scale / "claims.csv", index=False)
    results = findings.read(tmp_path.glob("*"))
    assert [one.scale for one in results] == ["paper", "laptop", "quick"]
    assert findings.ledger(results)[["verdict", "scale"]].values.tolist() == [
        ["inconclusive", "laptop"]
    ]


@pytest.mark.parametrize(
    ("line", "real"),
    [
        ("data: mnist, real True, train 60000", True),
        ("data: digits, real False, train 1437", False),
        ("data: generated, real False", False),
        ("data: metaworld 3.1.1, tasks MT3", True),
        ("scale: laptop", False),
    ],
)
def test_generated_and_embedded_data_are_no_evidence(line, real):
    assert findings.is_real([line]) is real


def mt10(write_job, root, sac, pcgrad):
    """Two runs a method would be too few for a claim; the sentence says how many there are."""
    for method, seeds in (("sac", sac), ("sac_pcgrad", pcgrad)):
        for seed, values in seeds.items():
            rows = [
                row
                for step, value in enumerate(values, start=1)
                for row in (
                    (step, "all", "environment_steps", step * 100_000.0),
                    (step, "all", "evaluation_success", value),
                    (step, "reach-v3", "evaluation_success", value),
                )
            ]
            write_job("metaworld_mt10", method, {seed: rows}, root=root, data={"metaworld": "3"})
    (root / "claims.csv").write_text(",".join(LEDGER) + "\n")
    return findings.Results(root)


def test_the_headline_compares_paired_seeds_as_far_as_both_have_run(write_job, tmp_path):
    # Neither SAC's steps after the end of the shorter run count, nor a seed without a partner.
    one = mt10(write_job, tmp_path / "laptop", {0: [0.4] * 10 + [1] * 5}, {0: [0.2] * 10, 1: [1]})
    text = findings.headline(one)
    assert "after 1 million environment steps" in text
    assert (
        "SAC 0.40, SAC + PCGrad 0.20; difference −0.200 (1 paired seed; Meta-World 3, float32)."
        in text
    )
    assert findings.headline(findings.Results(tmp_path)) == ""


def test_the_headline_is_read_where_the_ledger_reads_the_claim(write_job, tmp_path):
    # Both runs go on after 1 million samples; what they learn later does not count.
    longer = {"sac": [0.2] * 10 + [1.0] * 5, "sac_pcgrad": [0.4] * 10 + [0.0] * 9}
    one = mt10(write_job, tmp_path / "laptop", *({0: values} for values in longer.values()))
    text = findings.headline(one)
    assert (
        "SAC 0.20, SAC + PCGrad 0.40; difference 0.200 (1 paired seed; Meta-World 3, float32)."
        in text
    )
    assert "No seed of any method learns reach." in findings.learned(one, "metaworld_mt10")


def test_the_headline_names_the_value_from_which_the_ledger_counts(write_job, tmp_path):
    """An interval around zero beside "lies below zero" would contradict itself."""
    one = mt10(write_job, tmp_path / "laptop", {0: [0.2] * 10}, {0: [0.3] * 10})
    row = {"id": "figure-3-mt10-gain-1m", "verdict": "not replicated", "reason": "why"}
    row |= {"effect": -0.2, "ci_low": -0.3, "ci_high": -0.1, "scale": "laptop"}
    pd.DataFrame([dict.fromkeys(LEDGER) | row]).to_csv(one.folder / "claims.csv", index=False)
    text = findings.headline(findings.Results(one.folder))
    assert text.startswith("No, not after 1 million steps. Share of the ten tasks")
    assert "not replicated (the difference minus the claimed 0.30 is −0.20 [−0.30, −0.10])" in text


def test_the_headline_has_an_interval_from_two_seeds_on(write_job, tmp_path):
    runs = {seed: [0.2 + 0.1 * seed] * 6 for seed in range(2)}
    one = mt10(write_job, tmp_path / "laptop", runs, {seed: [0.5] * 6 for seed in runs})
    assert "difference 0.2" in findings.headline(one)
    assert "(2 paired seeds; Meta-World 3, float32)" in findings.headline(one)


def test_an_answer_on_a_table_says_how_small_its_runs_were():
    table = comparison(1.0, 0.5, 1.5)
    below = [
        "deviation: epochs 15 instead of 50 at paper scale",
        "deviation: train_examples 10000 instead of 0 at paper scale",
        "deviation: clip_norm 0.0 instead of 40.0 at paper scale",
        "deviation: width 16 instead of 64 at paper scale",
        "deviation: widths [8, 16] instead of [64, 128] at paper scale",
    ]
    words = "5 paired seeds; 10,000 training examples instead of all; 15 epochs instead of 50"
    words += "; width 16 instead of 64; widths [8, 16] instead of [64, 128]"
    unit = "differences in percentage points"
    assert questions._size(table, below) == f"({unit}; {words}; one learning rate for all rows)"
    assert questions._size(table, ["chosen from: 1, 2"]) == f"({unit}; 5 paired seeds; tuned)"
    other = comparison(1.0, 0.5, 1.5, seeds=3)
    assert questions._size(pd.concat([table, other]), []).startswith(f"({unit}; 3–5 paired seeds")
    errors = comparison(1.0, 0.5, 1.5, metric="test_AbsErr")
    assert questions._size(errors, []).startswith("(5 paired seeds")


def test_claims_of_ours_count_with_the_table_that_tests_them():
    """CamVid and UC Merced once had no claims, and repairs counted as the paper's."""
    names = ["Table 2", "Ours, CIFAR-100", "Ours, CamVid"]
    claims = pd.DataFrame({"source": names})
    assert findings.sources_of(claims, "Table 2: CIFAR-100 as 20 tasks") == names[:2]
    assert findings.sources_of(claims, "CamVid (ours): streets")[1:] == names[2:]
    found = {one.question: one for one in findings.answers(findings.read([LAPTOP]))}
    counted = [name for one in found.values() for name in one.ids]
    assert len(counted) == len(set(counted))
    assert "; ours: " in found["Is the theory right as printed?"].claims
    assert found["Does it help on CamVid (ours)?"].claims


def test_every_measured_claim_supports_an_answer():
    results = [findings.Results(LAPTOP)]
    claims = findings.ledger(results)
    measured = claims[claims["effect"].notna()]["id"]
    assert len(measured) > 10
    assert set(measured) <= {name for one in findings.answers(results) for name in one.ids}
