"""Every mentor keeps the contract, and each computes what it is named after."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.trainables.conftest import GoldenValues
from trainables.mentors import MENTORS
from trainables.settings import MentorName

losses_lists = st.lists(st.floats(0, 50, width=32), min_size=1, max_size=40)


def test_the_table_holds_exactly_the_names_the_settings_allow() -> None:
    assert set(MENTORS) == set(get_args(MentorName))


@pytest.mark.parametrize("name", MENTORS)
@given(losses_list=losses_lists, average=st.floats(0, 50, width=32), percent=st.integers(0, 99))
def test_weights_lie_between_0_and_1_and_judge_each_example_alone(
    name: MentorName, losses_list: list[float], average: float, percent: int
) -> None:
    losses = torch.tensor(losses_list)
    differences = losses - average
    before = losses.clone(), differences.clone()

    weights = MENTORS[name](losses, differences, percent)

    assert weights.shape == losses.shape
    assert weights.dtype == losses.dtype
    assert ((weights >= 0) & (weights <= 1)).all()
    assert torch.equal(MENTORS[name](losses, differences, torch.tensor(percent)), weights)
    assert torch.equal(MENTORS[name](losses.flip(0), differences.flip(0), percent), weights.flip(0))
    assert torch.equal(losses, before[0])
    assert torch.equal(differences, before[1])


@pytest.mark.parametrize("name", MENTORS)
def test_no_mentor_reads_a_tensor_on_the_host(name: MentorName) -> None:
    with FakeTensorMode():
        losses = torch.rand(16)
        weights = MENTORS[name](losses, losses - 0.5, torch.full((), 40))

    assert weights.shape == (16,)


def test_threshold_agrees_with_the_reference_but_for_the_percentile_itself(
    mentormix_reference: GoldenValues,
) -> None:
    losses = torch.tensor(mentormix_reference["threshold_losses"])[:, None, :]
    percentiles = torch.tensor(mentormix_reference["threshold_percentile_loss"])[:, :, None]
    reference = torch.tensor(mentormix_reference["threshold_weights"])

    weights = MENTORS["threshold"](losses, losses - percentiles, 50)

    is_percentile = losses == percentiles  # the reference compares strictly, and leaves this one out
    assert torch.equal(weights.bool(), reference.bool() | is_percentile)
    assert (weights[is_percentile.expand_as(weights)] == 1).all()


@pytest.mark.parametrize("run", ["a", "b"])
def test_mentornet_pd_is_the_trained_network_in_closed_form(mentornet_pd_reference: GoldenValues, run: str) -> None:
    def reference(name: str) -> Tensor:
        return torch.tensor(mentornet_pd_reference[f"{run}_{name}"])

    percents, averages, expected = reference("percent"), reference("moving_average"), reference("weights")
    for p in range(len(averages)):
        errors = torch.stack(
            [
                MENTORS["mentornet_pd"](losses, losses - average, percent) - weights
                for losses, average, percent, weights in zip(
                    reference("losses"), averages[p], percents, expected[p], strict=True
                )
                if percent >= reference("burn_in") - 1
            ]
        ).abs()

        assert errors.mean() <= 0.006
        assert (errors > 0.1).float().mean() <= 0.013


def test_mentornet_pd_turns_from_a_threshold_to_a_slope_at_80_percent() -> None:
    differences = torch.tensor([-0.5, 0.05, 0.06, 0.5, 2.0])

    early = MENTORS["mentornet_pd"](differences + 1, differences, 79)
    late = MENTORS["mentornet_pd"](differences + 1, differences, 80)

    assert early.tolist() == [1, 1, 0, 0, 0]
    np.testing.assert_allclose(late, [1, 0.95, 0.94, 0.5, 0], atol=1e-6)


def test_spcl_linear_falls_from_1_at_the_average_to_0_one_nat_above_it() -> None:
    differences = torch.tensor([-1.0, 0.0, 0.25, 1.0, 3.0])

    assert MENTORS["spcl_linear"](differences, differences, 0).tolist() == [1, 1, 0.75, 0, 0]


def test_focal_is_the_squared_chance_of_error() -> None:
    losses = torch.tensor([0.0, math.log(2), 50.0])

    np.testing.assert_allclose(MENTORS["focal"](losses, losses, 0), [0, 0.25, 1], atol=1e-6)


def test_uniform_weights_all_alike() -> None:
    assert MENTORS["uniform"](torch.tensor([0.0, 9.0]), torch.tensor([-3.0, 6.0]), 0).tolist() == [1, 1]
