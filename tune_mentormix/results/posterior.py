"""What a search has learned of its space: a Gaussian process over configurations and the share of their training.

A trial's accuracy after a share t of its epochs is modelled as

    y(x, t) = offset of t + f(x) + (1 − t) · g(x) + luck(t)

where x are the searched hyperparameters on the unit cube (logarithmic where they are searched so, one column for each
choice), f and g are Gaussian processes with the same Matérn 5/2 kernel and a length for each hyperparameter, the
offset of each t is unknown, and luck is what the seed adds to a single trial, much of it at all its t. f is what
trials with all seeds would reach at the end on average. Kernel and priors follow the practice of Bayesian
optimization (Snoek et al. 2012; Swersky et al. 2013 for trials that were stopped); the hyperparameters of the process
are the most probable ones. Equal trials give equal answers: nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

OFFSET_VARIANCE = 25.0  # of standardized scores: as good as unknown
LEAST_SPREAD = 1e-3  # of accuracies: where all are equal, nothing tells how far others are
MAX_OBSERVATIONS = 400  # with more, a fit takes longer than half a second
# Priors of the logarithms of the hyperparameters: mean and standard deviation, for scores of variance 1.
_SIGNAL = (0.0, 0.7)  # variance of f
_CHANGE = (-1.0, 1.0)  # variance of g
_LUCK = (-1.5, 0.7)  # variance of luck
_LENGTH = (0.0, 0.5)  # in ranges; from 0.6 to 1.6 within one standard deviation
_FARTHEST = 20.0  # standard deviations; a step of the search for the most probable ones may lead anywhere
_REFUSED = 1e10  # the loss of what cannot be
_LUCK_LASTS = 1.5  # shares of a training: after 30 % its correlation with the end is 0.4 to 0.8 (benchmarks/curves)
_JITTER = 1e-6
NEAR = 0.1  # of a range


@dataclass(frozen=True)
class Observation:
    """What one trial had reached after a share of its training."""

    trial: int  # which of them share their luck
    params: Mapping[str, Any]
    share: float  # of a trial's epochs, above 0 and at most 1
    score: float


class UnitCube:
    """The hyperparameters of a space as columns between 0 and 1, of which the choices of one share a length."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        """A hyperparameter with one value only has no column."""
        self._space = dict(space)
        widths = [self._width(distribution) for distribution in space.values()]
        self.groups = np.repeat(np.arange(len(widths)), widths)  # column → its hyperparameter
        self.groups = np.unique(self.groups, return_inverse=True)[1].reshape(len(self.groups))

    def encode(self, configurations: Sequence[Mapping[str, Any]]) -> Array:
        """Returns [N, columns]."""
        columns = [
            self._columns(distribution, [params[name] for params in configurations])
            for name, distribution in self._space.items()
        ]
        return np.concatenate([np.empty((len(configurations), 0)), *columns], axis=1)

    def draw(self, generator: np.random.Generator, count: int) -> list[dict[str, Any]]:
        """Draws configurations, uniform on the cube."""
        drawn = generator.random((count, len(self._space)))
        return [self._decoded(row) for row in drawn]

    def draw_near(
        self, generator: np.random.Generator, params: Mapping[str, Any], count: int
    ) -> list[dict[str, Any]]:
        """Draws configurations whose numbers are about `NEAR` away, with the same choices."""
        numbers = [self._number(distribution, params[name]) for name, distribution in self._space.items()]
        moved = np.clip(numbers + NEAR * generator.standard_normal((count, len(numbers))), 0, 1 - 1e-12)
        return [self._decoded(row) | self._choices(params) for row in moved]

    def _choices(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: params[name] for name, each in self._space.items() if isinstance(each, CategoricalDistribution)}

    def _decoded(self, row: Array) -> dict[str, Any]:
        return {
            name: _value(distribution, float(number))
            for (name, distribution), number in zip(self._space.items(), row, strict=True)
        }

    @staticmethod
    def _number(distribution: BaseDistribution, value: Any) -> float:
        """Returns where a number lies between the ends of its range; 0 for a choice."""
        if isinstance(distribution, CategoricalDistribution) or distribution.single():
            return 0.0
        low, high, log = _range(distribution)
        number = np.log(float(value)) if log else float(value)
        return float((number - low) / (high - low))

    @staticmethod
    def _width(distribution: BaseDistribution) -> int:
        if distribution.single():
            return 0
        return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 1

    def _columns(self, distribution: BaseDistribution, values: Sequence[Any]) -> Array:
        if distribution.single():
            return np.empty((len(values), 0))
        if isinstance(distribution, CategoricalDistribution):
            columns = np.zeros((len(values), len(distribution.choices)))
            chosen = [int(distribution.to_internal_repr(value)) for value in values]
            columns[np.arange(len(values)), chosen] = np.sqrt(0.5)  # two choices are 1 apart
            return columns
        return np.array([self._number(distribution, value) for value in values]).reshape(len(values), 1)


def _range(distribution: BaseDistribution) -> tuple[float, float, bool]:
    """Returns the ends of a range of numbers, as logarithms where it is searched so, and whether it is."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    return (float(np.log(low)), float(np.log(high)), True) if distribution.log else (low, high, False)


def _value(distribution: BaseDistribution, number: float) -> Any:
    """Returns the value at a place between 0 and 1 of a hyperparameter's range or choices."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(number * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, log = _range(distribution)
    value = low + number * (high - low)
    value = float(np.exp(value)) if log else value
    if distribution.step is not None and not log:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else value


class Posterior:
    """The accuracies that configurations reach on average at the end, as observations tell them."""

    def __init__(self, space: Mapping[str, BaseDistribution], observations: Sequence[Observation]) -> None:
        """Fits the process. Raises ValueError without an observation at the end of training."""
        kept = _thinned(observations)
        ends = [each.score for each in kept if each.share == 1]
        if not ends:
            raise ValueError("no trial ran to its end")
        self._cube = UnitCube(space)
        self._shares = np.array([each.share for each in kept])
        self._center = float(np.median(ends))
        distances = _from_median(np.array([each.score for each in kept]), self._shares)
        self._scale = max(LEAST_SPREAD, float(distances[self._shares == 1].std()))
        self._points = self._cube.encode([each.params for each in kept])
        self._values = distances / self._scale
        apart, trials = np.abs(self._shares[:, None] - self._shares), np.array([each.trial for each in kept])
        self._same_luck = (trials[:, None] == trials) * np.exp(-apart / _LUCK_LASTS)
        self._same_share = (apart == 0) * OFFSET_VARIANCE
        self._distances = _squared_distances(self._points, self._points, self._cube.groups)
        self._theta = self._most_probable()
        self._factor = cho_factor(self._covariance(self._theta)[0], lower=True)
        self._weights = cho_solve(self._factor, self._values)

    @property
    def luck(self) -> float:
        """Standard deviation of what luck adds to a single trial."""
        return float(np.exp(self._theta[2] / 2)) * self._scale

    def mean(self, configurations: Sequence[Mapping[str, Any]]) -> Array:
        """Returns the expected accuracy of each configuration: [N]."""
        return self._mean_at(self._cube.encode(configurations)) * self._scale + self._center

    def joint(self, configurations: Sequence[Mapping[str, Any]]) -> tuple[Array, Array]:
        """Returns the mean [N] and the covariance [N, N] of the accuracies of configurations."""
        points = self._cube.encode(configurations)
        half = solve_triangular(self._factor[0], self._cross(points).T, lower=True)
        prior = self._prior(points, points) + OFFSET_VARIANCE
        covariance = (prior - half.T @ half) * self._scale**2
        return self._mean_at(points) * self._scale + self._center, covariance

    def _mean_at(self, points: Array) -> Array:
        return np.asarray(self._cross(points) @ self._weights)

    def _cross(self, points: Array) -> Array:
        """Returns the covariance of accuracies at the end with the observations: [N, observations]."""
        return np.asarray(self._prior(points, self._points) + OFFSET_VARIANCE * (self._shares == 1))

    def _prior(self, first: Array, second: Array) -> Array:
        """Returns the covariance of f: [N, M]."""
        distances = _squared_distances(first, second, self._cube.groups)
        scaled = np.tensordot(np.exp(-2 * self._theta[3:]), distances, axes=1)
        return np.asarray(np.exp(self._theta[0]) * _matern(np.sqrt(scaled)))

    def _covariance(self, theta: Array) -> tuple[Array, list[Array]]:
        """Returns the covariance of the observations, and its derivative by each hyperparameter."""
        signal, change, luck = np.exp(theta[:3])
        inverse = np.exp(-2 * theta[3:])  # of the squared lengths
        distance = np.sqrt(np.tensordot(inverse, self._distances, axes=1))
        shape = _matern(distance)
        remaining = np.outer(1 - self._shares, 1 - self._shares)
        amplitude = signal + change * remaining
        noise = luck * self._same_luck + _JITTER * np.eye(len(self._values))
        by_length = _matern_slope(distance) * amplitude
        derivatives = [signal * shape, change * remaining * shape, luck * self._same_luck]
        derivatives += [by_length * each * scale for each, scale in zip(self._distances, inverse, strict=True)]
        return amplitude * shape + self._same_share + noise, derivatives

    def _most_probable(self) -> Array:
        """Returns the hyperparameters with the highest posterior density, as logarithms."""
        lengths = self._distances.shape[0]
        priors = np.array([_SIGNAL, _CHANGE, _LUCK, *[_LENGTH] * lengths])

        def loss(theta: Array) -> tuple[float, Array]:
            away = (theta - priors[:, 0]) / priors[:, 1]
            if np.abs(away).max() > _FARTHEST:
                return _REFUSED, np.zeros_like(theta)
            covariance, derivatives = self._covariance(theta)
            try:
                factor = cho_factor(covariance, lower=True)
            except np.linalg.LinAlgError:
                return _REFUSED, np.zeros_like(theta)
            weights = cho_solve(factor, self._values)
            inverse = cho_solve(factor, np.eye(len(weights)))
            value = 0.5 * self._values @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * (away**2).sum()
            pull = inverse - np.outer(weights, weights)
            slopes = np.array([0.5 * (pull * each).sum() for each in derivatives])
            return float(value), slopes + away / priors[:, 1]

        found = minimize(loss, priors[:, 0], jac=True, method="L-BFGS-B", options={"maxiter": 40})
        return np.asarray(found.x)


def _from_median(scores: Array, shares: Array) -> Array:
    """Returns how far scores are above the median of their share; below it, on a logarithmic scale.

    How bad the bad ones are tells little of how good the best can be, and would make the process expect as much above
    them.
    """
    found = np.empty_like(scores)
    for share in np.unique(shares):
        above = scores[shares == share] - np.median(scores[shares == share])
        spread = max(LEAST_SPREAD, float(above.max()))
        found[shares == share] = np.where(above < 0, -spread * np.log1p(np.maximum(-above, 0) / spread), above)
    return found


def _thinned(observations: Sequence[Observation]) -> list[Observation]:
    """Returns at most `MAX_OBSERVATIONS`: the highest at the end of training, then the newest of the others."""
    ends = sorted((each for each in observations if each.share == 1), key=lambda each: each.score, reverse=True)
    ends = ends[:MAX_OBSERVATIONS]
    others = [each for each in observations if each.share < 1]
    room = MAX_OBSERVATIONS - len(ends)
    return ends + others[len(others) - min(room, len(others)) :]


def _squared_distances(first: Array, second: Array, groups: NDArray[np.int64]) -> Array:
    """Returns the squared distances in each hyperparameter: [hyperparameters, N, M]."""
    squares = (first.T[:, :, None] - second.T[:, None, :]) ** 2
    found = np.zeros((len(set(groups)), len(first), len(second)))
    np.add.at(found, groups, squares)
    return found


def _matern(distance: Array) -> Array:
    """The Matérn 5/2 kernel of a distance in lengths."""
    scaled = np.sqrt(5) * distance
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def _matern_slope(distance: Array) -> Array:
    """Its derivative by the logarithm of a length, for each squared distance in that length."""
    scaled = np.sqrt(5) * distance
    return np.asarray(5 / 3 * (1 + scaled) * np.exp(-scaled))
