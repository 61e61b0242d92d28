"""Intervals and numbers of seeds against SciPy's tests, published numbers and drawn samples."""

import math

import numpy as np
import pytest
from scipy import stats

from visir.bench.statistics import (
    mean_interval,
    paired_difference,
    seeds_needed,
    unpaired_difference,
)

RNG = np.random.default_rng(5)
FIRST, SECOND = RNG.normal(30, 4, 6), RNG.normal(28, 2, 6)


def test_intervals_are_those_of_the_tests():
    of = paired_difference(FIRST, SECOND)
    expected = stats.ttest_rel(FIRST, SECOND).confidence_interval()
    assert (of.low, of.high) == pytest.approx((expected.low, expected.high))
    assert of.mean == pytest.approx((FIRST - SECOND).mean())
    assert of.sd == pytest.approx((FIRST - SECOND).std(ddof=1)) and of.count == 6
    welch = unpaired_difference(FIRST, SECOND[:4])
    expected = stats.ttest_ind(FIRST, SECOND[:4], equal_var=False).confidence_interval()
    assert (welch.low, welch.high) == pytest.approx((expected.low, expected.high))
    assert welch.sd is None


def test_by_hand():
    of = mean_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # t of .975 with two degrees of freedom
    assert (of.mean, of.sd) == (2, 1)
    assert (of.low, of.high) == pytest.approx((2 - half, 2 + half))


def test_one_value_has_no_interval_and_equal_values_have_none_to_speak_of():
    alone = mean_interval([3.0])
    assert (alone.mean, alone.low, alone.high, alone.sd) == (3, None, None, None)
    assert unpaired_difference([3.0], [1.0, 2.0]).low is None
    same = mean_interval([3.0, 3.0])
    assert (same.low, same.high, same.sd) == (3, 3, 0)
    assert unpaired_difference([3.0, 3.0], [1.0, 1.0]).high == 2


@pytest.mark.parametrize(("ratio", "count"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_are_those_of_published_tables(ratio, count):
    """Paired t test, two-sided .05, power .8 (G*Power 3.1)."""
    assert seeds_needed(2.0, 2.0 * ratio) == seeds_needed(2.0, -2.0 * ratio) == count
    assert count > ((1.959964 + 0.841621) / ratio) ** 2  # the normal approximation is too few


def test_drawn_samples_of_that_many_seeds_have_the_power():
    count = seeds_needed(1.0, 0.9)
    drawn = np.random.default_rng(0).normal(0.9, 1.0, (20_000, count))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(
        0.82, abs=0.03
    )
    fewer = drawn[:, : count - 2]
    assert (stats.ttest_1samp(fewer, 0, axis=1).pvalue < 0.05).mean() < 0.79


def test_limits_of_the_number_of_seeds():
    assert seeds_needed(1.0, 0.0) is None
    assert seeds_needed(0.0, 1.0) == 2
    assert seeds_needed(1.0, 0.001) == pytest.approx(2.8016**2 * 1e6, rel=1e-3)
