"""Means over seeds with their 95 % confidence intervals, and paired t-tests.

An interval is about seeds: where the mean of many more runs would lie, on the same data and the same images.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

CONFIDENCE = 0.95
MIN_STDEV = 1e-12  # accuracies are fractions of at most millions of images: a smaller deviation is rounding
MIN_ROUNDS = 3  # before the first test
SIGNIFICANCE_LEVEL = 0.05  # of all tests of one round together


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
