"""What verified labels tell about the candidates: which images to verify, who is best, and how accurate each is.

Only images on which candidates disagree can change which of them is best. Images are drawn one after the other, with
known probabilities, so that the accuracy of each candidate on right labels has an unbiased estimate with an interval.
Which candidate is chosen rests on beliefs about the right label of every image: of those verified it is known; of the
others it follows from what the candidates answer and from the given label, as far as each has proved right. NumPy
only, and numbers in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tune_mentormix.results.label_quality import estimate_noise
from tune_mentormix.results.statistics import ConfidenceInterval, confidence_interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

COMPARED = 6  # of the candidates, the best by beliefs: on what these disagree is worth verifying
EVEN_SHARE = 0.3  # of the draws that fall on all images alike, agreed on or not
SMOOTHING = 0.01  # share of an even distribution in probabilities, so that none is 0
TEMPER = 0.3  # of the likelihood of a verified label: networks repeat each other's mistakes
MAX_STEPS, TOLERANCE = 50, 1e-6
_PRIOR = np.ones(2)  # weights of networks and labels before anything is verified, each with a deviation of 1


@dataclass(frozen=True)
class Evidence:
    """What is known of M images without a verified label, from C candidates, for K classes."""

    probabilities: NDArray[np.float16]  # [C, M, K], the mean over a candidate's runs
    answers: NDArray[np.int16]  # [C, R, M]: the class that each run takes an image for; -1: it has not seen it
    given: Integers  # [M] labels, some of them wrong

    @cached_property
    def given_evidence(self) -> Floats:
        """The log of the probability of the given label, were each class the right one [M, K]."""
        classes = self.probabilities.shape[2]
        noise = estimate_noise(self.given, self._smoothed(self._mean(self.equal_weights)))
        if noise is not None and noise.transition is not None:
            transition = np.array(noise.transition)
        else:  # of many classes, or without any image that the networks are sure of: as if symmetric
            rate = 0.5 if noise is None else noise.rate
            transition = np.full((classes, classes), rate / (classes - 1))
            np.fill_diagonal(transition, 1 - rate)
        evidence: Floats = np.log(self._smoothed(transition)[:, self.given].T)
        return evidence

    @cached_property
    def first_beliefs(self) -> Floats:
        """The probability of each class [M, K] before anything is verified."""
        return self.beliefs(np.empty(0, np.int64), np.empty(0, np.int64))

    @cached_property
    def first_correctness(self) -> Floats:
        """The probability that each candidate is right about each image [C, M], before anything is verified."""
        return self.correctness(self.first_beliefs)

    @property
    def equal_weights(self) -> Floats:
        """A weight for each candidate [C]."""
        return np.full(len(self.probabilities), 1 / len(self.probabilities))

    @cached_property
    def noisy_accuracies(self) -> Floats:
        """The fraction of the given labels that each candidate agrees with [C]."""
        accuracies: Floats = self.correctness(np.eye(self.probabilities.shape[2])[self.given]).mean(axis=1)
        return accuracies

    def beliefs(self, positions: Integers, right: Integers) -> Floats:
        """Returns the probability of each class for each image [M, K], with right labels [m] known at `positions`.

        Candidates count by how probable they found those labels, tempered. Then a conditional logit weighs networks
        against given labels: with a normal prior, so that both count as they are before there are answers, and what
        each has proved worth afterwards. Labels that follow the mistakes of the networks lose their weight.
        """
        found = self.probabilities[:, positions, right].astype(np.float64)
        scores = TEMPER * np.log(self._smoothed(found)).sum(axis=1)
        network = np.log(self._smoothed(self._mean(_softmax(scores))))
        weights = _fit(np.stack([network[positions], self.given_evidence[positions]], axis=2), right)
        beliefs = _softmax(weights[0] * network + weights[1] * self.given_evidence)
        beliefs[positions] = np.eye(beliefs.shape[1])[right]
        return beliefs

    def correctness(self, beliefs: Floats) -> Floats:
        """Returns the probability that each candidate is right about each image [C, M], the mean over its runs."""
        return self._over_runs(beliefs, np.arange(len(self.given)))

    def is_right(self, positions: Integers, right: Integers) -> Floats:
        """Returns whether each candidate is right [C, m] about the images at `positions`, the mean over its runs."""
        return self._over_runs(np.eye(self.probabilities.shape[2])[right], positions)

    def ranking(self, beliefs: Floats) -> list[int]:
        """Returns the candidates by expected accuracy, the best first; equal ones by that on the given labels."""
        expected = self.correctness(beliefs).mean(axis=1).round(9)
        return [int(position) for position in np.lexsort((-self.noisy_accuracies, -expected))]

    def disagreement(self) -> Floats:
        """Returns for each image [M] how much the best candidates' answers differ: 0 all agree (Gini's index)."""
        answers, classes = self.answers[self.ranking(self.first_beliefs)[:COMPARED]], self.probabilities.shape[2]
        votes = np.stack([(answers == label).sum(axis=(0, 1)) for label in range(classes)])
        shares = votes / np.maximum(votes.sum(axis=0), 1)
        disagreement: Floats = 1 - (shares**2).sum(axis=0)
        return disagreement

    def _mean(self, weights: Floats) -> Floats:
        mean: Floats = np.tensordot(weights, self.probabilities.astype(np.float32), 1).astype(np.float64)
        return mean

    def _smoothed(self, probabilities: Floats) -> Floats:
        smoothed: Floats = (probabilities + SMOOTHING / self.probabilities.shape[2]) / (1 + SMOOTHING)
        return smoothed

    def _over_runs(self, beliefs: Floats, positions: Integers) -> Floats:
        answers = self.answers[:, :, positions].astype(np.int64)
        ran = answers >= 0
        right = np.where(ran, beliefs[np.arange(len(positions)), np.maximum(answers, 0)], 0.0)
        mean: Floats = right.sum(axis=1) / np.maximum(ran.sum(axis=1), 1)
        return mean


def draw_order(disagreement: Floats, may_be_drawn: NDArray[np.bool_], seed: int) -> tuple[Integers, Floats]:
    """Draws images one after the other in proportion to their sizes [M]; returns the positions in order, and sizes.

    The size is the disagreement, mixed with a share of an even draw so that every image can come, and 0 where an
    image may not be drawn; all sizes add up to 1.
    """
    weights = np.where(may_be_drawn, disagreement, 0.0)
    even = may_be_drawn / max(1, may_be_drawn.sum())
    sizes = (1 - EVEN_SHARE) * weights / weights.sum() + EVEN_SHARE * even if weights.any() else even
    drawable = np.flatnonzero(may_be_drawn)
    # Successive draws without replacement are in the order of these keys (Gumbel top-k).
    keys = np.log(sizes[drawable]) + np.random.default_rng(seed).gumbel(size=len(drawable))
    return drawable[np.argsort(-keys, kind="stable")], sizes


def unbiased_totals(values: Floats, sizes: Floats, total: float) -> Floats:
    """Returns m estimates of the sum of values [..., m] over all images: unbiased, and uncorrelated with each other.

    `values` and `sizes` are those of the first m images in the order of their draw, and `total` is the sum of the
    sizes of all images (Des Raj 1956, Some Estimators in Sampling with Varying Probabilities without Replacement).
    """
    drawn_before = np.cumsum(sizes) - sizes
    known_before = np.cumsum(values, axis=-1) - values
    totals: Floats = known_before + values * (total - drawn_before) / sizes
    return totals


@dataclass(frozen=True)
class Sample:
    """The images that were verified: those drawn, in the order of their draw, and those known before."""

    drawn: Integers  # positions [m]
    drawn_right: Integers  # [m] right labels
    known: Integers  # positions of images that were verified before anything was drawn
    known_right: Integers
    sizes: Floats  # [M] as `draw_order` returns them
    unclear: Integers  # positions of images whose class nobody can tell

    @property
    def positions(self) -> Integers:
        """Those known before, and those drawn."""
        return np.concatenate([self.known, self.drawn])

    @property
    def right(self) -> Integers:
        """The right labels at `positions`."""
        return np.concatenate([self.known_right, self.drawn_right])

    def accuracies(self, evidence: Evidence) -> Floats:
        """Returns m unbiased, uncorrelated estimates [C, m] of each candidate's accuracy on the right labels.

        What is believed of an image before anything is verified is its first guess, and only the error of that is
        estimated from the draws (a difference estimator; with networks as active statistical inference, Zrnic and
        Candès 2024). The better the beliefs, the narrower the interval; unbiased it is whatever they are. Images
        that nobody can tell do not count.
        """
        first = evidence.first_correctness
        errors = evidence.is_right(self.drawn, self.drawn_right) - first[:, self.drawn]
        total = self.sizes.sum() - self.sizes[self.unclear].sum()
        counted = np.setdiff1d(np.arange(first.shape[1]), np.concatenate([self.unclear, self.known]))
        fixed = first[:, counted].sum(axis=1) + evidence.is_right(self.known, self.known_right).sum(axis=1)
        totals = fixed[:, None] + unbiased_totals(errors, self.sizes[self.drawn], total)
        accuracies: Floats = totals / (len(counted) + len(self.known))
        return accuracies


def mean_interval(estimates: Floats) -> ConfidenceInterval | None:
    """Returns the mean of unbiased, uncorrelated estimates [m], with its 95 % interval; None without any."""
    return confidence_interval(estimates.tolist()) if len(estimates) else None


def _fit(features: Floats, right: Integers) -> Floats:
    """Returns the weights [2] of a conditional logit, from features [m, K, 2] and right classes [m], by Newton."""
    weights = _PRIOR.copy()
    for _ in range(MAX_STEPS):
        beliefs = _softmax(features @ weights)
        means = np.einsum("mk,mkf->mf", beliefs, features)
        slope = (features[np.arange(len(right)), right] - means).sum(axis=0) - (weights - _PRIOR)
        spread = np.einsum("mk,mkf,mkg->fg", beliefs, features, features) - means.T @ means
        step = np.clip(np.linalg.solve(spread + np.eye(2), slope), -0.5, 0.5)
        weights += step
        if np.abs(step).max() < TOLERANCE:
            break
    return weights


def _softmax(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result
