"""Means over seeds with their 95 % intervals, and paired comparisons: Student's t, and nothing else.

An interval is about seeds: where the mean of many more runs would lie, on the same data and the same images.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtr, stdtrit

from tune_mentormix.formatting import NOTHING, format_accuracy

CONFIDENCE = 0.95
NO_SPREAD = 1e-12  # accuracies are shares of at most millions of images: less than this is rounding


@dataclass(frozen=True)
class Interval:
    """A mean over n runs, with its 95 % interval."""

    mean: float
    half_width: float | None  # None: nothing is known of the spread
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
        """Whether all of the interval is."""
        return self.low is not None and self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Whether all of the interval is."""
        return self.high is not None and self.high < 0

    def as_json(self) -> dict[str, Any]:
        """Mean, ends and n."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of at least one value, with its interval from Student's t distribution.

    There is none of a single value, nor of equal ones, as a few runs on few images can have by chance.
    """
    n = len(values)
    if n == 1 or stdev(values) < NO_SPREAD:
        return Interval(fmean(values), None, n)
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Interval(fmean(values), quantile * stdev(values) / math.sqrt(n), n)


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """First minus second, seed by seed, over the seeds that both have."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def chance_of_no_gain(differences: Sequence[float]) -> float:
    """The one-sided p-value of a paired t-test: how probable such a gain is if there is none.

    Differences without any spread prove nothing: 1.
    """
    if len(differences) < 2 or stdev(differences) < NO_SPREAD:
        return 1.0
    t = fmean(differences) / (stdev(differences) / math.sqrt(len(differences)))
    return float(stdtr(len(differences) - 1, -t))


def format_interval(interval: Interval | None) -> str:
    """A mean accuracy with its 95 % interval: `0.5882 ± 0.0024`."""
    if interval is None:
        return NOTHING
    if interval.half_width is None:
        return format_accuracy(interval.mean)
    return f"{interval.mean:.4f} ± {interval.half_width:.4f}"


LEAST_ROUNDS = 3  # before the first test
LEVEL = 0.05  # of all tests of one round together


def hopeless(accuracies: Mapping[str, Mapping[int, float]], kept: Collection[str]) -> dict[str, str]:
    """Tests every candidate against the leader, the one with the highest mean.

    A one-sided paired t-test at the level 0.05, divided by the number of candidates tested (Bonferroni), so that
    in one round a candidate as good as the leader is ruled out with a probability of at most 0.05.

    Args:
        accuracies: of the candidates still in the race, by name and seed, the same seeds for all.
        kept: names of those that are never ruled out.

    Returns:
        The names of those ruled out, with the reason in words.
    """
    leader = max(accuracies, key=lambda name: fmean(accuracies[name].values()))
    tested = [name for name in accuracies if name != leader and name not in kept]
    reasons = {}
    for name in tested:
        differences = paired_differences(accuracies[leader], accuracies[name])
        chance = chance_of_no_gain(differences)
        if chance < LEVEL / len(tested):
            behind = f"{100 * fmean(differences):.1f} points behind {leader} after {len(differences)} seeds"
            reasons[name] = f"{behind} (p = {chance:.2g})"
    return reasons
