"""Tables 1, 5, 6, 7, 8 and Figure 5: rows, the paper's numbers, last epochs, differences."""

import io
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments.cityscapes import table_5, table_7
from experiments.nyuv2 import figure_5, table_1, table_6, table_8
from reporting import dense, render, reported
from reporting.figures import COLORS, SEED_LINE
from reporting.runs import read_runs
from reporting.statistics import holm, paired

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = [
    p
    for name in ("nyuv2", "cityscapes")
    for p in (ROOT / "experiments" / name / "captions").glob("*.rst")
]
SETTINGS = {"epochs": 12, "batch_size": 2, "device": "cpu", "torch_threads": 1}
DATA = {"name": "generated", "real": False, "sha256": "b" * 64}
METHODS = (
    "one_task",
    "mtan_uncertainty",
    "mtan_uncertainty_pcgrad",
    "dense_uncertainty",
    "dense_uncertainty_pcgrad",
)
QUANTITIES = [q for q in table_8.TABLE.quantities if q.task != "all"]


def value(method, seed, epoch, quantity):
    """A number that depends on everything, so that a mix-up shows; its mean over epochs 3 to 12 is
    that of 7.5.
    """
    place = QUANTITIES.index(quantity)
    return (
        20
        + METHODS.index(method)
        + 0.1 * place
        + 0.3 * seed * (1 + METHODS.index(method) % 3)
        + 0.01 * epoch
    )


def rows(method, seed, epochs):
    lines = [
        (0, "all", "relative_parameters", 1.77),
        *((0, q.task, q.metric, 999.0) for q in QUANTITIES),
    ]
    for epoch in range(1, epochs + 1):
        lines += [(epoch, q.task, q.metric, value(method, seed, epoch, q)) for q in QUANTITIES]
        lines += [(epoch, task, "train_loss", 2 / epoch + seed) for task in figure_5.TASKS]
        lines += [(epoch, task, "test_loss", 3 / epoch + seed) for task in figure_5.TASKS]
        lines += (
            [(epoch, "all", "length_ratio", 1 + epoch / 10)] if method.endswith("pcgrad") else []
        )
    return lines


@pytest.fixture
def jobs(write_job):
    def make(methods=METHODS, epochs=12, seeds=3, experiment="nyuv2"):
        settings = {**SETTINGS, "epochs": epochs}
        return [
            write_job(
                experiment,
                m,
                {s: rows(m, s, epochs) for s in range(seeds)},
                settings=settings,
                data=DATA,
            )
            for m in methods
        ]

    return make


def cell(table, method, metric):
    found = table[(table.method == method) & (table.metric == metric)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("one_task", ("One Task", "", False)),
        ("split_wide_equal", ("Split, Wide", "Equal", False)),
        ("cross_stitch_dwa_pcgrad", ("Cross-Stitch", "DWA", True)),
    ],
)
def test_names_of_methods(method, parts):
    assert dense.parse(method) == parts


@pytest.mark.parametrize(
    "method", ["mtan", "mtan_pcgrad_equal", "resnet_equal", "mtan_gradnorm", "equal"]
)
def test_other_names_are_refused(method):
    with pytest.raises(ValueError, match="is no row of the dense-prediction tables"):
        dense.parse(method)


def test_rows_are_the_papers_and_their_extensions():
    assert len(table_8.TABLE.methods) == len(table_7.TABLE.methods) == 2 + 5 * 3 * 2
    assert set(table_1.TABLE.methods) | set(table_6.TABLE.methods) <= set(table_8.TABLE.methods)
    assert set(table_5.TABLE.methods) <= set(table_7.TABLE.methods)
    assert len(table_1.TABLE.methods) == 7
    assert table_6.TABLE.methods[:2] == (
        "cross_stitch_uncertainty",
        "cross_stitch_uncertainty_pcgrad",
    )


@pytest.mark.parametrize(
    ("layout", "count"),
    [
        (table_8.TABLE, 18 * 10 + 2 * 4),  # and Table 6's two rows
        (table_1.TABLE, 7 * 10),
        (table_6.TABLE, 4 * 4),
        (table_7.TABLE, 18 * 5),
        (table_5.TABLE, 6 * 5),
    ],
    ids=lambda x: getattr(x, "source", None),
)
def test_every_number_of_the_paper_finds_its_place(layout, count):
    numbers = layout.paper()
    assert len(numbers) == count
    frame = pd.concat([reported.read(source) for source in layout.sources])
    assert set(numbers.values()) == set(frame["value"])


def test_numbers_of_the_paper_by_hand():
    nyuv2, streets = table_8.TABLE.paper(), table_7.TABLE.paper()
    assert nyuv2["mtan_uncertainty_pcgrad", "segmentation", "test_mIoU_per_image"] == 20.17
    assert (
        nyuv2["split_wide_dwa", "segmentation", "test_PixAcc_per_image"] == 53.72
    )  # "DWA T=2" there
    assert nyuv2["cross_stitch_uncertainty_pcgrad", "depth", "test_AbsErr"] == 0.5805
    assert nyuv2["stan", "all", "relative_parameters"] == 4.56
    assert ("mtan_equal_pcgrad", "depth", "test_AbsErr") not in nyuv2
    assert streets["mtan_equal_pcgrad", "depth", "test_RelErr"] == 31.34
    assert streets["dense_uncertainty", "segmentation", "test_mIoU_per_image"] == 51.89


def test_a_runs_number_is_the_mean_of_its_last_ten_epochs(jobs):
    table = table_8.TABLE.table(read_runs(jobs()))
    quantity = QUANTITIES[0]
    row = cell(table, "dense_uncertainty_pcgrad", quantity.metric)
    seeds = [value("dense_uncertainty_pcgrad", seed, 7.5, quantity) for seed in range(3)]
    assert row["mean"] == pytest.approx(np.mean(seeds))
    assert row.ci_high == pytest.approx(
        np.mean(seeds) + 4.302652729911275 * np.std(seeds, ddof=1) / np.sqrt(3)
    )
    assert row.seeds == 3
    ratio = cell(table, "mtan_uncertainty_pcgrad", "length_ratio")
    assert ratio["mean"] == pytest.approx(1 + 6.5 / 10)  # all epochs
    size = cell(table, "mtan_uncertainty", "relative_parameters")
    assert (size["mean"], size.paper, size.difference) == pytest.approx((1.77, 1.77, 0))


def test_a_short_run_leaves_the_untrained_network_out(jobs):
    table = table_8.TABLE.table(read_runs(jobs(["one_task"], epochs=3)))
    row = cell(table, "one_task", "test_mean_angle")
    quantity = next(q for q in QUANTITIES if q.metric == "test_mean_angle")
    assert row["mean"] == pytest.approx(
        np.mean([value("one_task", seed, 2, quantity) for seed in range(3)])
    )
    assert row.paper == 31.76


def test_differences_are_paired_and_corrected_over_the_table(jobs):
    runs = read_runs(jobs())
    table = table_8.TABLE.table(runs)
    name = "mtan_uncertainty_pcgrad - mtan_uncertainty"
    compared = [q for q in QUANTITIES if q.compare]
    p_values = []
    for method in ("dense_uncertainty_pcgrad", "mtan_uncertainty_pcgrad"):
        for q in compared:
            both = [
                {s: value(m, s, 7.5, q) for s in range(3)}
                for m in (method, method.removesuffix("_pcgrad"))
            ]
            p_values.append(paired(*both).p)
    row = cell(table, name, "test_mIoU_per_image")
    half = 4.302652729911275 * 0.3 / np.sqrt(3)  # PCGrad's slope over seeds is 0.3 steeper
    assert (row["mean"], row.ci_low) == pytest.approx((1.3, 1.3 - half))
    assert row.paper == pytest.approx(20.17 - 17.67)
    assert row.difference == pytest.approx(1.3 - 2.5)
    found = table[table["p_holm"].notna()]
    assert list(found["p_holm"]) == pytest.approx(holm(p_values))
    assert len(found) == 2 * 9
    assert set(found["metric"]) == {q.metric for q in compared}


def test_the_smaller_tables_agree_with_the_larger(jobs):
    runs = read_runs(jobs())
    whole = table_8.TABLE.table(runs).set_index(["method", "metric"])
    for part in (table_1.TABLE.table(runs), table_6.TABLE.table(runs)):
        part = part.set_index(["method", "metric"])
        columns = ["mean", "ci_low", "ci_high", "seeds"]
        pd.testing.assert_frame_equal(part[columns], whole.loc[part.index, columns])
        known = part[part["paper"].notna()]  # Table 6 gives no parameters
        assert known["paper"].equals(whole.loc[known.index, "paper"])
        assert len(known) > 10


def test_cityscapes_has_no_normals(jobs):
    table = table_7.TABLE.table(read_runs(jobs(["mtan_uncertainty"], experiment="cityscapes")))
    assert set(table["task"]) == {"segmentation", "depth", "all"}
    assert cell(table, "mtan_uncertainty", "test_RelErr").paper == 35.72


def test_four_forms_hold_the_same_numbers(jobs, tmp_path):
    out = {
        kind: str(tmp_path / "tables" / f"table_8.{kind}") for kind in ("csv", "md", "tex", "html")
    }
    table_8.TABLE.write(
        [str(path) for path in jobs()], paper={"epochs": 200, "batch_size": 2}, **out
    )
    text = {kind: Path(path).read_text(encoding="utf-8") for kind, path in out.items()}
    table = pd.read_csv(io.StringIO(text["csv"]))
    row = cell(table, "mtan_uncertainty_pcgrad", "test_AbsErr")
    ours = f"{row['mean']:.4f} [{row.ci_low:.4f}, {row.ci_high:.4f}]"
    for kind in ("md", "tex", "html"):
        for part in (
            ours,
            "MTAN + PCGrad",
            "Uncert",
            "generated",
            "scale: laptop",
            "epochs 12 instead of 200",
        ):
            assert part in text[kind], (kind, part)
    assert f"0.5904 (+{row.difference:.4f})" in text["md"]
    sections = [line.strip("*") for line in text["md"].splitlines() if line.startswith("**")]
    assert sections == ["Segmentation", "Depth", "Surface normals", "Updates and run time"]
    assert "last 10 epochs (here 10)" in text["md"]
    for body in text["tex"].split(r"\midrule")[1:]:
        lines = [
            line for line in body.split(r"\bottomrule")[0].splitlines() if line.endswith(r"\\")
        ]
        assert len({line.count("&") - line.count(r"\&") for line in lines}) == 1
        assert any("MTAN" in line for line in lines)


def test_rows_of_the_paper_that_were_not_run_stay_in_the_table(tmp_path, jobs):
    out = {kind: str(tmp_path / f"table_1.{kind}") for kind in ("csv", "md", "tex", "html")}
    table_1.TABLE.write([str(path) for path in jobs(["one_task"])], **out)
    table = pd.read_csv(out["csv"])
    assert set(table["seeds"]) == {0}
    assert table["mean"].isna().all()
    assert {"mtan_uncertainty_pcgrad", "cross_stitch_dwa"} <= set(table["method"])
    text = Path(out["md"]).read_text(encoding="utf-8")
    assert "scale: laptop" in text
    (row,) = [line for line in text.split("**Depth**")[0].splitlines() if "+ PCGrad" in line]
    assert render.NOT_RUN in row
    assert "| 20.17  " in row  # the paper's mIoU, without a difference


def test_figure_5_draws_means_of_both_methods(jobs):
    fig = figure_5.figure_5(read_runs(jobs()))
    panels = fig.axes
    assert [ax.get_title() for ax in panels[::3]] == [
        "segmentation: training loss",
        "segmentation: test loss",
    ]
    for ax, scale in zip(panels, [2] * 3 + [3] * 3, strict=True):
        plain, surgery = (line for line in ax.lines if line.get_gid() != SEED_LINE)
        assert (plain.get_color(), surgery.get_color()) == (COLORS["sum"], COLORS["pcgrad"])
        np.testing.assert_allclose(plain.get_ydata(), [scale / epoch + 1 for epoch in range(1, 13)])
        assert list(plain.get_xdata()) == list(range(1, 13))
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["MTAN", "MTAN + PCGrad"]
    plt.close(fig)


def test_figure_5_is_written_even_without_its_methods(jobs, tmp_path):
    figure_5.write(
        [str(path) for path in jobs(["one_task"])],
        png=str(tmp_path / "5.png"),
        pdf=str(tmp_path / "5.pdf"),
    )
    assert (tmp_path / "5.png").stat().st_size > 1000
    assert (tmp_path / "5.pdf").is_file()


@pytest.mark.parametrize("path", sorted(CAPTIONS), ids=lambda p: p.stem)
def test_captions_name_data_and_scale(path):
    block = {
        "data": "generated",
        "height": 64,
        "width": 96,
        "epochs": 12,
        "seeds": [0, 1],
        "classes": 13,
    }
    config = {"scale": "quick", "experiments": {"nyuv2": block, "cityscapes": block}}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(path.read_text(encoding="utf-8")).render(
        snakemake={"config": config}
    )
    assert "scale: quick, data: generated" in text
    assert "*What to see:*" in text
    assert f"{path.stem.split('_')[0].title()} {path.stem.split('_')[1]}" in text
