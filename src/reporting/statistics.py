"""Intervals, paired differences and the correction for several tests.

- Fewer than 3 seeds have no interval: nan.
- 3 to 9 seeds have a mean and Student's t interval. A percentile bootstrap of so few seeds is too
  narrow: with 3 seeds it covers 75% instead of 95%.
- 10 or more seeds have an interquartile mean and a bootstrap interval stratified by task.
- Costs have a median and a range, because their distribution is skewed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

# scipy.stats is loaded on first use, which tables of one seed avoid.
import scipy
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
LEAST_SEEDS = 3  # with 2 seeds, Student's t interval would be ±12.7 standard errors
BOOTSTRAP_SEEDS = 10  # smallest number of seeds for the bootstrap
RESAMPLES = 9_999
NAN = float("nan")


@dataclass(frozen=True)
class Interval:
    """A center with its interval.

    `p` is the two-sided p-value of the hypothesis that the center is 0; nan without an interval.
    """

    center: float
    low: float
    high: float
    seeds: int
    estimator: str  # "mean", "IQM" or "median"; a median has the range as low and high
    p: float


def interval(values: ArrayLike) -> Interval:
    """Center and interval of values of shape [seeds] or [tasks, seeds]."""
    table = np.atleast_2d(np.asarray(values, dtype=float))
    if table.ndim > 2 or table.size == 0:
        raise ValueError(
            f"interval: expected numbers [seeds] or [tasks, seeds], got shape {np.shape(values)}"
        )
    seeds = table.shape[1]
    # A run without a value must not drop out silently.
    if not np.isfinite(table).all():
        return Interval(NAN, NAN, NAN, seeds, "mean", NAN)
    if seeds < BOOTSTRAP_SEEDS:
        return _student(table.mean(axis=0))
    return _bootstrap(table)


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half of all values."""
    return float(scipy.stats.trim_mean(np.asarray(values, dtype=float), 0.25, axis=None))


def _student(values: NDArray[np.float64]) -> Interval:
    """Student's t interval mean ± t_{n−1} s/√n; nan for fewer than three seeds."""
    seeds, center = len(values), float(values.mean())
    if seeds < LEAST_SEEDS:
        return Interval(center, NAN, NAN, seeds, "mean", NAN)
    # With equal values scipy would divide 0 by 0.
    if np.ptp(values) == 0:
        return Interval(center, center, center, seeds, "mean", float(center == 0))
    result = scipy.stats.ttest_1samp(values, 0.0)
    bounds = result.confidence_interval(LEVEL)
    return Interval(
        center, float(bounds.low), float(bounds.high), seeds, "mean", float(result.pvalue)
    )


def _bootstrap(table: NDArray[np.float64]) -> Interval:
    """IQM with a percentile bootstrap that resamples the seeds within every task (stratum)."""
    center = iqm(table)
    result = scipy.stats.bootstrap(
        tuple(table),
        lambda *tasks, axis=-1: scipy.stats.trim_mean(
            np.concatenate(tasks, axis=axis), 0.25, axis=axis
        ),
        confidence_level=LEVEL,
        method="percentile",
        n_resamples=RESAMPLES,
        # A fixed seed makes the interval a function of the data alone.
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    draws = result.bootstrap_distribution
    tail = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    # The added ones keep p above 0: finitely many resamples cannot exclude the other side.
    p = min(1.0, 2 * (tail + 1) / (draws.size + 1))
    return Interval(center, float(low), float(high), table.shape[1], "IQM", p)


def spread(values: ArrayLike) -> Interval:
    """Median and range over seeds, for costs."""
    table = np.asarray(values, dtype=float)
    low, high = (float(table.min()), float(table.max())) if table.size > 1 else (NAN, NAN)
    return Interval(float(np.median(table)), low, high, table.size, "median", NAN)


def bounded(found: Interval, low: float, high: float) -> Interval:
    """Cut the interval of a quantity with values in [low, high], for example a share in [0, 1].

    The mean is in [low, high] too, so the cut keeps the coverage. If all seeds are on a bound,
    Student's t interval has width zero; its other end is then Clopper and Pearson's.
    """
    if found.low == found.high and found.center in (low, high) and np.isfinite([low, high]).all():
        # Clopper and Pearson's end for n successes in n trials is (α/2)^(1/n).
        reach = (high - low) * (1 - ((1 - LEVEL) / 2) ** (1 / found.seeds))
        ends = (low, low + reach) if found.center == low else (high - reach, high)
        return replace(found, low=ends[0], high=ends[1])
    return clipped(found, low, high)


def clipped(found: Interval, low: float, high: float) -> Interval:
    """Cut the interval at the ends of the values that the quantity can take; nan stays nan."""
    ends = np.clip([found.low, found.high], low, high)
    return replace(found, low=float(ends[0]), high=float(ends[1]))


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> Interval:
    """Interval of left − right over the seeds that both have.

    Raises:
        ValueError: They share no seed.
    """
    shared = sorted(set(left) & set(right))
    if not shared:
        raise ValueError(
            "paired difference: the two methods have no seed in common; "
            "train both on the same seeds"
        )
    return interval([left[seed] - right[seed] for seed in shared])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order.

    A nan stays nan and does not count as a test.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if not np.isnan(p))
    adjusted, floor = [NAN] * len(p_values), 0.0
    for rank, (p, index) in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * p))
        adjusted[index] = floor
    return adjusted
