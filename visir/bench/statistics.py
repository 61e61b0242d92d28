"""Intervals of means and of differences, and how many seeds a difference needs to be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL, POWER = 0.95, 0.8
_REFINED = 100_000  # seeds, beyond which the normal and the t distribution agree


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    mean: or the median (`median`); low and high: None for fewer than two values; sd: sample
    standard deviation of the values, or of the differences, None for fewer than two or if they are
    not paired; count: of values.
    """

    mean: float
    low: float | None
    high: float | None
    sd: float | None
    count: int


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of independent values with its t interval.

    Args:
        values: at least one.
    """
    array = np.asarray(values, np.float64)
    mean, count = float(array.mean()), len(array)
    if count < 2:
        return Interval(mean, None, None, None, count)
    sd = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * sd / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, sd, count)


def median(values: Sequence[float]) -> Interval:
    """The median, without an interval: for what other work on the machine can multiply.

    Args:
        values: at least one.
    """
    return Interval(float(np.median(values)), None, None, None, len(values))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The mean of first - second, pair by pair, with its t interval.

    Args:
        first: values, at least one.
        second: as many, in the same order.
    """
    return mean_interval(np.subtract(first, second).tolist())


def unpaired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The difference of the means of independent samples with Welch's t interval.

    Args:
        first: values, at least one.
        second: values, at least one.
    """
    mean = float(np.mean(first) - np.mean(second))
    count = min(len(first), len(second))
    if count < 2:
        return Interval(mean, None, None, None, count)
    if not np.std(first) and not np.std(second):
        return Interval(mean, mean, mean, None, count)
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(LEVEL)
    return Interval(mean, float(found.low), float(found.high), None, count)


def seeds_needed(sd: float, effect: float) -> int | None:
    """Pairs of trainings with which a paired two-sided t test sees an effect in 80 % of cases.

    The normal distribution gives n = ((z_.975 + z_.8) sd / effect)²; the power of the t test at n,
    from the noncentral t distribution, then raises it.

    Args:
        sd: standard deviation of the differences.
        effect: mean difference, in the same unit.

    Returns:
        At least 2; None for an effect of 0, which no number of seeds shows.
    """
    if effect == 0:
        return None
    ratio = abs(effect) / sd if sd else math.inf
    if math.isinf(ratio):
        return 2
    normal = stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER)
    count = max(2, math.ceil((normal / ratio) ** 2))
    while count < _REFINED and _power(count, ratio) < POWER:
        count += 1
    return count


def _power(count: int, ratio: float) -> float:
    """Of the two-sided paired t test at an effect of `ratio` standard deviations."""
    limit = stats.t.ppf((1 + LEVEL) / 2, count - 1)
    shift = ratio * math.sqrt(count)
    above = stats.nct.sf(limit, count - 1, shift)
    below = stats.nct.cdf(-limit, count - 1, shift)
    return float(above) + float(below)
