"""Medians and means over seeds, with bootstrap 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, trim_mean

RESAMPLES = 2000
LEVELS = (2.5, 97.5)


def interquartile_mean(figures: Sequence[float]) -> float:
    """The mean of the middle half: as robust as a median, and less coarse."""
    return float(trim_mean(figures, 0.25))


def summary(figures: Sequence[float], statistic: Callable[[Any], Any] = np.median) -> dict[str, float]:
    """A statistic over seeds (`value`) with its bootstrap interval (`low`, `high`)."""
    values = np.asarray(figures, dtype=float)
    draws = np.random.default_rng(0).integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile([statistic(values[draw]) for draw in draws], LEVELS)
    return {"value": float(statistic(values)), "low": float(low), "high": float(high)}


def ratio_of_means(own: Sequence[NDArray[np.float64]], bases: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Mean cost by that of a basis, over problems the geometric mean, with its interval.

    Args:
        own: for each problem [seeds, figures].
        bases: the same of the basis, on the same seeds.
    """

    def figure(places: NDArray[np.float64]) -> float:
        chosen = places.astype(int)
        return float(
            np.exp(
                np.mean(
                    [
                        np.log(each[chosen].mean() / basis[chosen].mean())
                        for each, basis in zip(own, bases, strict=True)
                    ]
                )
            )
        )

    return summary([float(place) for place in range(len(own[0]))], figure)


def interval_text(figure: Mapping[str, float]) -> str:
    """Shows a statistic with its interval."""
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def mean_ranks(costs: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Each contestant's rank (1 is the cheapest, ties share), as the mean over runs with its interval.

    Args:
        costs: contestant → one figure a run, the same runs for all.
    """
    ranks = np.apply_along_axis(rankdata, 0, np.array(list(costs.values()), dtype=float))  # [contestants, runs]
    return {name: summary(row.tolist(), np.mean) for name, row in zip(costs, ranks, strict=True)}
