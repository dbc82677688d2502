"""Schedules are fractions of a trial's own length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.schedules import (
    WARM_UP_STEPS,
    burn_in_end,
    ema_decay,
    learning_rate,
    percent_done,
    warm_up,
    weighting_start,
)
from trainables.settings import LearningRateSchedule
from trainables.step import update_average

REFERENCE_STEPS = 200_000


@given(burn_in=st.floats(0, 99.9), steps=st.integers(1, 3000))
def test_burn_in_ends_at_the_first_step_where_the_reference_s_rule_no_longer_holds(
    burn_in: float, steps: int
) -> None:
    end = burn_in_end(burn_in, steps)

    assert [step for step in range(steps) if percent_done(step, steps) < burn_in - 1] == list(range(min(end, steps)))
    assert end - WARM_UP_STEPS <= weighting_start(burn_in, steps) <= end


def test_the_average_forgets_where_it_started_while_burn_in_warms_it_up() -> None:
    percentiles = 1 + torch.rand(WARM_UP_STEPS, generator=torch.Generator().manual_seed(0))
    from_zero, from_elsewhere = torch.zeros(()), torch.tensor(3.0)
    for percentile in percentiles:
        from_zero, from_elsewhere = update_average(from_zero, percentile), update_average(from_elsewhere, percentile)

    assert from_elsewhere == pytest.approx(float(from_zero), abs=5e-7)


def test_steps_are_the_reference_s_at_its_own_length() -> None:
    epoch_steps = REFERENCE_STEPS / 512  # its 512 epochs
    for epoch in (0, 29, 31, 59, 61, 300, 511):
        rate = learning_rate("steps", 0.1, int(epoch * epoch_steps) + 1, REFERENCE_STEPS)
        assert rate == pytest.approx(0.1 * 0.9 ** (epoch // 30))


def test_cosine_begins_at_the_initial_rate_and_ends_near_nothing() -> None:
    assert learning_rate("cosine", 0.2, 0, 100) == 0.2
    assert learning_rate("cosine", 0.2, 50, 100) == pytest.approx(0.1)
    assert learning_rate("cosine", 0.2, 99, 100) < 0.001


def test_the_warm_up_grows_linearly_to_1_and_stays_there() -> None:
    assert [warm_up(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert warm_up(0, 0) == 1


@pytest.mark.parametrize("schedule", ["steps", "cosine"])
@given(step=st.integers(0, 499), factor=st.integers(2, 50))
def test_a_short_trial_sees_the_rates_of_a_long_one(schedule: LearningRateSchedule, step: int, factor: int) -> None:
    short = learning_rate(schedule, 0.1, step, 500)

    assert learning_rate(schedule, 0.1, step * factor, 500 * factor) == pytest.approx(short, rel=1e-9)


def test_the_weight_average_is_the_reference_s_at_its_own_length() -> None:
    for step in (0, 5, 1000, 80_000, 199_999):
        expected = min(0.9999, (1 + step) / (10 + step))
        assert ema_decay(0.05, step, REFERENCE_STEPS) == pytest.approx(expected, rel=1e-12)


@given(horizon=st.floats(1e-6, 1), steps=st.integers(1, 10_000), fraction=st.floats(0, 0.999))
def test_the_decay_of_the_weight_average_is_a_fraction(horizon: float, steps: int, fraction: float) -> None:
    assert 0 <= ema_decay(horizon, int(fraction * steps), steps) < 1
