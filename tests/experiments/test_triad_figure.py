"""Figure 4 draws what the runs hold."""

import numpy as np
import pandas as pd
import pytest

from experiments.triad import figure_4
from reporting.runs import Runs, read_runs

TASKS = ["reach-v3", "button-press-topdown-v3"]
SETTINGS = {
    "tasks": TASKS,
    "collections": 12,
    "samples_per_collection": 150,
    "updates_per_collection": 5,
}


def runs(seeds=(0, 1, 2)) -> Runs:
    """Curvature 10^step for the critics, its negative for the actor; shares and returns that depend
    on the method.
    """
    rows = []
    for method, sign in (("sac", 1), ("sac_pcgrad", 2)):
        for seed in seeds:
            for step in range(1, 13):
                for network in figure_4.NETWORKS:
                    size = (
                        (-1 if network == "actor" else 1)
                        * sign
                        * 10.0 ** (step / 3)
                        * (1 + seed / 10)
                    )
                    for form, factor in (("remainder", 1.0), ("definition3", 1.1)):
                        rows.append(
                            (
                                method,
                                seed,
                                step,
                                "all",
                                f"curvature_{form}_{network}",
                                factor * size,
                            )
                        )
                    rows.append(
                        (method, seed, step, "all", f"cosine_positive_share_{network}", 0.5)
                    )
                    if step > 2:  # before, nothing conflicts: the shares are undefined
                        rows.append(
                            (method, seed, step, "all", f"condition_a_share_{network}", 0.4 * sign)
                        )
                        rows.append(
                            (method, seed, step, "all", f"xi_le_1_share_{network}", 0.3 * sign)
                        )
                for number, task in enumerate(TASKS):
                    rows.append((method, seed, step, task, "return", 1000.0 * (1 - number) + sign))
    frame = pd.DataFrame(rows, columns=["method", "seed", "step", "task", "metric", "value"])
    frame.insert(0, "experiment", "triad")
    common = {"experiment": "triad", "scale": "quick", "settings": SETTINGS, "seeds": list(seeds)}
    return Runs(frame, [{**common, "method": method} for method in ("sac", "sac_pcgrad")])


def lines(ax, style):
    """The thick line of each method."""
    found = [
        line
        for line in ax.get_lines()
        if line.get_linestyle() == style and line.get_linewidth() > 1
    ]
    return {line.get_color(): line for line in found}


def test_panels_hold_the_numbers_of_the_runs():
    fig = figure_4.figure_4(runs())
    left, middle, reach, button = fig.axes
    blue, vermilion = figure_4.color("sac"), figure_4.color("sac_pcgrad")
    critics, actor = lines(left, "-"), lines(left, "--")
    # The first point of the running mean is the first collection; on the asinh scale, its mean over
    # seeds.
    expected = np.mean([np.arcsinh(10 ** (1 / 3) * f / figure_4.LINEAR) for f in (1.0, 1.1, 1.2)])
    assert critics[blue].get_ydata()[0] == pytest.approx(expected)
    assert actor[blue].get_ydata()[0] == pytest.approx(-expected)
    assert (critics[vermilion].get_ydata() > critics[blue].get_ydata()).all()
    shares = {style: lines(middle, style) for style in ("-", "--", ":")}
    assert shares["-"][blue].get_ydata() == pytest.approx(50.0)
    assert shares["--"][blue].get_ydata() == pytest.approx(40.0)
    assert shares[":"][vermilion].get_ydata() == pytest.approx(60.0)
    assert shares["--"][blue].get_xdata().min() == 3
    assert lines(reach, "-")[vermilion].get_ydata() == pytest.approx(1002.0)
    assert lines(button, "-")[blue].get_ydata() == pytest.approx(1.0)
    assert "button-press-topdown" in button.get_title()
    assert (reach.get_yscale(), button.get_yscale()) == ("linear", "symlog")
    assert button.get_ylabel() == "log beyond ±100"


def test_every_seed_is_a_thin_line_inside_the_axis():
    material = runs()
    one = (material.frame["metric"] == "return") & (material.frame["seed"] == 1)
    material.frame.loc[one, "value"] += 7.0
    reach = figure_4.figure_4(material).axes[2]
    thin = [line for line in reach.get_lines() if line.get_linewidth() < 1]
    assert sorted(line.get_ydata()[0] for line in thin) == pytest.approx(
        [1001, 1001, 1002, 1002, 1008, 1009]
    )
    assert reach.get_ylim()[0] < 1001
    assert reach.get_ylim()[1] > 1009


def test_one_seed_draws_no_interval():
    assert not any(ax.collections for ax in figure_4.figure_4(runs(seeds=(0,))).axes)
    left, middle, *returns = figure_4.figure_4(runs(seeds=range(5))).axes
    assert left.collections
    assert middle.collections
    # Returns show every seed instead, however many there are.
    for ax in returns:
        assert not ax.collections
        assert sum(line.get_linewidth() < 1 for line in ax.get_lines()) == 2 * 5


def test_intervals_of_shares_end_at_0_and_100():
    material = runs(seeds=range(5))
    high = material.frame["metric"].str.startswith("cosine_positive_share")
    material.frame.loc[high & (material.frame["seed"] > 0), "value"] = 1.0
    middle = figure_4.figure_4(material).axes[1]
    tops = [shade.get_paths()[0].vertices[:, 1].max() for shade in middle.collections]
    assert max(tops) == pytest.approx(100.0)


def test_definition_3_is_drawn_with_its_own_numbers():
    left = figure_4.figure_4(runs()).axes[0]
    circles = [line for line in left.get_lines() if line.get_marker() == "o"]
    line = lines(left, "-")[figure_4.color("sac")]
    at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    first = next(
        c for c in circles if c.get_color() == figure_4.color("sac") and c.get_ydata()[0] > 0
    )
    for step, value in zip(first.get_xdata(), first.get_ydata(), strict=True):
        assert np.sinh(value) == pytest.approx(1.1 * np.sinh(at[step]), rel=2e-3)


def test_stamp_says_scale_and_sizes():
    fig = figure_4.figure_4(runs())
    words = fig.get_supxlabel()
    assert all(word in words for word in ("quick", "5 updates per collection", "3 seeds"))


def test_without_runs_the_figure_says_so():
    fig = figure_4.figure_4(read_runs([]))
    assert [text.get_text() for text in fig.axes[0].texts] == ["no runs at this scale"]
