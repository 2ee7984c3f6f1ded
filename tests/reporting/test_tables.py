"""Cells against hand computations; the four forms of a table hold the same numbers."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.metaworld.table_metaworld import table as taskset
from experiments.multimnist.table_4 import TABLE
from reporting import render
from reporting.comparison import Comparison
from reporting.reported import later
from reporting.runs import COLUMNS, Runs, read_runs
from reporting.tables import Quantity, bounds, deviations, difference_lines, method_lines, per_seed

LEFT = {"sum": [95.0, 95.5, 96.0], "pcgrad": [96.0, 96.3, 96.6], "mgda": [94.0, 94.2, 94.7]}


def job(write_job, method, values, **info):
    rows = {
        seed: [
            *((1, task, "test_accuracy", 1.0) for task in ("left", "right")),
            (2, "left", "test_accuracy", value),
            (2, "right", "test_accuracy", value - 1),
            (1, "all", "length_ratio", 1.0),
            (2, "all", "length_ratio", 1.2),
        ]
        for seed, value in enumerate(values)
    }
    return write_job("multimnist", method, rows, **info)


@pytest.fixture
def runs(write_job):
    return read_runs([job(write_job, method, values) for method, values in LEFT.items()])


def cell(table, method, task, metric="test_accuracy"):
    found = table[(table.method == method) & (table.task == task) & (table.metric == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_cells_by_hand(runs):
    table = TABLE.table(runs)
    row = cell(table, "pcgrad", "left")
    half = 4.302652729911275 * 0.3 / np.sqrt(3)
    assert row["mean"] == pytest.approx(96.3)
    assert (row.ci_low, row.ci_high) == pytest.approx((96.3 - half, 96.3 + half))
    assert (row.seeds, row.paper) == (3, 96.58)
    assert row.difference == pytest.approx(96.3 - 96.58)
    assert cell(table, "mgda", "right").paper == 94.95
    assert np.isnan(cell(table, "sum", "left").paper)
    assert cell(table, "sum", "all", "run_seconds")["mean"] == pytest.approx(
        11.0
    )  # 10, 11, 12 of run.json
    assert cell(table, "sum", "all", "length_ratio")["mean"] == pytest.approx(
        1.1
    )  # over all epochs


def test_differences_are_paired_by_seed(runs):
    table = TABLE.table(runs)
    row = cell(table, "pcgrad - sum", "left")
    half = 4.302652729911275 * np.std([1.0, 0.8, 0.6], ddof=1) / np.sqrt(3)
    assert row["mean"] == pytest.approx(0.8)
    assert row.ci_high == pytest.approx(0.8 + half)
    assert np.isnan(row.paper)
    versus_mgda = cell(table, "pcgrad - mgda", "left")
    assert versus_mgda.paper == pytest.approx(96.58 - 96.45)
    assert versus_mgda["mean"] == pytest.approx(2.0)


def test_p_values_are_corrected_over_the_table(runs):
    quantities = (Quantity("left", "test_accuracy", "left", compare=True),)
    alone = difference_lines(runs.frame, [("pcgrad", "sum")], quantities, {})
    both = difference_lines(runs.frame, [("pcgrad", "sum"), ("pcgrad", "mgda")], quantities, {})
    smaller = both["p_holm"].idxmin()
    raw = [
        alone["p_holm"][0],
        difference_lines(runs.frame, [("pcgrad", "mgda")], quantities, {})["p_holm"][0],
    ]
    assert both["p_holm"][smaller] == pytest.approx(2 * raw[smaller])


def test_last_step_counts_not_the_best(runs):
    assert per_seed(runs.frame, "sum", TABLE.quantities[0]) == {0: 95.0, 1: 95.5, 2: 96.0}


def test_one_seed_has_a_dash_and_no_correction(write_job):
    runs = read_runs([job(write_job, "sum", [95.0]), job(write_job, "pcgrad", [96.0])])
    table = TABLE.table(runs)
    row = cell(table, "pcgrad - sum", "left")
    assert row["mean"] == 1.0
    assert np.isnan([row.ci_low, row.ci_high, row.p_holm]).all()
    assert (
        render.wide(table, TABLE.quantities).set_index("method").loc["PCGrad", "left, %"] == "96.00"
    )


def test_missing_methods_and_quantities_leave_no_line(runs):
    table = TABLE.table(runs)
    assert "single_task" not in set(table.method)
    assert "pcgrad - uncertainty" not in set(table.method)
    assert method_lines(runs.frame, ["nobody"], TABLE.quantities, {}).empty
    shown = render.wide(table, TABLE.quantities)
    assert (shown["conflicts"] == "—").all()  # nothing recorded it
    rare = Quantity("all", "test_policy_entropy", "entropy", rare=True)
    assert list(render.wide(table, (*TABLE.quantities, rare))) == list(shown)


def test_four_forms_hold_the_same_numbers(write_job, tmp_path):
    paths = [str(job(write_job, method, values)) for method, values in LEFT.items()]
    out = {
        kind: str(tmp_path / "tables" / f"table_4.{kind}") for kind in ("csv", "md", "tex", "html")
    }
    TABLE.write(paths, paper={"epochs": 100}, **out)
    text = {kind: Path(path).read_text(encoding="utf-8") for kind, path in out.items()}
    table = pd.read_csv(io.StringIO(text["csv"]))
    assert cell(table, "pcgrad", "left")["mean"] == pytest.approx(96.3)
    for kind in ("md", "html"):
        assert "96.30 [95.55, 97.05]" in text[kind]
        assert "96.58 (−0.28)" in text[kind]
        assert "PCGrad − Sum of losses" in text[kind]
    assert "96.30 [95.55, 97.05] & 96.58 ($-$0.28)" in text["tex"]
    for kind in ("md", "tex", "html"):
        for part in ("scale: laptop", "torch 2.11.0", "0123456789ab", "epochs 2 instead of"):
            assert part in text[kind].replace(r"\_", "_")


def test_latex_compiles_in_principle(runs):
    table = TABLE.table(runs)
    shown = render.wide(table, TABLE.quantities)
    text = render.latex(shown, TABLE.footer(runs), rules=(3,))
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == len(shown)
    assert {line.replace(r"\&", "").count("&") for line in rows} == {shown.shape[1] - 1}
    assert text.count("{") == text.count("}")
    plain = re.sub(r"\$[^$]*\$", "", text)  # without mathematics
    assert all(sign not in plain.replace(rf"\{sign}", "") for sign in "%#_")
    assert body.index("MGDA") < body.index(r"\midrule", 5) < body.index("PCGrad $-$")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 5%", r"a\_b \& 5\%"),
        ("{$#~^\\", r"\{\$\#\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("−1 ≤ ξ", r"$-$1 $\leq$ $\xi$"),
        ("plain", "plain"),
    ],
)
def test_latex_escapes(text, escaped):
    assert render.escape(text) == escaped


def test_markdown_escapes_bars():
    assert r"a\|b" in render.markdown(pd.DataFrame({"x": ["a|b"]}), ["note"])


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "text"),
    [
        (-0.001, 2, False, "0.00"),
        (-1.236, 2, False, "−1.24"),
        (0.5, 1, True, "+0.5"),
        (float("nan"), 2, False, "—"),
        # As a reader of the CSV prints it, which holds 0.325.
        (0.325 - 1e-13, 2, False, "0.33"),
    ],
)
def test_numbers(value, decimals, sign, text):
    assert render.number(value, decimals, sign=sign) == text


def test_cells_of_unknown_size():
    nan = float("nan")
    assert render.significant(nan, nan, nan) == "—"
    assert render.significant(123.456, nan, nan) == "123"
    assert render.significant(0.01234, 0.01, 0.02) == "0.0123 [0.0100, 0.0200]"
    assert render.significant(1.5e-8, 1e-8, 2e-8) == "1.50e−08 [1.00e−08, 2.00e−08]"
    assert render.significant(0.0, 0.0, 0.0) == "0.00 [0.00, 0.00]"


def test_deviations_name_what_differs_from_paper_scale():
    ours = {"epochs": 20, "device": "cuda", "batch": 256, "log_every": 1, "extra": 1}
    paper = {"epochs": 100, "device": "cpu", "batch": 256, "log_every": 9}
    assert deviations(ours, paper) == ["epochs 20 instead of 100 at paper scale"]


def tuning(**changes):
    """What a tuned row's run.json says besides."""
    budget = {
        "learning_rate": [0.01, 0.05],
        "weight_decay": [0.0, 1e-4],
        "metric": "validation_accuracy",
        "seeds": [0],
        "epochs": 10,
        "validation_share": 0.1,
        **changes,
    }
    return {"budget": budget, "value": 93.0, "edges": ["learning_rate"]}


def test_tuned_rows_are_compared_with_each_other_and_their_values_are_named(write_job):
    chosen = {"sum_tuned": {"learning_rate": 0.05, "weight_decay": 1e-4}}
    chosen["pcgrad_tuned"] = {"learning_rate": 0.01, "weight_decay": 0.0}
    paths = [job(write_job, method, [95.0, 95.5, 96.0]) for method in ("sum", "pcgrad")]
    paths += [
        job(write_job, "sum_tuned", [97.0, 97.5, 98.0], chosen=chosen["sum_tuned"], tuning=tuning())
    ]
    paths += [
        job(
            write_job,
            "pcgrad_tuned",
            [96.0, 96.6, 97.2],
            chosen=chosen["pcgrad_tuned"],
            tuning=tuning(),
        )
    ]
    runs = read_runs(paths)
    table = TABLE.table(runs)
    assert cell(table, "sum_tuned", "left")["mean"] == pytest.approx(97.5)
    assert cell(table, "pcgrad_tuned - sum_tuned", "left")["mean"] == pytest.approx(-0.9)
    assert np.isnan(cell(table, "pcgrad_tuned", "left").paper)
    assert list(table.method.drop_duplicates())[:5] == [
        "sum",
        "mgda",
        "pcgrad",
        "sum_tuned",
        "pcgrad_tuned",
    ]
    text = "\n".join(TABLE.footer(runs))
    assert (
        "chosen for sum_tuned: learning_rate 0.05 (edge of the grid), weight_decay 0.0001" in text
    )
    assert (
        "chosen for pcgrad_tuned: learning_rate 0.01 (edge of the grid), weight_decay 0\n" in text
    )
    assert (
        "learning_rate 0.01, 0.05; weight_decay 0, 0.0001; "
        "by validation_accuracy at the end of 10 epochs" in text
    )
    assert "on 10% of train, held out; seeds 0" in text


def test_rows_of_torchjd_are_compared_with_pcgrad(write_job):
    runs = read_runs(
        [
            job(write_job, method, [95.0, 96.0])
            for method in ("pcgrad", "cagrad", "nash_mtl", "upgrad")
        ]
    )
    methods = set(TABLE.table(runs).method)
    assert {f"pcgrad - {other}" for other in ("cagrad", "nash_mtl", "upgrad")} <= methods


def test_memory_stands_beside_the_seconds(write_job):
    runs = read_runs([job(write_job, "sum", [95.0, 96.0], peak_memory_mb=512)])
    table = TABLE.table(runs)
    assert cell(table, "sum", "all", "peak_memory_mb")["mean"] == 512
    shown = render.wide(table, TABLE.quantities)
    assert shown["peak memory, MB"].tolist()[0] == "512"


def test_costs_have_a_median_and_a_range_and_no_interval(write_job):
    """A skewed time must not give "1790 [−1652, 5231] s"."""
    seconds = {"0": 500.0, "1": 600.0, "2": 4000.0}
    runs = read_runs([job(write_job, "sum", [95.0, 96.0, 95.5], seconds=seconds)])
    line = cell(TABLE.table(runs), "sum", "all", "run_seconds")
    assert (line["mean"], line.ci_low, line.ci_high) == (600, 500, 4000)
    shown = render.wide(TABLE.table(runs), TABLE.quantities)
    assert shown["seconds a run"].tolist()[0] == "600 (500 to 4000)"


def test_a_row_of_the_paper_that_was_not_run_says_so(write_job):
    runs = read_runs([job(write_job, "sum", [95.0, 96.0])])
    shown = render.wide(TABLE.table(runs), TABLE.quantities).set_index("method")
    row = shown.loc["PCGrad"]
    assert row["left, %"] == render.NOT_RUN
    assert row["paper, left (ours − paper)"] == "96.58"
    assert row["seeds"] == render.DASH
    assert "Single task" not in shown.index  # ours, not the paper's


def test_the_narrow_table_has_its_caption_label_and_columns(runs):
    shown = render.wide(TABLE.table(runs), TABLE.quantities)[["method", "left, %", "seeds"]]
    text = render.narrow(shown, caption="50% more", label="tab:table_4")
    assert r"\caption{50\% more}" in text
    assert r"\label{tab:table_4}" in text
    assert text.count(" & ") == 2 * (1 + len(shown))
    assert text.rstrip().endswith(r"\end{table}")


@pytest.mark.parametrize(
    ("metric", "ends"),
    [
        ("evaluation_success", (0, 1)),
        ("conflict_share_q1", (0, 1)),
        ("test_accuracy", (0, 100)),
        ("test_mIoU_per_image", (0, 100)),
        ("test_RelErr", (0, np.inf)),
        ("test_mean_angle", (0, 180)),
        ("return", (-np.inf, np.inf)),
        ("curvature_remainder_q1", (-np.inf, np.inf)),
    ],
)
def test_bounds_of_metrics(metric, ends):
    assert bounds(metric) == ends


def test_prose_is_aligned_left_and_numbers_right():
    shown = pd.DataFrame({"claim": ["it helps"], "effect": ["0.1 [0.0, 0.2]"]})
    text = render.table_html(shown)
    assert '<td class="prose">it helps</td>' in text
    assert "<td>0.1" in text


def test_later_work_stands_below_the_table_as_its_file_says(runs):
    sener, kurin = later("MultiMNIST")
    assert sener.startswith(
        "reported by Sener & Koltun 2018, left accuracy, right accuracy, %: MGDA 97.26 / 95.90;"
    )
    assert "Uniform weights 96.46 / 94.99" in sener
    assert (
        kurin
        == "reported by Kurin et al. 2022, average accuracy, %: Sum of losses 94.76; PCGrad 94.79"
    )
    assert {sener, kurin} <= set(TABLE.footer(runs))


def test_a_note_about_rows_that_did_not_run_is_left_out():
    notes = ("always", (("cagrad", "mgda"), "about MGDA"), (("routing",), "about routing"))
    table = Comparison("table_2", "", "cifar100", (), (), (), notes=notes)
    ran = {"method": "mgda", "experiment": "cifar100", "scale": "laptop", "seeds": [0], "data": "x"}
    found = table.footer(Runs(pd.DataFrame(columns=COLUMNS), [{**ran, "settings": {}}]))
    assert "always" in found
    assert "about MGDA" in found
    assert "about routing" not in found


@pytest.mark.parametrize(("seeds", "said"), [(9, False), (10, True)])
def test_a_table_of_ten_seeds_names_its_estimator(seeds, said):
    runs = [
        {"method": "sum", "seeds": [seed], "scale": "laptop", "data": {}} for seed in range(seeds)
    ]
    infos = [{**info, "experiment": "multimnist", "settings": {}} for info in runs]
    lines = TABLE.footer(Runs(pd.DataFrame(columns=COLUMNS), infos))
    assert any(line.startswith("rows and differences of 10 seeds") for line in lines) is said


@pytest.mark.parametrize("processors", [("a", "a"), ("a", "b")])
def test_seconds_of_different_processors_are_said_to_be_rough(processors):
    infos = [
        {
            "experiment": "multimnist",
            "method": "sum",
            "seeds": [seed],
            "scale": "laptop",
            "data": {},
            "settings": {},
            "machine": {"processor": name},
        }
        for seed, name in enumerate(processors)
    ]
    lines = TABLE.footer(Runs(pd.DataFrame(columns=COLUMNS), infos))
    rough = any("different processors" in line for line in lines)
    assert rough is (len(set(processors)) > 1)
    assert any("compare rows roughly" in line for line in lines)


def test_a_tie_is_rounded_alike_before_and_after_it_is_written():
    """A table once printed 0.32 where the sentence about it printed 0.33."""
    below = 0.32499999999999996
    assert render.number(below, 2) == render.number(float(f"{below:.10g}"), 2) == "0.33"


def test_a_table_without_a_row_has_no_key():
    empty = Runs(pd.DataFrame(columns=COLUMNS), [])
    assert not any("in brackets" in line for line in taskset("mt50").footer(empty))
    assert any("in brackets" in line for line in TABLE.footer(empty))
