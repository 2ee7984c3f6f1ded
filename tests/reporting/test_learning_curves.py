"""A panel of learning curves: which metric, against which steps, inside which limits."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from reporting.figures import SEED_LINE, color
from reporting.learning_curves import (
    SMOOTH,
    Panel,
    curve,
    draw,
    figure,
    measured,
    middle,
    note,
)
from reporting.runs import read_runs

PANEL = Panel("metaworld_mt10", "MT10", ("sac", "sac_pcgrad", "cosreg"))
SETTINGS = {"samples_per_collection": 600, "updates_per_collection": 7}


def job(write_job, method, values, *, metric="success", seeds=(0, 1), experiment="metaworld_mt10"):
    """Seed s has values + s / 100; a warm-up at step 0 has no environment steps."""
    rows = {}
    for seed in seeds:
        rows[seed] = [(0, "all", metric, -5.0)]
        rows[seed] += [
            (k, "all", metric, value + seed / 100) for k, value in enumerate(values, start=1)
        ]
        rows[seed] += [
            (k, "all", "environment_steps", 100.0 * k + 7) for k in range(1, len(values) + 1)
        ]
    return write_job(experiment, method, rows, settings=SETTINGS)


def drawn(runs, panel=PANEL):
    """The axes of one panel and the methods in it."""
    fig, ax = plt.subplots()
    present = draw(ax, panel, runs)
    plt.close(fig)
    return ax, present


def whole(ax):
    """The lines that are not one seed's."""
    return [line for line in ax.get_lines() if line.get_gid() != SEED_LINE]


def test_the_evaluated_metric_counts_where_there_is_one(write_job):
    training = read_runs([job(write_job, "sac", [0.5])])
    assert measured(training, "success") == "success"
    both = read_runs(
        [
            job(write_job, "sac", [0.5]),
            job(write_job, "sac_pcgrad", [0.6], metric="evaluation_success"),
        ]
    )
    assert measured(both, "success") == "evaluation_success"
    assert drawn(both)[1] == ["sac_pcgrad"]  # never two metrics in one panel


def test_a_curve_is_against_environment_steps_without_the_warm_up(write_job):
    found = curve(read_runs([job(write_job, "sac", [0.1, 0.2])]), "sac", "all", "success")
    assert found["steps"].tolist() == [107.0, 207.0, 107.0, 207.0]
    assert found["value"].tolist() == pytest.approx([0.1, 0.2, 0.11, 0.21])


def test_the_middle_is_over_tasks_and_seeds_and_drawn_where_a_mean_over_tasks_is(write_job):
    values = {"a": [0.0, 0.0], "b": [0.2, 0.4], "c": [0.4, 0.6], "d": [1.0, 1.0]}
    rows = {}
    for seed in (0, 1):
        rows[seed] = [
            (k, task, "success", v)
            for task, few in values.items()
            for k, v in enumerate(few, start=1)
        ]
        rows[seed] += [(k, "all", "success", 0.4) for k in (1, 2)]
        rows[seed] += [(k, "all", "environment_steps", 100.0 * k) for k in (1, 2)]
    runs = read_runs([write_job("metaworld_mt10", "sac", rows, settings=SETTINGS)])
    found = middle(runs, "sac", "success")
    assert found["steps"].tolist() == [100.0, 200.0]
    assert found["value"].tolist() == pytest.approx(
        [0.3, (0.3 + 0.5) / 2]
    )  # running means of b and c; a and d are cut
    (mean, inner) = whole(drawn(runs)[0])
    assert (mean.get_linestyle(), inner.get_linestyle()) == ("-", "--")
    assert list(inner.get_ydata()) == pytest.approx(found["value"].tolist())
    (one,) = whole(drawn(runs, Panel("metaworld_mt10", "a", ("sac",), task="a"))[0])
    assert one.get_linestyle() == "-"


def test_runs_of_another_experiment_stay_out(write_job):
    runs = read_runs(
        [job(write_job, "sac", [0.1]), job(write_job, "cosreg", [0.1], experiment="metaworld_mt3")]
    )
    assert drawn(runs)[1] == ["sac"]


def test_dots_where_collections_are_few_and_a_running_mean_over_ten(write_job):
    few, _ = drawn(read_runs([job(write_job, "sac", [0.0, 1.0])]))
    assert few.get_lines()[0].get_marker() == "."
    values = [0.0] * 5 + [1.0] * 15
    many, _ = drawn(read_runs([job(write_job, "sac", values)]))
    line = many.get_lines()[0]
    assert line.get_marker() != "."
    assert line.get_ydata()[9] == pytest.approx(0.5 + 0.005)
    assert line.get_ydata()[5 + SMOOTH - 1] == pytest.approx(1.0 + 0.005)


def test_one_seed_has_no_shade(write_job):
    ax, _ = drawn(read_runs([job(write_job, "sac", [0.1, 0.2], seeds=(0,))]))
    assert not ax.collections


def test_two_methods_show_every_seed_and_more_a_shade(write_job):
    for count, shades, thin in ((2, 0, 10), (3, 3, 0)):
        jobs = [
            job(write_job, method, [0.1, 0.2], seeds=range(5)) for method in PANEL.methods[:count]
        ]
        ax, _ = drawn(read_runs(jobs))
        assert len(ax.collections) == shades
        assert sum(line.get_gid() == SEED_LINE for line in ax.get_lines()) == thin


def test_a_single_seed_beside_two_methods_leaves_their_seeds_visible(write_job):
    jobs = [job(write_job, m, [0.1, 0.2], seeds=range(5)) for m in ("sac", "sac_pcgrad")]
    ax, present = drawn(read_runs([*jobs, job(write_job, "cosreg", [0.5, 0.5], seeds=(0,))]))
    assert present == ["sac", "sac_pcgrad", "cosreg"]
    assert not ax.collections
    assert sum(line.get_gid() == SEED_LINE for line in ax.get_lines()) == 10


@pytest.mark.parametrize(
    ("value", "seeds", "end"), [(0.0, (0, 1, 2, 3, 40), 0.0), (0.6, (0, 37, 38, 39, 40), 1.0)]
)
def test_intervals_end_at_possible_values(write_job, value, seeds, end):
    jobs = [job(write_job, method, [value, value], seeds=seeds) for method in PANEL.methods]
    ax, _ = drawn(read_runs(jobs))
    heights = [shade.get_paths()[0].vertices[:, 1] for shade in ax.collections]
    assert len(heights) == len(PANEL.methods)
    assert all(end in here for here in heights)
    assert all(min(here) >= 0 and max(here) <= 1 for here in heights)


def test_curves_at_zero_and_at_the_top_lie_inside_the_frame(write_job):
    ax, _ = drawn(
        read_runs(
            [job(write_job, "sac", [0.0, 0.0], seeds=(0,)), job(write_job, "cosreg", [1.0, 1.0])]
        )
    )
    low, high = ax.get_ylim()
    assert low < 0
    assert high > 1
    distances = Panel("metaworld_mt10", "", ("sac",), metric="distance", limits=(0.0, None))
    ax, _ = drawn(
        read_runs([job(write_job, "sac", [0.300, 0.299], metric="distance", seeds=(0,))]), distances
    )
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] == pytest.approx(1.08 * 0.3)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_distances_without_a_height_still_have_an_axis(write_job, value):
    panel = Panel("metaworld_mt10", "", ("sac",), metric="distance", limits=(0.0, None))
    ax, _ = drawn(
        read_runs([job(write_job, "sac", [value, value], metric="distance", seeds=(0,))]), panel
    )
    assert ax.get_ylim()[1] > 0


def test_only_methods_with_runs_are_in_the_legend_and_the_stamp_counts_seeds(write_job):
    runs = read_runs([job(write_job, "sac", [0.1, 0.2]), job(write_job, "sac_pcgrad", [0.1, 0.2])])
    panel = Panel("metaworld_mt10", "MT10", PANEL.methods, paper="MT50")
    fig = figure((panel, Panel("metaworld_mt50", "MT50", ("independent",))), runs)
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "SAC",
        "SAC + PCGrad",
        "one seed",
    ]
    assert [text.get_text() for text in fig.axes[0].texts] == [
        "paper at\n20M: < 0.5",
        "paper at\n20M: 0.7",
    ]
    paper = [line for line in fig.axes[0].get_lines() if list(line.get_ydata()) == [0.7, 0.7]]
    assert [line.get_color() for line in paper] == [color("sac_pcgrad")]
    assert len(fig.axes) == 1  # a panel without runs is left out
    assert "mt10: 2 seeds, 600 samples and 7 updates" in fig.get_supxlabel()
    assert note([]) == ""


def test_a_figure_without_runs_says_so():
    fig = figure((PANEL, Panel("metaworld_mt50", "MT50", ("independent",))), read_runs([]))
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.texts] == ["no runs at this scale"]
    assert not ax.get_xticks().size  # no steps, no numbers of steps
    assert not fig.get_supxlabel()  # no runs, no scale


def test_one_of_two_compared_methods_is_no_comparison(write_job):
    """A figure once drew the other method alone, and counted seeds below empty axes."""
    runs = read_runs([job(write_job, "sac", [0.1, 0.2]), job(write_job, "cosreg", [0.1, 0.2])])
    cases = {
        ("sac", "sac_pcgrad"): "no runs at this scale\nof SAC + PCGrad",
        ("multihead_sac", "multihead_sac_pcgrad"): "no runs at this scale",
    }
    for methods, words in cases.items():
        fig = figure((Panel("metaworld_mt10", "MT10", methods, paper="MT10"),), runs)
        (ax,) = fig.axes
        assert not ax.get_lines()
        assert [text.get_text() for text in ax.texts] == [words]
        assert fig.get_supxlabel() == "scale: laptop"
        assert not fig.legends


def test_the_stamp_counts_only_the_seeds_of_methods_that_are_drawn(write_job):
    runs = read_runs(
        [
            job(write_job, "sac", [0.1], seeds=(0,)),
            job(write_job, "sac_pcgrad", [0.1], seeds=(0, 1, 2)),
            job(write_job, "gradnorm", [0.1], seeds=range(9)),
        ]
    )
    assert "mt10: 1 to 3 seeds, 600 samples" in figure((PANEL,), runs).get_supxlabel()
