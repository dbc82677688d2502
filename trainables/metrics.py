"""What a classifier's probabilities are worth against given labels: accuracy, intervals, confusion, calibration.

NumPy only. Which images and which labels they are, noisy or clean, the caller knows and must say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # of the normal distribution: 95 % lie within
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Measurement:
    """A classifier measured on M labelled images.

    Attributes:
        confusion: [K, K] int64; how many images of each label (row) were taken for each class (column).
        calibration_error: expected, 0 … 1.
    """

    confusion: NDArray[np.int64]
    calibration_error: float

    @property
    def images(self) -> int:
        """M."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Images taken for what their label says."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """Share of the images, 0 … 1."""
        return self.correct / self.images


def measure(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Measurement:
    """Compare what a classifier says with the labels.

    Args:
        probabilities: [M, K], each row a distribution; M at least 1.
        labels: [M] in [0, K).
    """
    class_count = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    counts = np.bincount(labels * class_count + predicted, minlength=class_count**2)
    confusion = counts.reshape(class_count, class_count).astype(np.int64)
    return Measurement(confusion, calibration_error(probabilities.max(axis=1), predicted == labels))


def calibration_error(confidences: NDArray[np.float32], is_correct: NDArray[np.bool_]) -> float:
    """The expected calibration error: how far confidence and accuracy are apart, over bins of equal width.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3, with their 15 bins.

    Args:
        confidences: [M], the probability of the predicted class; M at least 1.
        is_correct: [M], whether the prediction is the label.

    Returns:
        The mean over images of |accuracy − mean confidence| of the image's bin, 0 … 1.
    """
    bins = np.clip(np.ceil(confidences * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1).astype(np.int64)
    surplus = np.bincount(bins, weights=is_correct - confidences.astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(surplus).sum() / len(confidences))


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy: the rates of success that `correct` of `images` do not rule out.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference. It holds for one
    model on images drawn at random; it says nothing of other seeds, nor of having chosen this model among many.

    Returns:
        Low and high, within [0, 1]; (0, 1) for no images.
    """
    if images == 0:
        return 0.0, 1.0
    rate, weight = correct / images, Z_95**2 / images
    middle = (rate + weight / 2) / (1 + weight)
    reach = math.sqrt(rate * (1 - rate) * weight + weight**2 / 4) / (1 + weight)
    low = 0.0 if correct == 0 else middle - reach  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if correct == images else middle + reach
    return low, high
