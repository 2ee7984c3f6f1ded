"""The style, deterministic files, bands."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from reporting import figures, labels
from reporting.statistics import interval


def curves(seeds=3, steps=4):
    generator = np.random.default_rng(0)
    rows = [
        (seed, step, step + generator.normal()) for seed in range(seeds) for step in range(steps)
    ]
    return pd.DataFrame(rows, columns=["seed", "step", "value"])


def draw():
    figures.style()
    fig, ax = plt.subplots(figsize=(3, 2))
    figures.band(ax, curves(), "pcgrad")
    ax.legend()
    figures.stamp(fig, "quick", "3 seeds")
    return fig


def test_same_figure_same_bytes(tmp_path):
    for name in ("a", "b"):
        figures.save(
            draw(), png=tmp_path / "new" / f"{name}.png", pdf=tmp_path / "new" / f"{name}.pdf"
        )
    for kind in ("png", "pdf"):
        first, second = ((tmp_path / "new" / f"{name}.{kind}").read_bytes() for name in "ab")
        assert first == second
        assert not any(
            word in first for word in (b"CreationDate", b"Matplotlib v", b"matplotlib.org")
        )


def test_band_draws_mean_and_interval():
    figures.style()
    _, ax = plt.subplots()
    frame = curves(seeds=5)
    drawn = figures.band(ax, frame, "pcgrad")
    expected = interval(frame[frame.step == 2]["value"])
    row = drawn[drawn.step == 2].iloc[0]
    assert (row.center, row.low, row.high, row.seeds) == (
        expected.center,
        expected.low,
        expected.high,
        5,
    )
    np.testing.assert_allclose(ax.lines[0].get_ydata(), drawn["center"])
    assert ax.lines[0].get_color() == figures.COLORS["pcgrad"]
    assert len(ax.collections) == 1
    plt.close("all")


def test_one_seed_is_a_line_without_shade():
    figures.style()
    _, ax = plt.subplots()
    figures.band(ax, curves(seeds=1), "sum")
    assert len(ax.lines) == 1
    assert not ax.collections
    plt.close("all")


def test_undefined_points_are_skipped_not_drawn_as_zero():
    frame = curves(seeds=2, steps=2)
    frame.loc[(frame.step == 1) & (frame.seed == 0), "value"] = np.nan
    frame.loc[frame.step == 0, "value"] = np.nan
    drawn = figures.intervals(frame)
    assert drawn["step"].tolist() == [1]
    assert drawn["seeds"].tolist() == [1]


def test_smoothing_is_a_running_mean_per_seed():
    figures.style()
    _, ax = plt.subplots()
    frame = pd.DataFrame(
        [(0, 1, 2.0), (0, 2, 4.0), (1, 1, 10.0), (1, 2, 20.0)], columns=["seed", "step", "value"]
    )
    drawn = figures.band(ax, frame, "sum", smooth=2)
    assert drawn["center"].tolist() == [6.0, (3.0 + 15.0) / 2]
    plt.close("all")


def test_several_values_of_a_seed_are_refused():
    with pytest.raises(ValueError, match="several values"):
        figures.intervals(pd.concat([curves(), curves()]))


def test_every_method_with_a_color_has_a_label():
    """Rows that only tables show need no color."""
    assert set(figures.COLORS) <= set(labels.LABELS)
    assert figures.color("pcgrad") != figures.color("sum")
    with pytest.raises(KeyError):
        figures.color("unknown")
    table_4 = ["single_task", "sum", "uncertainty", "mgda", "pcgrad", "direction_only"]
    assert len({figures.color(method) for method in table_4}) == 6
