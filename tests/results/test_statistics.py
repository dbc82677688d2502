from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_mentormix.results.statistics import (
    MIN_STDEV,
    ConfidenceInterval,
    confidence_interval,
    paired_differences,
    paired_t_test_p_value,
)

# Student's own data (1908, "The Probable Error of a Mean"): hours of sleep gained under two drugs, ten patients.
# R's t.test(paired = TRUE) gives the mean 1.58, the 95 % interval 0.7001142 … 2.4598858 and p = 0.002833 two-sided.
FIRST_DRUG = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND_DRUG = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
GAINS = paired_differences(dict(enumerate(SECOND_DRUG)), dict(enumerate(FIRST_DRUG)))


def test_the_interval_of_students_own_data_is_the_published_one() -> None:
    interval = confidence_interval(GAINS)
    assert interval.n == 10
    assert [interval.mean, interval.low, interval.high] == pytest.approx([1.58, 0.7001142, 2.4598858])
    assert interval.is_above_zero


def test_the_paired_test_of_students_own_data_gives_the_published_chance() -> None:
    assert paired_t_test_p_value(GAINS) == pytest.approx(0.002833 / 2, rel=1e-3)
    assert paired_t_test_p_value([-gain for gain in GAINS]) == pytest.approx(1 - 0.002833 / 2, rel=1e-3)


def test_only_seeds_that_both_ran_on_are_compared() -> None:
    assert paired_differences({1: 0.5, 2: 0.75, 3: 0.25}, {3: 0.0, 2: 0.5, 9: 1.0}) == [0.25, 0.25]


def test_of_a_single_run_no_spread_is_known() -> None:
    interval = confidence_interval([0.6])
    assert interval == ConfidenceInterval(0.6, None, 1)
    assert (interval.low, interval.high) == (None, None)
    assert not interval.is_above_zero
    assert not interval.is_below_zero


@pytest.mark.parametrize("values", [[0.6], [0.01, 0.01], [0.1 + 0.2, 0.3]])
def test_values_without_spread_have_no_interval(values: list[float]) -> None:
    interval = confidence_interval(values)
    assert (interval.low, interval.high, interval.n) == (None, None, len(values))
    assert not interval.is_above_zero


def test_differences_without_spread_prove_nothing() -> None:
    assert paired_t_test_p_value([0.1, 0.1, 0.1]) == 1
    assert paired_t_test_p_value([0.1]) == 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_a_mean_lies_within_its_interval(values: list[float]) -> None:
    interval = confidence_interval(values)
    low, high = interval.low, interval.high
    assert (low is None) == (high is None) == (stdev(values) < MIN_STDEV)
    assert low is None or high is None or low <= interval.mean <= high
