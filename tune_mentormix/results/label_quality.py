"""The quality of the labels: how many are wrong, which classes they confuse, and accuracies on clean labels instead.

The estimates rest on predictions for images that the network was not trained on. NumPy is imported only where arrays
are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

from tune_mentormix.experiment.schemas import CleanEstimate, NoiseEstimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_CLASSES = 20  # for a transition matrix: of more, each has too few images
MIN_CONCENTRATION = 0.1  # from which noise is not symmetric; people's labels of CIFAR-10 have 0.12 to 0.17
MIN_SCORE = 3.0  # standard deviations above symmetric noise that the concentration must have, too
MIN_OWN_ACCURACY = 0.85  # on clean labels, of the network that the noise is estimated from, by its own estimate
MAX_CONFIDENCE_GAP = 0.03  # that is tolerated, however many images show it
MAX_CORRECTION = 10.0  # of an error by a conversion; a larger one leaves nothing but noise
MIN_DOUBT = 0.01  # that a mentor's weight of 1 leaves of a label, and a weight of 0 of its being wrong
Z_95 = 1.959963984540054  # of the normal distribution: 95 % lie within


def estimate_noise(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NoiseEstimate | None:
    """Estimates the noise of the labels [M] from a network's probabilities [M, K] for images it did not learn.

    Confident learning (Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset
    Labels, section 3.1): an image counts as of class k if its probability for k is at least the mean over images
    labelled k; if it is so for several classes, as of the most probable. The counts are scaled to the number of
    labels of each class. None if no image counts. cleanlab has the same, in a package that takes seconds to import.

    From this come the matrix and how evenly wrong labels fall. For the rate it is too high where the network makes
    many errors, since these count as wrong labels. So the rate is the fraction of labels that differ from the
    prediction among the surest half of the images predicted as each class, where the network makes fewer errors.
    """
    import numpy as np

    probabilities = probabilities.astype(np.float64)
    images, classes = probabilities.shape
    per_label = np.bincount(labels, minlength=classes)
    own = np.bincount(labels, weights=own_probabilities(labels, probabilities), minlength=classes)
    thresholds = np.where(per_label > 0, own / np.maximum(per_label, 1), np.inf)
    is_confident = probabilities >= thresholds - 1e-6
    counted = is_confident.any(axis=1)
    if not counted.any():
        return None
    true = np.where(is_confident, probabilities, -1.0).argmax(axis=1)
    counts = _count(true[counted], labels[counted], classes)
    of_label = counts.sum(axis=0)
    joint = counts * (per_label / np.maximum(of_label, 1))  # [K, K]: true class, label
    joint = joint / joint.sum()
    concentration, is_symmetric = _concentration(counts)
    transition = None
    if classes <= MAX_CLASSES:
        of_true = joint.sum(axis=1, keepdims=True)
        # A class of which no image is certain counts as labelled rightly.
        matrix = np.where(of_true > 0, joint / np.where(of_true > 0, of_true, 1.0), np.eye(classes))
        transition = matrix.round(5).tolist()
    half, quarter = (_disagreement(labels, probabilities, part) for part in (2, 4))
    return NoiseEstimate(
        images=images,
        rate=round(half, 5),
        confidence_gap=round(half - quarter, 5),
        concentration=round(concentration, 5),
        is_symmetric=is_symmetric,
        transition=transition,
    )


def label_scores(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """Returns how suspicious each label is [N], from 0 to 1, by a network's probabilities [N, K].

    The probability of the most probable other class by its sum with that of the label: above 0.5 exactly where the
    network prefers another class. It ranks by the margin of the logits, as AUM does (Pleiss et al. 2020); cleanlab
    ranks by the label's probability or its difference to the other (self-confidence, normalized margin: Northcutt,
    Jiang and Chuang 2021; Kuan and Mueller 2022).

    With `weights` [N], how much the mentor let the image count in training, from 0 to 1, or NaN where not known: the
    odds of this score are multiplied by those of 1 − weight, as if both were independent evidence. docs/labels.md
    has the measurements by which both were chosen.
    """
    import numpy as np

    others = probabilities.astype(np.float32)
    own = own_probabilities(labels, others)
    others[np.arange(len(labels)), labels] = 0.0
    other = others.max(axis=1)
    scores: NDArray[np.float32] = other / np.maximum(own + other, np.finfo(np.float32).tiny)
    if weights is None:
        return scores
    doubt = 1 - np.clip(weights.astype(np.float32), MIN_DOUBT, 1 - MIN_DOUBT)
    combined = scores * doubt / (scores * doubt + (1 - scores) * (1 - doubt))
    return np.where(np.isfinite(weights), combined, scores).astype(np.float32)


def own_probabilities(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the probability [N] that the network gives each label."""
    import numpy as np

    return probabilities[np.arange(len(labels)), labels]


def pool_noise(estimates: Sequence[NoiseEstimate]) -> NoiseEstimate | None:
    """Pools estimates from different images, such as the folds of a confirmation, weighted by their images."""
    if not estimates:
        return None
    import numpy as np

    images = [estimate.images for estimate in estimates]
    concentration = float(np.average([estimate.concentration for estimate in estimates], weights=images))
    symmetric = sum(estimate.images for estimate in estimates if estimate.is_symmetric)
    transitions = [estimate.transition for estimate in estimates if estimate.transition]
    has_all = len(transitions) == len(images)
    return NoiseEstimate(
        images=sum(images),
        rate=float(np.average([estimate.rate for estimate in estimates], weights=images)),
        confidence_gap=float(np.average([estimate.confidence_gap for estimate in estimates], weights=images)),
        concentration=concentration,
        is_symmetric=concentration < MIN_CONCENTRATION or 2 * symmetric > sum(images),
        transition=np.average(transitions, axis=0, weights=images).tolist() if has_all else None,
    )


def is_told_from_errors(noise: NoiseEstimate, accuracy: float, classes: int) -> bool:
    """Whether a network with this accuracy on the noisy labels is good enough to tell their noise from its errors.

    A network that is right on too few images, even if only wrong labels count as its errors, makes some of them
    where it is sure, and these counted as wrong labels. And if wrong labels do not depend on the image, labels differ
    from the truth as often where the network is sure as elsewhere. So a gap beyond twice its standard error comes
    from errors that the network makes even where it is sure, or from noise that depends on the image.
    """
    own = clean_accuracy_by_rate(accuracy, noise.images, classes, noise.rate, None, "")
    error = sqrt(2) * standard_error(noise.rate, noise.images)  # of half and quarter, which is a part of it
    is_even = noise.confidence_gap <= max(MAX_CONFIDENCE_GAP, 2 * error)
    return is_even and own is not None and own.accuracy >= MIN_OWN_ACCURACY


def _disagreement(labels: NDArray[np.int64], probabilities: NDArray[np.floating], part: int) -> float:
    """Returns how often labels differ from predictions among the surest 1/`part` of the images of each class."""
    import numpy as np

    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    counts = np.bincount(predicted, minlength=probabilities.shape[1])
    by_class = np.lexsort((-confidence, predicted))  # the classes in order, within each the surest first
    rank = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
    surest = by_class[part * rank < np.repeat(counts, counts)]
    return float((predicted != labels)[surest].mean())


def _count(rows: NDArray[np.int64], columns: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    import numpy as np

    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def _concentration(counts: NDArray[np.int64]) -> tuple[float, bool]:
    """Returns how concentrated the wrong labels of each class are, and whether that may be chance.

    Pearson's χ² against equal counts in the K − 1 wrong classes, less its expectation under chance, as a fraction of
    the largest it can be. For two classes, where each has one wrong class, the difference between their noise rates.
    """
    import numpy as np

    classes, wrong = len(counts), counts.sum(axis=1) - counts.diagonal()
    if not wrong.sum():
        return 0.0, True
    if classes == 2:
        of_class = np.maximum(counts.sum(axis=1), 1)
        rates, pooled = wrong / of_class, wrong.sum() / counts.sum()
        error = np.sqrt(pooled * (1 - pooled) * (1 / of_class).sum())
        difference = abs(rates[0] - rates[1])
        concentration, score = difference / rates.sum(), difference / max(error, 1e-12)
    else:
        expected = wrong[:, None] / (classes - 1)
        deviation = (counts - expected) ** 2 / np.maximum(expected, 1e-12)
        chi_squared = deviation.sum() - deviation.diagonal().sum()
        freedom = (wrong > 0).sum() * (classes - 2)
        concentration = max(0.0, (chi_squared - freedom) / (wrong.sum() * (classes - 2)))
        score = (chi_squared - freedom) / np.sqrt(2 * freedom)
    return float(concentration), not (concentration >= MIN_CONCENTRATION and score > MIN_SCORE)


def clean_accuracy_by_rate(
    accuracy: float, images: int, classes: int, rate: float, rate_images: int | None, source: str
) -> CleanEstimate | None:
    """Converts an accuracy on `images` noisy labels, where wrong labels fall evenly on all other classes.

    With noise of rate r, an accuracy c on clean labels is a = c (1 − r) + (1 − c) r / (K − 1) on noisy ones, solved
    for c here (as Lam and Stork 2003). `rate` was estimated on `rate_images`, or is known (None);
    `source` names it. None where the noise leaves no signal.
    """
    slope = 1 - rate * classes / (classes - 1)  # points on noisy labels that one point on clean labels is worth
    if slope * MAX_CORRECTION < 1:
        return None
    clean = (accuracy - rate / (classes - 1)) / slope
    # The slope of c by r; errors of rate and accuracy add up, though they cancel in part on the same images.
    by_rate = (clean * classes - 1) / (classes - 1) / slope
    rate_error = standard_error(rate, rate_images) if rate_images else 0.0
    error = sqrt((standard_error(accuracy, images) / slope) ** 2 + (by_rate * rate_error) ** 2)
    spread = f"{100 * rate:.0f} % of the labels are wrong ({source}), spread evenly over the other classes"
    return _clean_estimate(clean, error, spread)


def standard_error(fraction: float, images: int) -> float:
    """Returns the standard error of a fraction of images, with two of each kind added (Agresti and Coull 1998)."""
    adjusted = (fraction * images + 2) / (images + 4)
    return sqrt(adjusted * (1 - adjusted) / (images + 4))


def _clean_estimate(accuracy: float, error: float, assumption: str) -> CleanEstimate:
    ends = (accuracy, accuracy - Z_95 * error, accuracy + Z_95 * error)
    middle, low, high = (round(min(1.0, max(0.0, end)), 6) for end in ends)
    return CleanEstimate(accuracy=middle, low=low, high=high, assumption=assumption)
