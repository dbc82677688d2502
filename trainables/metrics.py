"""Metrics of a classifier's probabilities on labelled images: accuracy, its interval, confusion, calibration.

NumPy only, in a few lines each: scikit-learn and `scipy.stats` take a second to import, and `binomtest`'s Wilson
interval differs in the last digit of the JSON. The caller knows which labels they are, noisy or clean, and must
report it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.errors import PluginError
from trainables.plugins import call_plugin, load_plugin, within_time

Z_95 = 1.959963984540054  # of the normal distribution: 95 % lie within
CALIBRATION_BINS = 15
TOP = 5  # of `top5_accuracy`


@dataclass(frozen=True)
class Measurement:
    """A classifier measured on M labelled images."""

    confusion: NDArray[np.int64]  # [K, K]: images of each label (row) predicted as each class (column)
    calibration_error: float  # expected, 0 … 1
    other_metrics: dict[str, float]  # those of `class_metrics`, and from six classes on `top5_accuracy`

    @property
    def images(self) -> int:
        """Number of images, M."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of images predicted as their label."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """Fraction of correct images, 0 … 1."""
        return self.correct / self.images


def measure(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Measurement:
    """Compares a classifier's probabilities [M, K] with the labels [M] in [0, K); M at least 1."""
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, probabilities.shape[1])
    others = class_metrics(labels, predicted, probabilities.shape[1])
    if probabilities.shape[1] > TOP:
        of_label = np.take_along_axis(probabilities, labels[:, np.newaxis], axis=1)
        others["top5_accuracy"] = float(((probabilities > of_label).sum(axis=1) < TOP).mean())
    return Measurement(confusion, calibration_error(probabilities.max(axis=1), predicted == labels), others)


def confusion_matrix(labels: NDArray[np.int64], others: NDArray[np.int64], class_count: int) -> NDArray[np.int64]:
    """Counts [K, K] int64: images with each of `labels` (row) and each of `others` (column)."""
    counts = np.bincount(labels * class_count + others, minlength=class_count**2)
    return counts.reshape(class_count, class_count).astype(np.int64)


def calibration_error(confidences: NDArray[np.float32], is_correct: NDArray[np.bool_]) -> float:
    """Returns the expected calibration error: the mean over images of |accuracy − mean confidence| of their bin.

    `confidences` [M] are the probabilities of the predicted classes; M at least 1. The bins have equal width.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3, with their 15 bins.
    """
    bins = np.clip(np.ceil(confidences * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1).astype(np.int64)
    surplus = np.bincount(bins, weights=is_correct - confidences.astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(surplus).sum() / len(confidences))


def class_metrics(labels: NDArray[np.int64], predicted: NDArray[np.int64], class_count: int) -> dict[str, float]:
    """Returns `balanced_accuracy` and `macro_f1` of predictions [M] for labels [M] in [0, K); M at least 1.

    The mean recall of the classes that have images, and the mean F1 of the classes that have images or predictions,
    as in scikit-learn.
    """
    true, found = (np.bincount(which, minlength=class_count) for which in (labels, predicted))
    correct = np.bincount(labels[labels == predicted], minlength=class_count)
    recall = correct[true > 0] / true[true > 0]
    either = true + found > 0
    f1 = 2 * correct[either] / (true + found)[either]
    return {"balanced_accuracy": float(recall.mean()), "macro_f1": float(f1.mean())}


def own_metric(name: str, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Calls the plug-in `metric(labels, probabilities)`: [M] int64 in [0, K), [M, K] float32; higher is better.

    Raises PluginError, with its name, if it raises or returns no finite number.
    """
    metric = load_plugin("metric", name)
    value = call_plugin("metric", name, lambda: metric(labels, probabilities))
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise PluginError(f"metric {name} must return a number, got one {type(value).__name__}")
    if not math.isfinite(value):
        raise PluginError(f"metric {name} returned {value}, which is no finite number")
    return float(value)


def try_metric(name: str, labels: NDArray[np.int64], class_count: int) -> None:
    """Calls a metric once, as `own_metric` does, on labels with random probabilities."""
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(class_count), len(labels)).astype(np.float32)
    within_time("metric", name, lambda: own_metric(name, labels, probabilities))


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval (low, high) of an accuracy; (0, 1) for no images.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference. It holds for one
    model on images drawn at random, not for other seeds, nor for a model chosen among many.
    """
    if images == 0:
        return 0.0, 1.0
    rate, weight = correct / images, Z_95**2 / images
    middle = (rate + weight / 2) / (1 + weight)
    reach = math.sqrt(rate * (1 - rate) * weight + weight**2 / 4) / (1 + weight)
    low = 0.0 if correct == 0 else middle - reach  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if correct == images else middle + reach
    return low, high
