"""Accuracy, intervals, confusion and calibration are as defined."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score, top_k_accuracy_score

from trainables import plugins
from trainables.data import Dataset
from trainables.device import DeviceDataset
from trainables.errors import PluginError
from trainables.metrics import calibration_error, class_metrics, measure, try_metric, wilson_interval
from trainables.settings import TrialSettings
from trainables.training import Trainer


def test_the_confusion_matrix_has_labels_as_rows_and_predictions_as_columns() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], dtype=np.float32)

    measurement = measure(probabilities, np.array([0, 0, 1]))

    assert measurement.confusion.tolist() == [[1, 1], [0, 1]]
    assert (measurement.correct, measurement.images) == (2, 3)
    assert measurement.accuracy == 2 / 3
    assert measurement.other_metrics.keys() == {"balanced_accuracy", "macro_f1"}  # top 5 of 2 classes tells nothing


def test_a_measurement_has_the_metrics_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 8, 200), rng.dirichlet(np.ones(8), 200).astype(np.float32)
    found = measure(probabilities, labels).other_metrics
    assert found["balanced_accuracy"] == pytest.approx(recall_score(labels, probabilities.argmax(1), average="macro"))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, probabilities.argmax(1), average="macro"))
    assert found["top5_accuracy"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))


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


@pytest.mark.parametrize("classes", [2, 7])
def test_class_metrics_are_those_of_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(classes)
    labels = generator.integers(0, classes - 1, 200)  # the last class has no image
    predicted = np.where(generator.random(200) < 0.6, labels, generator.integers(0, classes, 200))
    found = class_metrics(labels, predicted, classes + 3)  # and some have no prediction either
    recall = recall_score(labels, predicted, average="macro", labels=np.unique(labels))
    assert found["balanced_accuracy"] == pytest.approx(recall)
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))


def right(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def raises(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    raise KeyError("bird")


def no_number(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> object:
    return probabilities[:, 0]


def not_finite(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    return float("nan")


def hangs(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    time.sleep(5)
    return 0.0


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (raises, "raised KeyError: 'bird'"),
        (no_number, "must return a number, got one ndarray"),
        (not_finite, "returned nan, which is no finite number"),
        (hangs, r"hangs: it did not return within 0\.2 s"),
    ],
)
def test_whatever_is_wrong_with_a_metric_is_one_line_with_its_name(
    metric: Callable[..., object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "CHECK_SECONDS", 0.2 if metric is hangs else 60)
    name = plugins.plugin_name(metric)
    plugins.allow_plugins([name])
    with pytest.raises(PluginError, match=f"^metric {name} {said}$"):
        try_metric(name, np.arange(4), 4)


def test_a_trial_reports_all_metrics_and_is_best_by_the_one_asked_for(noisy_digits: Dataset) -> None:
    name = plugins.plugin_name(right)
    plugins.allow_plugins([name])
    torch.set_num_threads(1)
    trainer = Trainer(TrialSettings(epochs=2), DeviceDataset(noisy_digits, "cpu"), name)
    curve = [trainer.train_epoch() for _ in range(2)]
    assert trainer.validation is not None
    labels, evaluation = noisy_digits.validation_labels, trainer.validation
    probabilities = evaluation.probabilities.numpy()
    last = curve[-1]
    assert last["own_metric"] == pytest.approx(last["val_accuracy"], abs=0.01)  # halves may tie
    assert last["balanced_accuracy"] == pytest.approx(recall_score(labels, evaluation.predicted, average="macro"))
    assert last["top5_accuracy"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5), abs=0.01)
    assert trainer.best.metrics["own_metric"] == max(report["own_metric"] for report in curve)
