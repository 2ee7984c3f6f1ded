"""Intervals against closed forms, scipy and simulation; Holm against a worked example."""

import numpy as np
import pytest
from scipy import stats

from reporting.statistics import bounded, holm, interval, iqm, paired, spread


def test_student_interval_is_the_textbook_formula():
    values = [96.1, 95.4, 96.8]
    half = (
        4.302652729911275 * np.std(values, ddof=1) / np.sqrt(3)
    )  # t_{0.975} with 2 degrees of freedom
    found = interval(values)
    assert found.center == pytest.approx(np.mean(values), rel=1e-12)
    assert (found.low, found.high) == pytest.approx(
        (found.center - half, found.center + half), rel=1e-10
    )
    assert (found.seeds, found.estimator) == (3, "mean")
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_p_value_and_interval_agree_about_zero():
    for values in ([0.3, 0.5, 0.1, 0.4], [0.3, -0.5, 0.1, 0.4], [-0.3, -0.31, -0.29]):
        found = interval(values)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("values", [[3.0], [2.0, 4.0]])
def test_fewer_than_three_seeds_have_no_interval(values):
    found = interval(values)
    assert found.center == 3.0
    assert np.isnan([found.low, found.high, found.p]).all()


def test_a_bounded_quantity_keeps_its_bounds():
    found = interval([0.0, 1.0, 1.0])
    assert found.high > 1  # Student's t knows no bounds
    cut = bounded(found, 0.0, 1.0)
    assert (cut.low, cut.high, cut.center) == (0.0, 1.0, found.center)
    inside = interval([0.4, 0.5, 0.6])
    assert bounded(inside, 0.0, 1.0) == inside


@pytest.mark.parametrize(("value", "ends"), [(1.0, (0.4782, 1.0)), (0.0, (0.0, 0.5218))])
def test_seeds_that_all_sit_on_a_bound_have_clopper_and_pearsons_interval(value, ends):
    found = bounded(interval([value] * 5), 0.0, 1.0)
    exact = stats.binomtest(round(5 * value), 5).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-4)


def test_costs_have_a_median_and_their_range():
    found = spread([700.0, 500.0, 5000.0])
    assert (found.center, found.low, found.high) == (700.0, 500.0, 5000.0)
    assert (found.estimator, found.seeds) == ("median", 3)


def test_a_nan_run_does_not_drop_out():
    found = interval([1.0, float("nan"), 2.0])
    assert np.isnan(found.center)
    assert found.seeds == 3


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.7, 0.0)])
def test_equal_seeds_give_a_point(value, p):
    found = interval([value] * 4)
    assert (found.center, found.low, found.high, found.p) == (value, value, value, p)


@pytest.mark.parametrize("bad", [[], np.zeros((2, 2, 2))])
def test_no_numbers_is_an_error(bad):
    with pytest.raises(ValueError, match="shape"):
        interval(bad)


def test_nine_seeds_use_student_ten_the_bootstrap():
    values = np.random.default_rng(1).normal(size=10)
    assert interval(values[:9]).estimator == "mean"
    ten = interval(values)
    assert ten.estimator == "IQM"
    # 25% of 10 values is 2.5: two are cut on each side.
    assert ten.center == pytest.approx(np.sort(values)[2:8].mean(), rel=1e-12)


def test_iqm_ignores_outliers():
    assert iqm([0, 1, 2, 100]) == 1.5


def test_bootstrap_is_deterministic_and_stratified_by_task():
    # The tasks lie far apart: a bootstrap over all numbers together would swing between them.
    generator = np.random.default_rng(2)
    table = np.stack([generator.normal(0, 0.1, 12), generator.normal(100, 0.1, 12)])
    found, again = interval(table), interval(table)
    assert found == again
    pooled = stats.bootstrap(
        (table.ravel(),), iqm, vectorized=False, n_resamples=500, rng=0, method="percentile"
    )
    assert found.high - found.low < 0.5 * (
        pooled.confidence_interval.high - pooled.confidence_interval.low
    )
    assert found.low <= found.center <= found.high
    assert found.p <= 2 / 9_999


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.93), (5, 0.93)])
def test_student_interval_covers(seeds, least):
    generator = np.random.default_rng(3)
    hits = [_covers(interval(generator.normal(2.0, 3.0, seeds)), 2.0) for _ in range(600)]
    assert least <= np.mean(hits) <= 0.97


def test_bootstrap_interval_covers_nearly():
    # 0.95 is the aim; a percentile bootstrap of 10 seeds reaches about 0.9, which is why it starts
    # no earlier.
    generator = np.random.default_rng(4)
    hits = [_covers(interval(generator.normal(2.0, 3.0, 10)), 2.0) for _ in range(120)]
    assert 0.84 <= np.mean(hits) <= 0.99


def _covers(found, truth):
    return found.low <= truth <= found.high


def test_paired_takes_differences_by_seed():
    left, right = {0: 1.0, 1: 5.0, 2: 9.0, 7: 50.0}, {2: 8.0, 1: 4.5, 0: 0.0, 8: -50.0}
    found = paired(left, right)
    assert found == interval([1.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="no seed in common"):
        paired({0: 1.0}, {1: 1.0})


def test_holm_worked_example():
    # sorted .005 .01 .03 .04, factors 4 3 2 1: .02 .03 .06 .04 -> running maximum .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_holm_does_not_count_tests_without_a_p_value():
    adjusted = holm([0.03, float("nan")])
    assert adjusted[0] == pytest.approx(0.03)
    assert np.isnan(adjusted[1])
