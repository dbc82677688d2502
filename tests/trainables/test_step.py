"""The tensor functions of a step agree with the reference implementation, and keep their promises on any input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.trainables.conftest import GoldenValues
from trainables.mentors import MENTORS
from trainables.settings import MixingRule
from trainables.step import (
    beta_samples,
    draw_mixing,
    example_weights,
    mix,
    mixing_coefficients,
    moved,
    one_hot,
    percentile_loss,
    sample_partners,
    soft_cross_entropy,
    update_average,
)

TOLERANCE = 1e-5

losses_lists = st.lists(st.floats(0, 50, width=32), min_size=2, max_size=60)
fractions = st.floats(0.015625, 0.984375, width=32)
unit_lists = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=60)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_percentile_loss_is_the_reference_s(mentormix_reference: GoldenValues) -> None:
    for losses, expected in zip(
        torch.tensor(mentormix_reference["threshold_losses"]),
        mentormix_reference["threshold_percentile_loss"],
        strict=True,
    ):
        percentiles = [percentile_loss(losses, p) for p in torch.tensor(mentormix_reference["threshold_p"])]
        np.testing.assert_allclose(percentiles, expected, atol=TOLERANCE)


def test_the_moving_average_is_the_reference_s(mentormix_reference: GoldenValues) -> None:
    for index, p in enumerate(mentormix_reference["threshold_p"]):
        average = torch.zeros(())
        for losses, expected in zip(
            torch.tensor(mentormix_reference["threshold_losses"]),
            mentormix_reference["ema_percentile_loss"][:, index],
            strict=True,
        ):
            average = update_average(average, percentile_loss(losses, float(p)))
            np.testing.assert_allclose(average, expected, atol=TOLERANCE)


@pytest.mark.parametrize("run", ["a", "b"])
def test_weights_over_a_whole_training_are_the_reference_s(mentornet_pd_reference: GoldenValues, run: str) -> None:
    reference = {
        name[2:]: torch.tensor(value) for name, value in mentornet_pd_reference.items() if name[:2] == f"{run}_"
    }
    for p_index, p in enumerate(reference["p"]):
        average = torch.zeros(())
        weights, averages = [], []
        for losses, percent in zip(reference["losses"], reference["percent"], strict=True):
            average = update_average(average, percentile_loss(losses, p))
            averages.append(average)
            burn_in = float(reference["burn_in"])
            weights.append(example_weights(MENTORS["mentornet_pd"], losses, average, percent, burn_in))

        np.testing.assert_allclose(torch.stack(averages), reference["moving_average"][p_index], atol=TOLERANCE)
        errors = (torch.stack(weights) - reference["weights"][p_index]).abs()
        assert errors.mean() <= 0.006
        assert (errors > 0.1).float().mean() <= 0.013
        assert (errors[reference["percent"] < reference["burn_in"] - 1] == 0).all()


@pytest.mark.parametrize("alpha", ["0.4", "2", "8"])
def test_mixing_is_the_reference_s(mentormix_reference: GoldenValues, alpha: str) -> None:
    reference = {name: torch.tensor(value) for name, value in mentormix_reference.items()}
    partner_index = reference[f"mix_a{alpha}_partner_index"].long()

    own_fractions = mixing_coefficients(reference[f"mix_a{alpha}_beta_sample"], reference["mix_weights"], "hard")

    for kind in ("images", "labels"):
        mixed = mix(reference[f"mix_{kind}"], partner_index, own_fractions)
        np.testing.assert_allclose(mixed, reference[f"mix_a{alpha}_{kind}"], atol=TOLERANCE)


@given(losses_list=losses_lists, p=fractions, q=fractions)
def test_a_percentile_is_one_of_the_losses_and_grows_with_p(losses_list: list[float], p: float, q: float) -> None:
    losses = torch.tensor(losses_list)

    lower, higher = percentile_loss(losses, min(p, q)), percentile_loss(losses, max(p, q))

    assert lower in losses
    assert lower <= higher
    assert torch.equal(percentile_loss(losses, torch.tensor(min(p, q))), lower)
    assert torch.equal(percentile_loss(losses.flip(0), min(p, q)), lower)


@given(burn_in=st.floats(0, 99.9), percent=st.integers(0, 99))
def test_weights_are_1_until_one_percent_before_burn_in_ends(burn_in: float, percent: int) -> None:
    losses = torch.tensor([0.0, 10.0])

    weights = example_weights(MENTORS["threshold"], losses, torch.tensor(5.0), percent, burn_in)

    assert weights.tolist() == ([1, 1] if percent < burn_in - 1 else [1, 0])


@given(weights=unit_lists, seed=st.integers(0, 2**31))
def test_partners_are_in_the_batch_and_the_same_generator_draws_the_same(weights: list[float], seed: int) -> None:
    uniforms, again = (draw_mixing(len(weights), 1.0, generator(seed)).uniforms for _ in range(2))
    partner_index = sample_partners(torch.tensor(weights), 1.0, uniforms)

    assert partner_index.shape == (len(weights),)
    assert partner_index.min() >= 0
    assert partner_index.max() < len(weights)
    assert torch.equal(partner_index, sample_partners(torch.tensor(weights), 1.0, again))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_partners_are_drawn_by_the_softmax_of_the_weights(temperature: float) -> None:
    weights = torch.tensor([0.0, 1.0, 0.5, 1.0] * 64)

    draws = [draw_mixing(len(weights), 1.0, generator(seed)).uniforms for seed in range(400)]
    partner_index = torch.cat([sample_partners(weights, temperature, uniforms) for uniforms in draws])

    frequencies = torch.bincount(partner_index, minlength=256).reshape(64, 4).sum(dim=0) / len(partner_index)
    np.testing.assert_allclose(frequencies, (weights[:4] / temperature).softmax(dim=0), atol=0.005)


def test_partners_of_losses_that_are_no_numbers_are_still_in_the_batch() -> None:
    partner_index = sample_partners(torch.full((8,), torch.nan), 1.0, torch.rand(8, generator=generator()))

    assert ((partner_index >= 0) & (partner_index < 8)).all()


@pytest.mark.parametrize("alpha", [0.05, 0.4, 2.0, 8.0, 32.0])
def test_beta_samples_have_the_mean_and_spread_of_their_distribution(alpha: float) -> None:
    samples = beta_samples(draw_mixing(200_000, alpha, generator()).gammas)

    assert ((samples >= 0) & (samples <= 1)).all()
    assert samples.mean() == pytest.approx(0.5, abs=0.005)
    assert samples.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)


@pytest.mark.parametrize("rule", ["hard", "interpolated"])
@given(pairs=st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=1, max_size=40))
def test_the_heavier_an_example_the_larger_its_share(rule: MixingRule, pairs: list[tuple[float, float]]) -> None:
    beta_samples, weights = torch.tensor(pairs).unbind(dim=1)

    own_fractions = mixing_coefficients(beta_samples, weights, rule)

    assert ((own_fractions >= 0) & (own_fractions <= 1)).all()
    assert (own_fractions[weights >= 0.5] >= 0.5 - TOLERANCE).all()
    assert (own_fractions[weights < 0.5] <= 0.5 + TOLERANCE).all()
    assert torch.equal(own_fractions, mixing_coefficients(1 - (1 - beta_samples), weights, rule))


def test_both_rules_agree_where_weights_are_0_or_1() -> None:
    beta_samples, weights = torch.rand(50, generator=generator()), torch.tensor([0.0, 1.0]).repeat(25)

    assert torch.equal(
        mixing_coefficients(beta_samples, weights, "hard"), mixing_coefficients(beta_samples, weights, "interpolated")
    )


@given(labels=st.lists(st.integers(0, 6), min_size=2, max_size=30), seed=st.integers(0, 2**31))
def test_mixed_labels_remain_distributions_over_the_two_classes(labels: list[int], seed: int) -> None:
    random = generator(seed)
    partner_index = torch.randint(len(labels), (len(labels),), generator=random)
    own_fractions = torch.rand(len(labels), generator=random)

    mixed = mix(one_hot(torch.tensor(labels), 7), partner_index, own_fractions)

    np.testing.assert_allclose(mixed.sum(dim=1), 1, atol=TOLERANCE)
    for row, (label, partner) in enumerate(zip(labels, partner_index.tolist(), strict=True)):
        expected = torch.zeros(7)
        expected[label] += own_fractions[row]
        expected[labels[partner]] += 1 - own_fractions[row]
        np.testing.assert_allclose(mixed[row], expected, atol=TOLERANCE)


def test_soft_cross_entropy_of_a_mixture_is_the_mixture_of_cross_entropies() -> None:
    random = generator()
    logits = torch.randn(9, 5, generator=random)
    soft_labels = torch.rand(9, 5, generator=random).softmax(dim=1)

    expected = torch.nn.functional.cross_entropy(logits, soft_labels, reduction="none")

    np.testing.assert_allclose(soft_cross_entropy(logits, soft_labels), expected, atol=TOLERANCE)


@given(losses_list=losses_lists, p=st.floats(0.001, 0.999))
def test_a_percentile_is_the_same_as_a_number_and_as_a_tensor(losses_list: list[float], p: float) -> None:
    losses = torch.tensor(losses_list)
    assert percentile_loss(losses, p) == percentile_loss(losses, torch.tensor(p, dtype=torch.float64))


@pytest.mark.parametrize("alpha", [0.01, 8.0])
def test_draws_moved_to_a_device_without_64_bit_floats_give_the_same_coefficients(alpha: float) -> None:
    draws = draw_mixing(1000, alpha, generator())

    elsewhere = moved(draws, torch.device("cpu"))

    assert {values.dtype for values in elsewhere} == {torch.float32}
    torch.testing.assert_close(beta_samples(elsewhere.gammas), beta_samples(draws.gammas), atol=1e-6, rtol=0)


def test_the_percentile_may_change_from_step_to_step_without_the_host() -> None:
    with FakeTensorMode():
        assert percentile_loss(torch.rand(16), torch.rand(())).shape == ()
