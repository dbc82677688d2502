"""How much better the answer of a search may become with further trials, by what it has learned of its space.

The trials to come are simulated many times: accuracies are drawn from the posterior for the trials that finished and
for candidates, of which a half is proposed where a draw of the same posterior is highest (Thompson sampling, which
stands for a sampler that learns) and a half at random. Each gets luck of its own. If the luckiest of them beats the
best report so far, the answer changes, and the gain is the difference of the two without luck: it may be negative.
`benchmarks/gain_calibration.py` compares the predictions with what searches then gained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from threadpoolctl import threadpool_limits

from tune_mentormix.config.search_space import SearchSpace, parse_space
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.posterior import Observation, Posterior, UnitCube
from tune_mentormix.storage.yaml_files import YamlDocument

FURTHER_TRIALS = 10
MIN_FINISHED = 4  # trials of the space that ran to their end
CANDIDATES = 192
NEAR_BEST, NEIGHBOURS = 3, 32  # candidates that are near the best trials
DRAWS = 512
RARE = 1 / 8  # the probability of a gain above `upper`
_EXACT = 1e-9

Params = tuple[tuple[str, Any], ...]  # of a configuration, by name


@dataclass(frozen=True)
class Known:
    """What the trials of a search tell of its space."""

    observations: tuple[tuple[int, Params, float, float], ...]  # trial, configuration, share of its training, score
    finished: tuple[Params, ...]
    best: float  # the highest last score, of a baseline or of one of `finished`
    best_place: int | None  # which of `finished` it is of; None where it is of a baseline
    finishing: float  # the share of the trials that ended which ran to their end


class Gain(NamedTuple):
    """What further trials promise, as a fraction of the images."""

    trials: int
    mean: float
    upper: float  # a larger gain has a probability of `RARE`


def expected_gain(experiment: Experiment, trials: int = FURTHER_TRIALS) -> Gain | None:
    """Predicts how much further trials would gain; None where too few have finished, or the scale is the user's own.

    Equal results give equal predictions.
    """
    if not experiment.space or experiment.settings.metric != experiment.metric:
        return None
    space = parse_space(YamlDocument(experiment.space, "space"))
    known = _known(experiment, space)
    if len(known.finished) < MIN_FINISHED:
        return None
    with threadpool_limits(1):  # for matrices as small as these, further threads only take processor time
        return predict_gain(tuple(space.distributions.items()), known, trials)


def predict_gain(space: tuple[tuple[str, BaseDistribution], ...], known: Known, trials: int) -> Gain:
    """Predicts the gain of further trials from what is known of a space."""
    distributions, generator = dict(space), np.random.default_rng(0)
    observed = [Observation(trial, dict(params), share, score) for trial, params, share, score in known.observations]
    finished: list[Mapping[str, Any]] = [dict(params) for params in known.finished]
    posterior, cube = Posterior(distributions, observed), UnitCube(distributions)
    best = np.argsort(-posterior.mean(finished), kind="stable")[:NEAR_BEST]
    candidates = cube.draw(generator, CANDIDATES)
    candidates += [near for place in best for near in cube.draw_near(generator, finished[place], NEIGHBOURS)]
    answer = [] if known.best_place is None else [finished[known.best_place]]
    accuracies = _draws(*posterior.joint([*answer, *candidates]), generator)
    count = max(1, round(trials * known.finishing))
    picked = len(answer) + _proposals(accuracies[:, len(answer) :], count, generator)
    reached = np.take_along_axis(accuracies, picked, axis=1)
    reported = reached + posterior.luck * generator.standard_normal(reached.shape)
    luckiest = reported.argmax(axis=1)
    rows = np.arange(DRAWS)
    now = accuracies[:, 0] if answer else known.best
    changes = reported[rows, luckiest] > known.best
    gains = np.where(changes, reached[rows, luckiest] - now, 0.0)
    return Gain(trials, float(gains.mean()), float(np.quantile(gains, 1 - RARE)))


def _draws(mean: NDArray[np.float64], covariance: NDArray[np.float64], generator: Any) -> NDArray[np.float64]:
    """Returns [draws, N] of a normal distribution whose covariance may be singular but for rounding."""
    values, vectors = np.linalg.eigh(covariance)
    normal = generator.standard_normal((DRAWS, len(mean)))
    return np.asarray(mean + (normal * np.sqrt(np.maximum(values, _EXACT))) @ vectors.T)


def _proposals(accuracies: NDArray[np.float64], count: int, generator: Any) -> NDArray[np.int64]:
    """Returns the places of the candidates that are tried in each draw: [draws, count]."""
    best = accuracies.argmax(axis=1)
    learned = best[generator.integers(0, len(best), (len(best), count))]  # where other draws are highest
    random = generator.integers(0, accuracies.shape[1], learned.shape)
    return np.asarray(np.where(np.arange(count) % 2 == 0, learned, random))


def _known(experiment: Experiment, space: SearchSpace) -> Known:
    epochs = experiment.settings.epochs
    observations: list[tuple[int, Params, float, float]] = []
    finished: list[Params] = []
    ended = 0
    best: tuple[float, int | None] = (-np.inf, None)
    for trial in experiment.trials.values():
        params = None if trial.is_baseline else _params(space, trial)
        score = trial.score
        if trial.state == "finished" and score is not None and score > best[0]:
            best = score, None if params is None else len(finished)
        if params is None:
            continue
        ended += trial.state in ("finished", "stopped_early")
        scores = trial.scores
        observations += [
            (trial.number, params, rung / epochs, scores[rung]) for rung in experiment.rungs if rung in scores
        ]
        if trial.state == "finished" and score is not None:
            finished.append(params)
            observations.append((trial.number, params, 1.0, score))
    return Known(tuple(observations), tuple(finished), *best, finishing=len(finished) / max(1, ended))


def _params(space: SearchSpace, trial: Trial) -> Params | None:
    values = space.searched_values(trial.config)
    return None if values is None else tuple(values.items())
