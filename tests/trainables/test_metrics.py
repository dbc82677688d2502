"""Accuracy, intervals, confusion and calibration are as defined."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.metrics import calibration_error, measure, wilson_interval


def test_the_confusion_matrix_has_labels_as_rows_and_predictions_as_columns() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], dtype=np.float32)

    measurement = measure(probabilities, np.array([0, 0, 1]))

    assert measurement.confusion.tolist() == [[1, 1], [0, 1]]
    assert (measurement.correct, measurement.images) == (2, 3)
    assert measurement.accuracy == 2 / 3


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_wilson_interval_has_its_published_values(correct: int, images: int, low: float, high: float) -> None:
    assert wilson_interval(correct, images) == pytest.approx((low, high), abs=5e-5)


def test_the_wilson_interval_holds_its_95_percent() -> None:
    rates = np.random.default_rng(0).binomial(100, 0.9, size=4000)

    covered = [low <= 0.9 <= high for low, high in (wilson_interval(int(correct), 100) for correct in rates)]

    assert 0.93 < np.mean(covered) < 0.97


def test_a_classifier_as_right_as_it_is_confident_has_no_calibration_error() -> None:
    confidences = np.full(10, 0.7, dtype=np.float32)

    assert calibration_error(confidences, np.arange(10) < 7) == pytest.approx(0, abs=1e-6)
    assert calibration_error(confidences, np.arange(10) < 2) == pytest.approx(0.5, abs=1e-6)


def test_calibration_errors_of_different_confidences_do_not_cancel() -> None:
    confidences = np.array([0.9, 0.9, 0.6, 0.6], dtype=np.float32)  # once too sure, once not sure enough

    error = calibration_error(confidences, np.array([True, False, True, True]))

    assert error == pytest.approx(0.4, abs=1e-6)
