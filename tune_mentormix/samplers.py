"""Optuna's samplers by name, each made anew for every proposal, and a grid that a study can be replayed for.

A sampler is made from the search's seed and the trial's number, so a resumed search proposes what it would have
proposed undisturbed. What a sampler keeps between proposals it must find in the study's trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from itertools import product
from math import prod
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

REMEMBERING = ("cmaes", "qmc")  # they note things in the study as they propose: a replay must let them propose again
DEAF_TO_PRUNED = ("gp",)  # they learn from completed trials only
MOST_GRID_POINTS = 100_000

Space = Mapping[str, BaseDistribution]


class GridSampler(BaseSampler):
    """Every combination once, in an order that the seed shuffles; knows what was tried by the trials' parameters.

    Optuna's own numbers its points by trial, which a study rebuilt from a journal, or one with controls, lacks.
    """

    def __init__(self, space: Space, seed: int) -> None:
        """`space`: each distribution has a finite number of values (`grid_points`)."""
        self._space = dict(space)
        self._names = list(space)
        self._points = list(product(*(_values(space[name]) for name in self._names)))
        np.random.default_rng(seed).shuffle(self._points)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Optuna's hook: the whole space is sampled at once."""
        return self._space

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """The first point that no trial has; the first of all where every point was tried."""
        tried = {tuple(other.params.get(name) for name in self._names) for other in study.get_trials(deepcopy=False)}
        point = next((point for point in self._points if tuple(point) not in tried), self._points[0])
        return dict(zip(self._names, point, strict=True))

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, distribution: Any) -> Any:
        """Optuna's hook for what `sample_relative` left out: nothing."""
        raise AssertionError(param_name)


def grid_points(space: Space) -> int:
    """How many combinations a space of choices and whole numbers has."""
    return prod(len(_values(distribution)) for distribution in space.values())


def _values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution)
    return list(range(distribution.low, distribution.high + 1, distribution.step))


def _tpe(space: Space, search_seed: int, seed: int) -> BaseSampler:
    # Running trials count as bad ones (constant liar), so that parallel proposals spread out.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _gp(space: Space, search_seed: int, seed: int) -> BaseSampler:
    return GPSampler(seed=seed)  # takes running trials into account by itself


def _cmaes(space: Space, search_seed: int, seed: int) -> BaseSampler:
    independent = RandomSampler(seed=seed)  # for choices, which CMA-ES has no notion of
    return CmaEsSampler(
        seed=seed, consider_pruned_trials=True, independent_sampler=independent, warn_independent_sampling=False
    )


def _qmc(space: Space, search_seed: int, seed: int) -> BaseSampler:
    independent = RandomSampler(seed=seed)  # for the first trial, from which it takes the space
    return QMCSampler(
        scramble=True, seed=search_seed, independent_sampler=independent, warn_independent_sampling=False
    )


SAMPLERS: dict[str, Callable[[Space, int, int], BaseSampler]] = {
    "tpe": _tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "random": lambda space, search_seed, seed: RandomSampler(seed=seed),
    "grid": lambda space, search_seed, seed: GridSampler(space, search_seed),
    "qmc": _qmc,
}


def make_sampler(name: str, space: Space, search_seed: int, number: int) -> BaseSampler:
    """The sampler for one proposal.

    Args:
        name: one of `SAMPLERS`.
        space: what is searched.
        search_seed: the search's.
        number: of the trial that is proposed.
    """
    seed = int(np.random.SeedSequence([search_seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](space, search_seed, seed)
