"""Label quality: the noise is estimated as it was made, and accuracies on noisy labels become those on clean ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tune_mentormix.results.label_quality import (
    MIN_OWN_ACCURACY,
    clean_accuracy_by_rate,
    estimate_noise,
    is_told_from_errors,
    label_scores,
    pool_noise,
)

CLASSES = 5
PAIR_FLIP = 0.6 * np.eye(CLASSES) + 0.4 * np.roll(np.eye(CLASSES), 1, axis=1)


def symmetric(rate: float, classes: int = CLASSES) -> NDArray[np.float64]:
    """The transition matrix of symmetric noise."""
    wrong = np.full((classes, classes), rate / (classes - 1))
    np.fill_diagonal(wrong, 1 - rate)
    return wrong


def draw(
    transition: NDArray[np.float64], images: int = 4000, clean_accuracy: float = 0.95, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float16], float]:
    """Labels, a network's probabilities, and its accuracy on the true labels, which are not returned."""
    generator = np.random.default_rng(seed)
    classes = len(transition)
    true = generator.integers(0, classes, images)
    labels = (generator.random(images)[:, None] > transition[true].cumsum(axis=1)).sum(axis=1)
    is_right = generator.random(images) < clean_accuracy
    predicted = np.where(is_right, true, (true + generator.integers(1, classes, images)) % classes)
    scores = generator.normal(0, 0.3, (images, classes))
    scores[np.arange(images), predicted] += np.where(is_right, 4.0, 2.0)  # less sure where it is wrong
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float16), float((probabilities.argmax(axis=1) == true).mean())


def test_the_estimate_is_that_of_cleanlab() -> None:
    """The expected values were computed with `estimate_joint` of cleanlab 2.9.0, which rounds to whole images."""
    generator = np.random.default_rng(5)
    true = generator.integers(0, 4, 400)
    transition = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0.0, 0.3, 0.7, 0.0], [0.1, 0.1, 0.0, 0.8]])
    labels = (generator.random(400)[:, None] > transition[true].cumsum(axis=1)).sum(axis=1)
    scores = generator.normal(0, 1, (400, 4)) + 2.5 * np.eye(4)[true]

    noise = estimate_noise(labels, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))

    joint = [[0.19, 0.065, 0.0025, 0.015], [0.015, 0.1375, 0.0875, 0.025]]  # given label (row), true class
    joint += [[0.035, 0.0425, 0.14, 0.0025], [0.03, 0.035, 0.0, 0.1775]]
    matrix = (np.array(joint) / np.sum(joint, axis=0)).T
    assert noise is not None
    assert np.abs(np.array(noise.transition) - matrix).max() < 0.02  # the paper's rule for ties, not cleanlab's


@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_symmetric_noise_is_found_with_its_rate_and_called_symmetric(rate: float) -> None:
    noise = estimate_noise(*draw(symmetric(rate))[:2])

    assert noise is not None
    assert noise.rate == pytest.approx(rate, abs=0.03)
    assert noise.is_symmetric
    assert np.abs(np.array(noise.transition) - symmetric(rate)).max() < 0.06


@pytest.mark.parametrize("clean_accuracy", [0.95, 0.75])
def test_the_rate_is_counted_where_the_network_makes_fewer_errors(clean_accuracy: float) -> None:
    labels, probabilities, _ = draw(symmetric(0.6), clean_accuracy=clean_accuracy)
    noise = estimate_noise(labels, probabilities)

    assert noise is not None
    assert noise.rate == pytest.approx(0.6, abs=0.03)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    assert accuracy < 1 - noise.rate
    is_good = clean_accuracy > MIN_OWN_ACCURACY
    assert is_told_from_errors(noise, accuracy, CLASSES) == is_good, "a weak one may err where it is sure"


def test_a_network_that_errs_where_it_is_sure_does_not_tell_noise_from_its_errors() -> None:
    generator = np.random.default_rng(0)
    true, confidence = generator.integers(0, CLASSES, 4000), generator.random(4000)
    is_right = generator.random(4000) < 0.2 + 0.7 * confidence
    predicted = np.where(is_right, true, (true + 1) % CLASSES)
    labels = np.where(generator.random(4000) < 0.2, (true + 2) % CLASSES, true)
    probabilities = np.full((4000, CLASSES), 0.01)
    probabilities[np.arange(4000), predicted] = 0.3 + 0.6 * confidence
    noise = estimate_noise(labels, probabilities)

    assert noise is not None
    assert noise.rate > 0.35
    as_if_right = 1 - noise.rate
    assert not is_told_from_errors(noise, as_if_right, CLASSES)
    of_few = noise.model_copy(update={"images": 200})
    assert is_told_from_errors(of_few, as_if_right, CLASSES), "a gap within chance"
    assert not is_told_from_errors(of_few, float((predicted == labels).mean()), CLASSES)


@pytest.mark.parametrize("images", [300, 4000])
def test_pair_flip_is_called_uneven_and_its_matrix_is_found(images: int) -> None:
    noise = estimate_noise(*draw(PAIR_FLIP, images)[:2])

    assert noise is not None
    assert not noise.is_symmetric
    assert noise.concentration > 0.7
    assert np.abs(np.array(noise.transition) - PAIR_FLIP).mean() < 0.05


def test_few_images_do_not_make_symmetric_noise_look_uneven() -> None:
    estimates = [estimate_noise(*draw(symmetric(0.4, 10), 288, seed=seed)[:2]) for seed in range(40)]

    assert all(noise is not None and noise.is_symmetric for noise in estimates)


def test_two_classes_with_different_noise_are_uneven_and_with_equal_noise_are_not() -> None:
    uneven, even = np.array([[1.0, 0.0], [0.4, 0.6]]), symmetric(0.2, 2)

    estimates = [estimate_noise(*draw(transition)[:2]) for transition in (uneven, even)]

    assert [noise is not None and noise.is_symmetric for noise in estimates] == [False, True]


def test_many_classes_have_a_rate_and_no_matrix() -> None:
    noise = estimate_noise(*draw(symmetric(0.3, 50))[:2])

    assert noise is not None
    assert noise.rate == pytest.approx(0.3, abs=0.05)
    assert noise.transition is None


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6])
@pytest.mark.parametrize("true_accuracy", [0.5, 0.9])
def test_with_a_known_rate_the_interval_holds_the_clean_accuracy_19_times_in_20(
    rate: float, true_accuracy: float
) -> None:
    held, errors = 0, []
    for seed in range(100):
        labels, probabilities, accuracy = draw(symmetric(rate), 500, true_accuracy, seed)
        on_noisy = float((probabilities.argmax(axis=1) == labels).mean())
        clean = clean_accuracy_by_rate(on_noisy, 500, CLASSES, rate, None, "set")
        assert clean is not None
        held += clean.low <= accuracy <= clean.high
        errors.append(clean.accuracy - accuracy)

    assert held >= 90
    assert np.mean(errors) == pytest.approx(0, abs=0.02)


def test_an_estimated_rate_widens_the_interval() -> None:
    known = clean_accuracy_by_rate(0.57, 288, 10, 0.4, None, "")
    estimated = clean_accuracy_by_rate(0.57, 288, 10, 0.4, 288, "")

    assert known is not None
    assert estimated is not None
    assert known.accuracy == estimated.accuracy == pytest.approx(0.9460, abs=1e-4)  # (0.57 − 0.4/9) / (0.6 − 0.4/9)
    assert estimated.low < known.low


def test_there_is_no_estimate_where_the_noise_leaves_no_signal() -> None:
    assert clean_accuracy_by_rate(0.1, 288, 10, 0.88, None, "") is None


def test_estimates_of_several_folds_are_pooled_into_a_sharper_one() -> None:
    estimates = [estimate_noise(*draw(PAIR_FLIP, 300, seed=seed)[:2]) for seed in range(5)]
    known = [estimate for estimate in estimates if estimate]

    pooled = pool_noise(known)

    assert pooled is not None
    assert (pooled.images, pooled.is_symmetric) == (1500, False)
    errors = [np.abs(np.array(each.transition) - PAIR_FLIP).max() for each in (pooled, *known)]
    assert errors[0] < max(errors[1:])
    assert pool_noise([]) is None


def test_a_score_weighs_the_most_probable_other_class_against_the_given_one() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0, 0, 1], [0, 0, 1]], dtype=np.float16)

    scores = label_scores(np.array([0, 2, 1, 2]), probabilities)

    assert scores == pytest.approx([2 / 9, 6 / 9, 1, 0], abs=1e-3)


def test_a_score_is_above_one_half_exactly_where_another_class_is_more_probable() -> None:
    labels, probabilities, _ = draw(symmetric(0.4), images=500)

    scores = label_scores(labels, probabilities)

    assert ((scores > 0.5) == (probabilities.argmax(axis=1) != labels)).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_an_image_that_the_mentor_let_count_little_is_more_suspicious() -> None:
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2]], dtype=np.float16)

    scores = label_scores(np.zeros(3, np.int64), probabilities, np.array([0.9, 0.1, np.nan], np.float32))

    odds = np.array([1 / 4 * 1 / 9, 1 / 4 * 9, 1 / 4])
    assert scores == pytest.approx(odds / (1 + odds), abs=1e-3)


def test_one_kind_of_evidence_alone_makes_no_label_certainly_right_or_wrong() -> None:
    probabilities = np.array([[0.6, 0.4], [0.4, 0.6]], dtype=np.float16)

    scores = label_scores(np.zeros(2, np.int64), probabilities, np.array([0.0, 1.0], np.float32))

    assert 0.9 < scores[0] < 1
    assert 0 < scores[1] < 0.1
