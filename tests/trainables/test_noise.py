"""Label noise: realised rates, ranges and reproducibility of every kind."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.noise import NOISE_KINDS, CleanData
from trainables.settings import NoiseKind


def clean_data(count: int, class_count: int, seed: int = 0) -> CleanData:
    generator = np.random.default_rng(seed)
    return CleanData(
        images=generator.integers(0, 256, size=(count, 4, 4, 1), dtype=np.uint8),
        labels=generator.integers(0, class_count, size=count),
        class_names=tuple(f"class {k}" for k in range(class_count)),
    )


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

    noisy, again = (NOISE_KINDS[kind](clean, rate, np.random.default_rng(seed)) for _ in range(2))

    assert noisy.dtype == np.int64
    assert noisy.shape == clean.labels.shape
    assert noisy.min() >= 0
    assert noisy.max() < class_count
    np.testing.assert_array_equal(noisy, again)
    np.testing.assert_array_equal(clean.labels, before)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_rate_of_zero_changes_nothing(kind: NoiseKind) -> None:
    clean = clean_data(500, 10)

    np.testing.assert_array_equal(NOISE_KINDS[kind](clean, 0.0, np.random.default_rng(0)), clean.labels)


@pytest.mark.parametrize(("kind", "realised"), [("symmetric_exclusive", 0.8), ("symmetric_inclusive", 0.72)])
def test_eighty_percent_symmetric_noise_realises_what_its_convention_says(
    kind: NoiseKind, realised: float
) -> None:
    clean = clean_data(20_000, 10)

    noisy = NOISE_KINDS[kind](clean, 0.8, np.random.default_rng(0))

    assert np.mean(noisy != clean.labels) == pytest.approx(realised, abs=0.01)  # three standard errors
    wrong = noisy[(noisy != clean.labels) & (clean.labels == 3)]
    assert np.bincount(wrong, minlength=10)[np.arange(10) != 3] / len(wrong) == pytest.approx(1 / 9, abs=0.03)
