"""A sampler for Optuna that learns from every rung a trial reached: Bayesian optimization by `results.posterior`.

It is not part of the product, since it is no better than TPE (`search_policy.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm

from tune_mentormix.results.posterior import Observation, Posterior, UnitCube

RANDOM = 0.1  # of the proposals, so that nothing is ruled out for good
CANDIDATES = 512
BEST, NEIGHBOURS = 5, 32  # so many of the best candidates are improved by trying so many near each
EXACT = 1e-6  # of an accuracy


class CurveGPSampler(BaseSampler):
    """Proposes the configuration with the highest expected improvement at the end of training.

    Improvement is over the highest expected accuracy of a trial so far, not over the highest reported one, which was
    lucky. Running trials count as if they had reached what is expected of them.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int, least: int) -> None:
        """Proposes at random until `least` trials have finished."""
        self._space = dict(space)
        self._seed = seed
        self._least = least

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Optuna's hook: the whole space is sampled at once."""
        return self._space

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """Returns a configuration that the trials so far and the seed determine."""
        generator, cube = np.random.default_rng(self._seed), UnitCube(self._space)
        drawn = cube.draw(generator, CANDIDATES)
        others = [other for other in study.get_trials(deepcopy=False) if other.params]
        finished = [other.params for other in others if other.state == TrialState.COMPLETE]
        if len(finished) < self._least or generator.random() < RANDOM:
            return drawn[0]
        running = [other.params for other in others if other.state in (TrialState.RUNNING, TrialState.WAITING)]
        known = observations(others)
        posterior = Posterior(self._space, known)
        if running:
            expected = zip(running, posterior.mean(running), strict=True)
            known += [Observation(-1 - n, params, 1.0, float(mean)) for n, (params, mean) in enumerate(expected)]
            posterior = Posterior(self._space, known)
        incumbent = float(posterior.mean(finished).max())
        best = np.argsort(-improvement(posterior, drawn, incumbent), kind="stable")[:BEST]
        near = [other for place in best for other in cube.draw_near(generator, drawn[place], NEIGHBOURS)]
        candidates: list[dict[str, Any]] = [*(drawn[place] for place in best), *near]
        return candidates[int(np.argmax(improvement(posterior, candidates, incumbent)))]

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, distribution: Any) -> Any:
        """Optuna's hook for what `sample_relative` left out: nothing."""
        raise AssertionError(param_name)


def observations(trials: Sequence[FrozenTrial]) -> list[Observation]:
    """Returns what trials reached at their end, and at the epochs after which others were stopped."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.intermediate_values]
    last = max((max(trial.intermediate_values) for trial in complete), default=1)
    stopped = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.intermediate_values]
    rungs = {max(trial.intermediate_values) for trial in stopped}
    found = []
    for trial in trials:
        for epoch in sorted(rungs | {last}):
            if epoch in trial.intermediate_values:
                found.append(Observation(trial.number, trial.params, epoch / last, trial.intermediate_values[epoch]))
    return found


def improvement(posterior: Posterior, configurations: Sequence[dict[str, Any]], over: float) -> np.ndarray[Any, Any]:
    """Returns the expected improvement of each configuration over an accuracy: [N]."""
    mean, covariance = posterior.joint(configurations)
    deviation = np.sqrt(np.maximum(np.diag(covariance), EXACT**2))
    ahead = (mean - over) / deviation
    return np.asarray(deviation * (ahead * norm.cdf(ahead) + norm.pdf(ahead)))
