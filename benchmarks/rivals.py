"""Contestants of `search_efficiency` from other projects: Syne Tune's ASHA and SMAC3's multi-fidelity search.

Both are told of the published setting as their first trial. They are installed by `rivals.txt`. Syne Tune 0.16 has no
ASHA that pauses and no MOBSTER any more; of its ASHA searchers, conformalized quantile regression (CQR) is the one
that its authors recommend (Salinas et al. 2023).
"""

from __future__ import annotations

import random
import tempfile
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution
from problems import Problem
from simulation import Proposal

Array = NDArray[np.float64]
ETA = 3  # SMAC's own factor between two budgets
INITIAL_CONFIGURATIONS = 10  # ten for each hyperparameter, as SMAC has it, would be more than a search's budget
RUNGS = 2  # of SMAC below a full trial: it has no default for its lowest budget


class SyneTune:
    """A scheduler of Syne Tune, called as its tuner calls it."""

    def __init__(self, problem: Problem, seed: int, kind: str) -> None:
        """`kind` is a class of `syne_tune.optimizer.baselines`; all else is as that ships it."""
        from syne_tune.optimizer import baselines

        _hasten_quantile_regression()
        random.seed(seed)  # CQR draws from the generators of the process too
        np.random.seed(seed)
        self._problem = problem
        self._scheduler = getattr(baselines, kind)(
            config_space=_syne_tune_space(problem),
            metric="val_accuracy",
            time_attr="epoch",
            max_t=problem.epochs,
            do_minimize=False,
            random_seed=int(np.random.SeedSequence([seed, 9]).generate_state(1)[0]),
            points_to_evaluate=[problem.published],
        )
        self._trials: list[Any] = []

    def propose(self) -> Proposal:
        """Returns what the scheduler suggests."""
        from syne_tune.backend.trial_status import Trial

        config = dict(self._scheduler.suggest().config)
        trial = Trial(trial_id=len(self._trials), config=config, creation_time=datetime.now())
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return Proposal(trial.trial_id, _params(self._problem, config))

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Reports as its tuner does."""
        trial, result = self._trials[number], {"val_accuracy": accuracy, "epoch": epoch}
        if epoch == self._problem.epochs:
            self._scheduler.on_trial_complete(trial, result)
            return False
        if self._scheduler.on_trial_result(trial, result) == "CONTINUE":
            return True
        self._scheduler.on_trial_remove(trial)
        return False


class Smac:
    """SMAC3's facade for multi-fidelity: random forests with Hyperband, by ask and tell.

    A configuration that is asked for again with a larger budget continues from its last epoch.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        """All is as SMAC ships it, with budgets from a ninth of a trial on."""
        from smac import MultiFidelityFacade, Scenario

        self._problem = problem
        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            _smac_space(problem, seed),
            deterministic=True,
            min_budget=problem.epochs / ETA**RUNGS,
            max_budget=problem.epochs,
            n_trials=1_000_000,
            seed=seed,
            output_directory=self._folder.name,
        )
        from ConfigSpace import Configuration

        first = Configuration(scenario.configspace, values=problem.published)
        self._smac = MultiFidelityFacade(
            scenario,
            lambda config, seed, budget: 0.0,
            initial_design=MultiFidelityFacade.get_initial_design(
                scenario, n_configs=INITIAL_CONFIGURATIONS, additional_configs=[first]
            ),
            logging_level=False,
            overwrite=True,
        )
        self._asked: list[Any] = []
        self._trained: dict[Any, int] = {}

    def propose(self) -> Proposal:
        """Returns what SMAC asks for."""
        asked = self._smac.ask()
        self._asked.append(asked)
        params = _params(self._problem, dict(asked.config))
        return Proposal(len(self._asked) - 1, params, self._trained.get(asked.config, 0))

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Tells the result once the budget that was asked for is used."""
        from smac.runhistory.dataclasses import TrialValue

        asked = self._asked[number]
        if epoch < round(asked.budget):
            return True
        self._trained[asked.config] = epoch
        self._smac.tell(asked, TrialValue(cost=1 - accuracy), save=False)
        return False


def _hasten_quantile_regression() -> None:
    """Lets scikit-learn fit the quantiles of CQR with equal results in half the time.

    Half of it goes to looking up which array library the values belong to, and to checking parameters.
    """
    import sklearn
    from sklearn._loss import loss

    sklearn.set_config(skip_parameter_validation=True)
    loss._weighted_percentile = _weighted_percentile


def _weighted_percentile(values: Array, weights: Array, rank: float = 50) -> float:
    """Returns the lowest value with `rank` percent of the weight at it or below."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, rank / 100 * reached[-1]))
    return float(values[order[min(place, len(order) - 1)]])


def _params(problem: Problem, config: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration as plain values, in the order of the space."""
    return {
        name: bool(config[name]) if isinstance(distribution, CategoricalDistribution) else float(config[name])
        for name, distribution in problem.space.distributions.items()
    }


def _syne_tune_space(problem: Problem) -> dict[str, Any]:
    from syne_tune.config_space import choice, loguniform, uniform

    space: dict[str, Any] = {}
    for name, distribution in problem.space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            space[name] = choice(list(distribution.choices))
        else:
            assert isinstance(distribution, FloatDistribution)
            space[name] = (loguniform if distribution.log else uniform)(distribution.low, distribution.high)
    return space


def _smac_space(problem: Problem, seed: int) -> Any:
    from ConfigSpace import Categorical, ConfigurationSpace, Float

    space = ConfigurationSpace(seed=seed)
    for name, distribution in problem.space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            space.add(Categorical(name, list(distribution.choices)))
        else:
            assert isinstance(distribution, FloatDistribution)
            space.add(Float(name, (distribution.low, distribution.high), log=distribution.log))
    return space
