"""Tells how sure a difference is: between trained networks on the same images, and between configurations over seeds.

Bounds on a lead are about two trained networks: what the choice of validation images explains. Confidence intervals
are about seeds: where the mean of many more runs would lie.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported where it is needed: `status` of a search without results starts faster
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95
MIN_STDEV = 1e-12  # accuracies are fractions of at most millions of images: a smaller deviation is rounding
MIN_ROUNDS = 3  # before the first test
SIGNIFICANCE_LEVEL = 0.05  # of all tests of one round together
BOUND_DRAWS = 10_000  # of the maximum of all leads by chance
_IMAGES_AT_ONCE = 2**16


@dataclass(frozen=True)
class ConfidenceInterval:
    """A mean over n runs, with its 95 % interval."""

    mean: float
    half_width: float | None  # None: the values have no spread from which it could be estimated
    n: int

    @property
    def low(self) -> float | None:
        """The lower end."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end."""
        return None if self.half_width is None else self.mean + self.half_width

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high is not None and self.high < 0

    def __str__(self) -> str:
        """Formats a mean accuracy with its 95 % interval: `0.5882 ± 0.0024`."""
        return f"{self.mean:.4f}" if self.half_width is None else f"{self.mean:.4f} ± {self.half_width:.4f}"

    def in_points(self) -> str:
        """Formats a mean difference with its 95 % interval, in percentage points: `-2.04 ± 1.07`."""
        half_width = "" if self.half_width is None else f" ± {100 * self.half_width:.2f}"
        return f"{100 * self.mean:+.2f}{half_width}"

    def as_json(self) -> dict[str, Any]:
        """Returns mean, ends and n."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def confidence_interval(values: Sequence[float]) -> ConfidenceInterval:
    """Returns the mean of at least one value, with its interval from Student's t distribution.

    A single value has no interval, nor have equal ones, as a few runs on few images can have by chance.
    """
    n = len(values)
    if n == 1 or stdev(values) < MIN_STDEV:
        return ConfidenceInterval(fmean(values), None, n)
    from scipy.special import stdtrit  # `scipy.stats` has it too, and takes several times as long to import

    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return ConfidenceInterval(fmean(values), quantile * stdev(values) / math.sqrt(n), n)


def max_leads_by_chance(differences: NDArray[np.int8], level: float = 1 - CONFIDENCE) -> NDArray[np.float64]:
    """Returns one-sided upper bounds on leads that chance explains: with probability 1 − `level`, no lead is larger.

    That holds for all leads together, where the two of each pair are equally good. Their correlation is taken into
    account: the maximum of all leads, in standard errors, is drawn from their joint normal distribution (max-T;
    Hothorn, Bretz and Westfall 2008, "Simultaneous inference in general parametric models"), always with the same
    random numbers.

    Args:
        differences: [T, M] in {−1, 0, 1}, right minus right on each image, of T pairs on the same M images.
        level: probability that chance exceeds any of the bounds.

    Returns:
        [T], fractions of the images.
    """
    import numpy as np

    pairs, images = differences.shape
    products, sums = np.zeros((pairs, pairs)), differences.sum(axis=1, dtype=np.float64)
    for start in range(0, images, _IMAGES_AT_ONCE):
        part = differences[:, start : start + _IMAGES_AT_ONCE].astype(np.float32)
        products += part @ part.T  # exact: integers below 2^24
    errors = _paired_standard_errors(np.diag(products), sums, images)
    correlations = (products - np.outer(sums, sums) / images) / np.outer(errors, errors) / (images + 2) ** 2
    np.fill_diagonal(correlations, 1.0)  # the images added to each pair are independent: they add to no covariance
    root = np.linalg.cholesky(correlations).astype(np.float32)
    normals = np.random.default_rng(0).standard_normal((BOUND_DRAWS, pairs), dtype=np.float32)
    maxima = (normals @ root.T).max(axis=1)
    sampling_error = math.sqrt(level * (1 - level) / BOUND_DRAWS)  # of the probability, at a quantile of the draws
    return float(np.quantile(maxima, 1 - level + 2 * sampling_error)) * errors


def paired_standard_error(difference: NDArray[np.int8]) -> float:
    """Returns the standard error of the mean of [M] in {−1, 0, 1}, right minus right on each image."""
    import numpy as np

    discordant, total = np.count_nonzero(difference), difference.sum(dtype=np.float64)
    return float(_paired_standard_errors(np.array([discordant]), np.array([total]), len(difference))[0])


def _paired_standard_errors(
    discordant: NDArray[np.float64], sums: NDArray[np.float64], images: int
) -> NDArray[np.float64]:
    """Returns the standard errors of differences of paired proportions.

    One image is added to both kinds of discordant ones, so that few of them are enough (Bonett and Price 2012,
    "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data").
    """
    import numpy as np

    errors: NDArray[np.float64] = np.sqrt(discordant + 2 - sums**2 / (images + 2)) / (images + 2)
    return errors


def turning_point(values: Sequence[float], standard_error: float) -> int | None:
    """Returns the index at which a curve is highest if it has come down since; None if it has not.

    The curve is smoothed over an eighth of its length. It has come down if it ends lower than its maximum by two
    standard errors: that of a difference of two values, and the scatter from value to value, which is estimated from
    second differences: the curve itself does not count as scatter.
    """
    reach = 1 + len(values) // 16
    if len(values) <= 2 * reach:
        return None
    smooth = [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    bends = (abs(values[i - 1] - 2 * values[i] + values[i + 1]) for i in range(1, len(values) - 1))
    scatter = median(bends) / (0.6745 * math.sqrt(6))
    peak = max(range(len(smooth)), key=smooth.__getitem__)
    error = math.hypot(standard_error, scatter * math.sqrt(2 / (reach + 1)))
    return peak if smooth[peak] - smooth[-1] > 2 * error else None


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """Returns first minus second, seed by seed, over the seeds that both have."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def paired_t_test_p_value(differences: Sequence[float]) -> float:
    """Returns the one-sided p-value of a paired t-test; differences without any spread prove nothing: 1."""
    if len(differences) < 2 or stdev(differences) < MIN_STDEV:
        return 1.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0, alternative="greater").pvalue)


def eliminated_candidates(accuracies: Mapping[str, Mapping[int, float]], kept: Collection[str]) -> dict[str, str]:
    """Tests every candidate against the one with the highest mean; returns the names of those eliminated, and why.

    Racing, as in F-race: a one-sided paired t-test at the level 0.05, divided by the number of candidates tested
    (Bonferroni), so that in one round a candidate as good as the leader is eliminated with a probability of at most
    0.05. `accuracies` are by name and seed, the same seeds for all; those in `kept` are never eliminated.
    """
    leader = max(accuracies, key=lambda name: fmean(accuracies[name].values()))
    tested = [name for name in accuracies if name != leader and name not in kept]
    reasons = {}
    for name in tested:
        differences = paired_differences(accuracies[leader], accuracies[name])
        p_value = paired_t_test_p_value(differences)
        if p_value < SIGNIFICANCE_LEVEL / len(tested):
            behind = f"{100 * fmean(differences):.1f} points behind {leader} after {len(differences)} seeds"
            reasons[name] = f"{behind} (p = {p_value:.2g})"
    return reasons
