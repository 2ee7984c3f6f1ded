"""What every picture must keep: text on the canvas, no overlaps, a color for each method.

No text may cover another, and no curve may be hidden under another. The pictures are drawn from
the published runs; without them the made-up runs below remain.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from experiments.goal_conditioned import figure_6
from experiments.metaworld import figure_3, figure_7, figure_8, figure_9
from experiments.metaworld import figure_conflicts as conflicts
from experiments.metaworld import figure_tasks as tasks
from experiments.nyuv2 import figure_5
from experiments.triad import figure_4
from reporting import findings, overview
from reporting.figures import SEED_LINE, band, color, legend_above, side_by_side, stamp, style
from reporting.learning_curves import figure
from reporting.runs import metrics_below, read_runs

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
CURVES = {
    "figure_3": lambda runs: figure(figure_3.PANELS, runs),
    "figure_6": lambda runs: figure(figure_6.PANELS, runs),
    "figure_7": lambda runs: figure(figure_7.PANELS, runs),
    "figure_8": lambda runs: figure(figure_8.PANELS, runs),
    "figure_9": lambda runs: figure(figure_9.PANELS, runs),
    "conflicts": lambda runs: figure(conflicts.panels(runs), runs, columns=3),
    "tasks": lambda runs: figure(tasks.panels(runs), runs, columns=4),
}


def texts(fig):
    """Every text that is drawn: titles, labels, legends and the ticks inside the axes."""
    fig.draw_without_rendering()
    ticks, shown = set(), set()
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            ticks |= {tick.label1, tick.label2}
            if low - 1e-9 <= tick.get_loc() <= high + 1e-9 and axis.axes.axison:
                shown |= {tick.label1} if tick.label1.get_visible() else set()
    found = [t for t in fig.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [text for text in found if text not in ticks or text in shown]


def faults(fig):
    """Texts outside the canvas and pairs that overlap by more than a pixel."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(fig)]
    width, height = fig.bbox.width, fig.bbox.height
    outside = [
        name
        for name, box in boxes
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]
    over = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
    return outside + over


def published(scale, *experiments):
    paths = (path for name in experiments for path in metrics_below(PUBLISHED / scale, name))
    return read_runs(paths)


@pytest.mark.parametrize("scale", ["quick", "laptop"])
@pytest.mark.parametrize("name", CURVES)
def test_learning_curves_keep_their_text_apart_and_on_the_canvas(scale, name):
    fig = CURVES[name](published(scale, "metaworld_mt*", "goal_conditioned"))
    assert faults(fig) == []
    plt.close(fig)


def test_figures_4_and_5_keep_their_text_apart_and_on_the_canvas():
    for fig in (
        figure_4.figure_4(published("quick", "triad")),
        figure_4.figure_4(published("laptop", "triad")),
        figure_5.figure_5(published("quick", "nyuv2")),
    ):
        assert faults(fig) == []
        plt.close(fig)


@pytest.mark.parametrize("name", ["scoreboard", "paper_against_ours", "cost"])
def test_figures_over_all_results_keep_their_text_apart_and_on_the_canvas(name):
    results = findings.read(PUBLISHED.glob("*"))
    if name == "cost":
        fig = overview.cost(pd.read_csv(PUBLISHED / "benchmarks" / "speed_cpu.csv"))
    else:
        fig = getattr(overview, name)(results)
    assert faults(fig) == []
    plt.close(fig)


def test_the_scoreboard_has_a_square_for_every_claim_in_the_row_of_its_source():
    claims = findings.ledger(findings.read(PUBLISHED.glob("*")))
    subjects = [subject for column in overview.COLUMNS for subject in column]
    assert sorted(subjects) == sorted(overview.SUBJECTS)
    rows = overview.rows_of(claims, subjects)
    assert sum(len(found) for _, _, found in rows) == len(claims)
    table_2 = next(found for source, _, found in rows if source == "Table 2")
    assert sorted(table_2) == sorted(claims[claims["source"] == "Table 2"]["verdict"])
    # A source that no subject names is shown among ours.
    other = claims.assign(source="Ours, somewhere")
    assert [words for _, words, _ in overview.rows_of(other, subjects)][1:] == ["somewhere"]


def test_the_scoreboard_shows_the_verdicts_by_signs():
    claims = findings.ledger(findings.read(PUBLISHED.glob("*")))
    fig = overview.scoreboard(findings.read(PUBLISHED.glob("*")))
    shown = [text.get_text() for text in texts(fig)]
    signs = [overview.SIGNS[word][1] for word in claims["verdict"]]
    assert all(shown.count(sign) == signs.count(sign) for sign in set(signs))
    plt.close(fig)


def test_the_papers_numbers_are_shown_once_and_only_on_real_data():
    lines = overview.paper_numbers(findings.read(PUBLISHED.glob("*")))
    assert not lines.duplicated(["table", "method", "task", "metric"]).any()
    row = lines[(lines["table"] == "table_4") & (lines["method"] == "pcgrad")]
    assert row["scale"].unique().tolist() == ["laptop"]
    # Quick's data are generated.
    assert set(lines["table"]) == {"table_2", "table_4"}
    quick = [one for one in findings.read(PUBLISHED.glob("*")) if one.scale == "quick"]
    assert overview.paper_numbers(quick).empty
    assert [text.get_text() for text in texts(overview.paper_against_ours(quick))] == [
        "no real data at this scale"
    ]


def test_the_check_finds_a_cut_legend_and_a_label_over_another():
    style()
    fig, ax = plt.subplots(figsize=(2, 2))
    ax.text(0.5, 0.5, "one")
    ax.text(0.5, 0.5, "other")
    fig.text(0.9, 0.5, "a line that is longer than the rest of the figure")
    found = faults(fig)
    assert ("one", "other") in found
    assert any("longer" in str(fault) for fault in found)
    plt.close(fig)


def test_no_two_methods_of_a_panel_or_of_a_figure_share_a_color():
    modules = (figure_3, figure_6, figure_7, figure_8, figure_9, conflicts)
    for panels in (module.PANELS for module in modules):
        methods = {method for panel in panels for method in panel.methods}
        assert len({color(method) for method in methods}) == len(methods), methods
    methods = {method for few in tasks.METHODS.values() for method in few}
    assert len({color(method) for method in methods}) == len(methods)


@pytest.mark.parametrize("count", [2, 3])
def test_curves_that_coincide_lie_side_by_side(count):
    """The first is drawn on top; neighbors touch, none hides another, and the data stay."""
    style()
    fig, ax = plt.subplots()
    lines = [ax.plot([0, 1, 2], [0.5, 0.5, 0.5])[0] for _ in range(count)]
    ax.set_ylim(0, 1)
    side_by_side(fig, [[line] for line in lines])
    heights = [line.get_transform().transform((1, 0.5))[1] * 72 / fig.dpi for line in lines]
    assert np.diff(heights) == pytest.approx([-lines[0].get_linewidth()] * (count - 1))
    assert np.mean(heights) == pytest.approx(ax.transData.transform((1, 0.5))[1] * 72 / fig.dpi)
    assert all(list(line.get_ydata()) == [0.5] * 3 for line in lines)
    plt.close("all")


def test_few_seeds_are_thin_lines_and_five_a_shade(write_job):
    for seeds, thin, shades in ((1, 0, 0), (3, 3, 0), (5, 0, 1)):
        rows = {
            seed: [(k, "all", "success", 0.1 * seed + k) for k in (1, 2)] for seed in range(seeds)
        }
        runs = read_runs([write_job("metaworld_mt10", f"m{seeds}", rows)])
        _, ax = plt.subplots()
        band(ax, runs.frame, "sac")
        lines = [line for line in ax.lines if line.get_gid() == SEED_LINE]
        assert (len(lines), len(ax.collections)) == (thin, shades)
    plt.close("all")


def test_a_long_legend_and_a_long_stamp_are_wrapped():
    style()
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.set_axis_off()
    handles = [ax.plot([], [], label=f"a method with a long name {k}")[0] for k in range(5)]
    legend_above(fig, handles)
    stamp(fig, "quick", " · ".join(f"experiment {k}: 5 seeds, 600 samples" for k in range(4)))
    assert faults(fig) == []
    plt.close(fig)
