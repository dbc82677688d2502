from statistics import stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tune_mentormix.results.statistics import (
    MIN_STDEV,
    ConfidenceInterval,
    confidence_interval,
    max_leads_by_chance,
    paired_differences,
    paired_standard_error,
    paired_t_test_p_value,
    turning_point,
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


def differences(pairs: int, images: int, discordant: float, generator: np.random.Generator) -> NDArray[np.int8]:
    """Trials that are equally good against another: each redraws its answer on a part of the images."""
    drawn = generator.random((pairs + 1, images)) < 0.55
    common = generator.random(images) < 0.55
    answers = np.where(generator.random((pairs + 1, images)) < discordant, drawn, common).astype(np.int8)
    return answers[1:] - answers[:1]


@pytest.mark.parametrize("pairs", [1, 8])
@pytest.mark.parametrize(("images", "discordant"), [(50, 0.05), (288, 0.2)])
def test_chance_exceeds_the_bound_of_any_pair_in_one_search_of_twenty(
    pairs: int, images: int, discordant: float
) -> None:
    generator = np.random.default_rng(pairs)
    draws = [differences(pairs, images, discordant, generator) for _ in range(200)]
    exceeded = sum(bool((draw.mean(axis=1) > max_leads_by_chance(draw)).any()) for draw in draws)
    assert exceeded <= 18  # of 200; a probability of 0.05 exceeds that once in 100 times


def test_pairs_that_agree_need_no_larger_bound_than_one_and_independent_ones_do() -> None:
    one = differences(1, 300, 0.2, np.random.default_rng(0))
    independent = np.concatenate([np.roll(one, 37 * shift, axis=1) for shift in range(6)])
    alone, same, apart = (max_leads_by_chance(each)[0] for each in (one, np.repeat(one, 6, axis=0), independent))
    assert alone == pytest.approx(1.69 * paired_standard_error(one[0]), rel=0.03)
    assert alone < same < 1.2 * alone < apart


def test_the_standard_error_of_a_paired_difference_is_the_published_one() -> None:
    """Bonett and Price 2012: (43 + 1, 20 + 1) discordant of 200 + 2 images."""
    pairs = np.array([1] * 43 + [-1] * 20 + [0] * 137, np.int8)
    p12, p21 = 44 / 202, 21 / 202
    assert paired_standard_error(pairs) == pytest.approx(((p12 + p21 - (p12 - p21) ** 2) / 202) ** 0.5)
    assert paired_standard_error(np.zeros(100, np.int8)) > 0


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([*(0.1 * step for step in range(8)), *(0.7 - 0.05 * step for step in range(8))], 8),
        ([0.1 * step for step in range(16)], None),
        ([0.5] * 16, None),
        ([0.5, 0.4], None),
    ],
)
def test_a_curve_that_came_down_has_a_turning_point(values: list[float], index: int | None) -> None:
    assert turning_point(values, 0.02) == index


def test_a_fall_within_the_error_is_no_turning_point() -> None:
    values = [*(0.1 * step for step in range(8)), *(0.7 - 0.01 * step for step in range(8))]
    assert turning_point(values, 0.001) is not None
    assert turning_point(values, 0.1) is None
