"""Label noise: realised rates, transitions, ranges and reproducibility of every kind."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainables.data.noise import CIFAR10_CONFUSIONS, NOISE_KINDS
from trainables.data.sources import LabelledImages
from trainables.errors import DatasetError
from trainables.settings import NoiseKind

NOISE_MAP = {"class 0": "class 1"}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def clean_data(count: int, class_count: int, seed: int = 0) -> LabelledImages:
    generator = np.random.default_rng(seed)
    return LabelledImages(
        images=generator.integers(0, 256, size=(count, 4, 4, 1), dtype=np.uint8),
        labels=generator.integers(0, class_count, size=count),
        clean_labels=None,
        class_names=tuple(f"class {k}" for k in range(class_count)),
    )


def cifar10_like(count: int) -> LabelledImages:
    clean = clean_data(count, 10)
    return replace(clean, class_names=CIFAR10_CLASSES)


def transitions(clean: LabelledImages, noisy: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, K]: of the labels of a class (row), the fraction that became each class (column)."""
    counts: NDArray[np.float64] = np.zeros((len(clean.class_names),) * 2)
    np.add.at(counts, (clean.labels, noisy), 1)
    counts /= counts.sum(axis=1, keepdims=True)
    return counts


def test_the_table_holds_exactly_the_names_the_settings_allow() -> None:
    assert set(NOISE_KINDS) == set(get_args(NoiseKind))


@pytest.mark.parametrize("kind", NOISE_KINDS)
@given(
    class_count=st.integers(2, 12),
    count=st.integers(1, 60),
    rate=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_labels_stay_in_range_and_the_same_generator_gives_the_same_labels(
    kind: NoiseKind, class_count: int, count: int, rate: float, seed: int
) -> None:
    clean = clean_data(count, class_count, seed)
    before = clean.labels.copy()

    noisy, again = (NOISE_KINDS[kind](clean, rate, np.random.default_rng(seed), NOISE_MAP) for _ in range(2))

    assert noisy.dtype == np.int64
    assert noisy.shape == clean.labels.shape
    assert noisy.min() >= 0
    assert noisy.max() < class_count
    np.testing.assert_array_equal(noisy, again)
    np.testing.assert_array_equal(clean.labels, before)


@pytest.mark.parametrize(
    "kind", sorted(set(NOISE_KINDS) - {"instance_dependent"})
)  # its rate spreads around the one given
def test_a_rate_of_zero_changes_nothing(kind: NoiseKind) -> None:
    clean = clean_data(500, 10)

    np.testing.assert_array_equal(NOISE_KINDS[kind](clean, 0.0, np.random.default_rng(0), NOISE_MAP), clean.labels)


@pytest.mark.parametrize(
    ("kind", "rate", "realised"),
    [
        ("symmetric_exclusive", 0.8, 0.8),
        ("symmetric_inclusive", 0.8, 0.72),
        ("asymmetric", 0.4, 0.2),  # five of the ten classes are confusable
        ("pair_flip", 0.45, 0.45),
        ("instance_dependent", 0.4, 0.4),
    ],
)
def test_the_realised_rate_is_what_the_convention_says(kind: NoiseKind, rate: float, realised: float) -> None:
    clean = cifar10_like(20_000)

    noisy = NOISE_KINDS[kind](clean, rate, np.random.default_rng(0))

    assert np.mean(noisy != clean.labels) == pytest.approx(realised, abs=0.012)  # three standard errors


@pytest.mark.parametrize("kind", ["symmetric_exclusive", "symmetric_inclusive"])
def test_symmetric_noise_spreads_evenly_over_the_other_classes(kind: NoiseKind) -> None:
    clean = clean_data(40_000, 5)

    matrix = transitions(clean, NOISE_KINDS[kind](clean, 0.4, np.random.default_rng(0)))

    off_diagonal = matrix[~np.eye(5, dtype=bool)]
    expected = 0.4 / 4 if kind == "symmetric_exclusive" else 0.4 / 5
    assert off_diagonal == pytest.approx(expected, abs=0.011)  # three standard errors


def test_asymmetric_noise_follows_cifar10s_confusions_where_no_map_is_given() -> None:
    clean = cifar10_like(20_000)

    matrix = transitions(clean, NOISE_KINDS["asymmetric"](clean, 0.4, np.random.default_rng(0)))

    for row, name in enumerate(CIFAR10_CLASSES):
        expected = np.zeros(10)
        if name in CIFAR10_CONFUSIONS:
            expected[[row, CIFAR10_CLASSES.index(CIFAR10_CONFUSIONS[name])]] = 0.6, 0.4
        else:
            expected[row] = 1
        assert matrix[row] == pytest.approx(expected, abs=0.034)  # three standard errors


def test_asymmetric_noise_follows_a_map_that_is_given() -> None:
    clean = clean_data(1000, 4)

    noisy = NOISE_KINDS["asymmetric"](clean, 1.0, np.random.default_rng(0), NOISE_MAP)

    np.testing.assert_array_equal(noisy, np.where(clean.labels == 0, 1, clean.labels))


def test_asymmetric_noise_without_a_map_is_refused_for_classes_that_are_not_cifar10s() -> None:
    clean = clean_data(10, 3)

    with pytest.raises(DatasetError, match=r"noise_map must be set.*'truck'.*class 0, class 1, class 2"):
        NOISE_KINDS["asymmetric"](clean, 0.4, np.random.default_rng())


def test_pair_flip_turns_every_class_into_the_next_and_the_last_into_the_first() -> None:
    clean = clean_data(1000, 7)

    noisy = NOISE_KINDS["pair_flip"](clean, 1.0, np.random.default_rng(0))

    np.testing.assert_array_equal(noisy, (clean.labels + 1) % 7)


def test_instance_dependent_noise_gives_equal_images_of_a_class_the_same_wrong_label() -> None:
    image = np.random.default_rng(0).integers(0, 256, size=(16, 16, 3), dtype=np.uint8)
    clean = LabelledImages(np.stack([image] * 400), np.zeros(400, dtype=np.int64), None, CIFAR10_CLASSES)

    noisy = NOISE_KINDS["instance_dependent"](clean, 0.5, np.random.default_rng(0))

    wrong = noisy[noisy != 0]
    assert len(wrong) > 100
    assert np.bincount(wrong).max() / len(wrong) > 0.9  # softmax of scores that spread by tens of nats


def test_instance_dependent_noise_draws_its_wrong_labels_from_the_softmax_of_the_projection() -> None:
    count, class_count = 20_000, 4
    clean = LabelledImages(
        np.full((count, 1, 1, 1), 255, dtype=np.uint8),
        np.zeros(count, dtype=np.int64),
        None,
        tuple("abcd"),
    )
    seed = 3

    noisy = NOISE_KINDS["instance_dependent"](clean, 0.5, np.random.default_rng(seed))

    # One pixel of value 1: the scores of class 0 are its projection itself, the first [1, K] draw after the flips.
    generator = np.random.default_rng(seed)
    rates = generator.normal(0.5, 0.1, count)
    assert ((rates >= 0) & (rates <= 1)).all()  # none had to be drawn again
    generator.random(count)
    odds = np.exp(generator.standard_normal((1, class_count))[0, 1:])
    wrong = np.bincount(noisy[noisy != 0], minlength=class_count)[1:]
    assert wrong / wrong.sum() == pytest.approx(odds / odds.sum(), abs=0.015)  # three standard errors
