"""The problems of `search_efficiency`: learning curves of real trials, or in closed form.

A problem answers two questions about a configuration: what a trial would report after an epoch, and how good it truly
is at the end. Every contestant sees the same space and the same reports.
"""

from __future__ import annotations

import hashlib
import math
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy.interpolate import RegularGridInterpolator

from tune_mentormix.config.controls import published_setting
from tune_mentormix.config.search_space import SearchSpace

CURVES = Path(__file__).parent / "curves"
HYPERPARAMETERS = ("mixup_alpha", "loss_p_percentile", "burn_in", "second_reweight")
BASELINES = ("mixup", "plain")  # in the order of the tables
LONGEST_BURN_IN = 15.0  # percent of a trial, as in the default space
Params = dict[str, Any]
Baseline = Literal["mixup", "plain"]


class Accuracies(NamedTuple):
    """The accuracies that trainings of one configuration reach at the end, on average."""

    noisy: float  # on the validation labels
    clean: float  # on clean test labels


class Problem(Protocol):
    """Curves over a space.

    Attributes:
        name: for the table.
        epochs: of a trial in full.
        space: what is searched.
        longest_burn_in: of the space, as a fraction of a trial.
        published: the published setting, as a point of the space.
        best: the highest accuracies of the space and the baselines, as far as is known.
        average: the mean accuracies of the space.
    """

    name: str
    epochs: int
    space: SearchSpace
    longest_burn_in: float
    published: Params
    best: Accuracies
    average: Accuracies

    def report(self, params: Params | Baseline, epoch: int, seed: int) -> float:
        """The validation accuracy that a trial reports after an epoch, from 1; equal seeds give equal reports."""

    def truth(self, params: Params | Baseline) -> Accuracies:
        """The accuracies at the end that trainings with all seeds have on average."""


class TabulatedCurves:
    """Real trials on a grid, each with several seeds, over the same continuous space as a search.

    The mean over seeds is the truth, interpolated linearly between the grid's points. As a mean of few, it is itself
    uncertain, and the best of many points would be the luckiest: where it is off a smooth surface (`smoothed`), it is
    drawn towards it by as much of this as chance explains. What a training's seed adds to the mean is luck: a trial
    has that of one seed at the grid point nearest to it, drawn by its values and the seed of the search, scaled so
    that its variance is unbiased.
    """

    def __init__(self, path: Path) -> None:
        """Reads a table of `tabulate_curves.py`."""
        with np.load(path) as table:
            stored = {name: table[name] for name in table.files}
        assert stored["done"].all(), f"{path} is not complete"
        self.name = path.stem
        axes = [stored[name] for name in HYPERPARAMETERS]
        self._axes = [np.log2(axes[0]), axes[1], axes[2]]
        curves = stored["validation"] / stored["validation_images"]  # [C, S, E]
        self.epochs, seeds = curves.shape[2], curves.shape[1]
        self._luck = (curves - curves.mean(axis=1, keepdims=True)) * math.sqrt(seeds / (seeds - 1))
        self._shape = tuple(map(len, axes))
        points = math.prod(self._shape)
        both = np.concatenate([curves, stored["test"][:, :, None] / stored["test_images"]], axis=2)
        both = np.concatenate([smoothed(both[:points], self._axes), both[points:].mean(axis=1)])
        means, clean = both[:, :-1], both[:, -1]
        self._baselines = {
            name: (means[points + place], float(clean[points + place])) for place, name in enumerate(BASELINES)
        }
        values = np.concatenate([means, clean[:, None]], axis=1)[:points].reshape(*self._shape, -1)
        self._values = [RegularGridInterpolator(self._axes, values[:, :, :, place]) for place in (0, 1)]
        self._seen: dict[tuple[Any, ...], NDArray[np.float64]] = {}
        self.longest_burn_in = LONGEST_BURN_IN / 100
        alphas, percentiles = axes[0], axes[1]
        self.space = SearchSpace(
            {
                "mixup_alpha": FloatDistribution(float(alphas[0]), float(alphas[-1]), log=True),
                "loss_p_percentile": FloatDistribution(float(percentiles[0]), float(percentiles[-1])),
                "burn_in": FloatDistribution(0, LONGEST_BURN_IN),
                "second_reweight": CategoricalDistribution([False, True]),
            },
            {},
        )
        self.published = published_setting(float(stored["noise"]), 10)
        ends = [Accuracies(float(means[point, -1]), float(clean[point])) for point in range(len(means))]
        self.best = Accuracies(*map(max, zip(*ends, strict=True)))
        self.average = Accuracies(*(float(np.mean(column)) for column in zip(*ends[:points], strict=True)))

    def report(self, params: Params | Baseline, epoch: int, seed: int) -> float:
        """Returns the mean around, with the luck of one training nearby."""
        return float(self._mean(params)[epoch - 1] + self._luck[self._trained(params, seed)][epoch - 1])

    def truth(self, params: Params | Baseline) -> Accuracies:
        """Returns the means around, at the end."""
        if isinstance(params, str):
            curve, clean = self._baselines[params]
            return Accuracies(float(curve[-1]), clean)
        values = self._mean(params)
        return Accuracies(float(values[self.epochs - 1]), float(values[-1]))

    def _mean(self, params: Params | Baseline) -> NDArray[np.float64]:
        """Returns the accuracy after each epoch; of a configuration also the clean one at the end."""
        if isinstance(params, str):
            return np.asarray(self._baselines[params][0])
        point = self._point(params)
        key = (*point, params["second_reweight"])
        if key not in self._seen:
            self._seen[key] = np.ravel(self._values[int(params["second_reweight"])](point))
        return self._seen[key]

    def _trained(self, params: Params | Baseline, seed: int) -> tuple[int, int]:
        """Returns the configuration and seed of the table whose luck a trial has."""
        if isinstance(params, str):
            configuration = math.prod(self._shape) + BASELINES.index(params)
        else:
            nearest = [
                int(np.abs(axis - value).argmin())
                for axis, value in zip(self._axes, self._point(params), strict=True)
            ]
            index = (*nearest, int(params["second_reweight"]))
            configuration = int(np.ravel_multi_index(index, self._shape))
        return configuration, drawn(params, seed) % self._luck.shape[1]

    @staticmethod
    def _point(params: Params) -> tuple[float, float, float]:
        return math.log2(params["mixup_alpha"]), params["loss_p_percentile"], params["burn_in"]


def smoothed(values: NDArray[np.float64], axes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns the means of values [points of the grid, seeds, figures], as much of them as is not chance.

    The smooth surface is of third order in the numbers and of second in their products, for each choice of its own.
    """
    numbers = np.meshgrid(*((axis - axis.min()) / (axis.max() - axis.min()) for axis in axes), indexing="ij")
    points = np.stack([np.repeat(each.ravel(), 2) for each in numbers])  # the choice changes fastest
    powers = [power for power in product(range(4), repeat=3) if sum(power) <= (3 if max(power) == sum(power) else 2)]
    terms = np.stack([np.prod(points ** np.array(power)[:, None], axis=0) for power in powers], axis=1)
    means = values.mean(axis=1)
    surface, fitted = np.empty_like(means), 0
    for choice in (slice(0, None, 2), slice(1, None, 2)):
        weights, _, rank, _ = np.linalg.lstsq(terms[choice], means[choice], rcond=None)
        surface[choice], fitted = terms[choice] @ weights, fitted + int(rank)
    off = means - surface
    spread = (off**2).sum(axis=0) / (len(means) - fitted)
    chance = values.var(axis=1, ddof=1).mean(axis=0) / values.shape[1]
    return np.asarray(surface + off * np.clip(1 - chance / spread, 0, 1))


def drawn(params: Params | Baseline, *seeds: int) -> int:
    """Returns a random number that a trial's values and the seeds determine."""
    return int.from_bytes(hashlib.blake2b(repr((params, seeds)).encode(), digest_size=8).digest(), "big")


class CrossingCurves:
    """A closed form over the default space that has what makes early stopping hard here.

    With x = log2 of mixup alpha, p the percentile, b the burn-in, s the second reweighting, t the fraction of
    training that is done:

    - Learning: every curve rises as 1 − exp(−t/τ). While t < b nothing is weighted and all look alike but for speed:
      τ = 0.03 + 0.004·(x + 1.32), so that little mixing learns fast and leads.
    - Separation: after the burn-in the asymptote moves from 0.52, that of plain training, to
      q = 0.60 − 0.0025·(x − x*)² − 0.25·(p − p*)² − 0.6·(b − 0.08)², x* = 2.5 + 2·(p − 0.5) and p* = 0.65 or,
      with s, 0.5 (and 0.004 more): a ridge, as strong mixing bears more examples. It does so as 1 − exp(−(t − b)/σ)
      with σ = 0.05 + 0.2·(1 − p): the fewer examples keep their weight, the later it pays, and curves cross.
    - Memorising: from half of the training on, min(m, 0.15)·(2t − 1)² is lost, with m = 0.10·p^4·2^(−x/2):
      settings that mix little and keep most examples were ahead and fall back.

    A trial's luck is Gaussian noise of 0.01 for all its reports together, as much as a seed's on the digits at 40 %
    noise, and 0.004 for each. Clean accuracy is not modelled: it is the same. Plain training is little mixing
    without weights, and so is plain mixup.
    """

    name = "closed_form"
    epochs = 60
    luck = 0.01
    noise = 0.004

    def __init__(self) -> None:
        """Over the default space."""
        self.longest_burn_in = LONGEST_BURN_IN / 100
        self.space = SearchSpace(
            {
                "mixup_alpha": FloatDistribution(0.4, 32, log=True),
                "loss_p_percentile": FloatDistribution(0.1, 0.9),
                "burn_in": FloatDistribution(0, LONGEST_BURN_IN),
                "second_reweight": CategoricalDistribution([False, True]),
            },
            {},
        )
        self.published = published_setting(0.4, 10)
        truths = [self.truth(params).noisy for params in self._grid()]
        best, average = max(truths), sum(truths) / len(truths)
        self.best, self.average = Accuracies(best, best), Accuracies(average, average)

    def report(self, params: Params | Baseline, epoch: int, seed: int) -> float:
        """The curve with the luck of this trial."""
        luck = self.luck * np.random.default_rng(drawn(params, seed)).standard_normal()
        noise = self.noise * np.random.default_rng(drawn(params, seed, epoch)).standard_normal()
        return self._accuracy(params, epoch / self.epochs) + float(luck + noise)

    def truth(self, params: Params | Baseline) -> Accuracies:
        """The curve's end."""
        accuracy = self._accuracy(params, 1.0)
        return Accuracies(accuracy, accuracy)

    def _accuracy(self, params: Params | Baseline, t: float) -> float:
        if isinstance(params, str):
            x, reached, lost = {"plain": (-1.3, 0.50, 0.12), "mixup": (3.0, 0.53, 0.04)}[params]
            return float(reached * (1 - math.exp(-t / (0.03 + 0.004 * (x + 1.32)))) - lost * max(0.0, 2 * t - 1) ** 2)
        x, p, b = math.log2(params["mixup_alpha"]), params["loss_p_percentile"], params["burn_in"] / 100
        second = params["second_reweight"]
        learned = 1 - math.exp(-t / (0.03 + 0.004 * (x + 1.32)))
        best_x, best_p = 2.5 + 2 * (p - 0.5), 0.5 if second else 0.65
        q = 0.60 + 0.004 * second - 0.0025 * (x - best_x) ** 2 - 0.25 * (p - best_p) ** 2 - 0.6 * (b - 0.08) ** 2
        separated = 1 - math.exp(-max(0.0, t - b) / (0.05 + 0.2 * (1 - p)))
        memorised = min(0.10 * p**4 * 2 ** (-x / 2), 0.15) * max(0.0, 2 * t - 1) ** 2
        return float(learned * (0.52 + (q - 0.52) * separated) - memorised)

    @staticmethod
    def _grid() -> list[Params]:
        return [
            {
                "mixup_alpha": float(alpha),
                "loss_p_percentile": float(p),
                "burn_in": float(b),
                "second_reweight": second,
            }
            for alpha, p, b, second in product(
                np.geomspace(0.4, 32, 33),
                np.linspace(0.1, 0.9, 33),
                np.linspace(0, LONGEST_BURN_IN, 16),
                (False, True),
            )
        ]


def tabulated(name: str) -> TabulatedCurves:
    """Returns the problem of a table by its name."""
    return TabulatedCurves(CURVES / f"{name}.npz")
