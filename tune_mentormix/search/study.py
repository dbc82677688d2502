"""The Optuna study, rebuilt by replaying the journal: what Optuna learns, and when.

A live search and a replayed one pass through the same `apply`, so a resumed study cannot disagree with the results.
What Optuna hears: every report; COMPLETE with the last epoch's metric for a trial that ran to the end; PRUNED with
its curve for one that was stopped; PRUNED for one that failed by its own fault (NaN, out of memory), so that the
region counts as bad; FAIL, which samplers ignore, for one whose workers were lost. A sampler that ignores PRUNED too
hears COMPLETE instead, with the last value, or the worst of all where there is none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.config.search_space import SearchSpace, grid_points, grid_values
from tune_mentormix.config.settings import EarlierResults
from tune_mentormix.experiment.events import Event, Failed, Finished, Proposed, Report, Stopped
from tune_mentormix.experiment.trial import Trial

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class _OpenTrial:
    """A trial of the space that has not ended; `asked` is Optuna's own handle, which a replayed trial lacks."""

    params: dict[str, Any]
    asked: optuna.Trial | None = None
    curve: dict[int, float] = field(default_factory=dict)


class SearchStudy:
    """Proposes configurations from what the trials so far showed."""

    def __init__(
        self,
        space: SearchSpace,
        sampler: str,
        seed: int,
        metric: str = "val_accuracy",
        earlier: EarlierResults | None = None,
    ) -> None:
        """Starts with the results of an earlier search, if there are any; `apply` brings it up to date.

        It maximises `metric`, by its name in the reports.
        """
        self._metric = metric
        self._space = space
        self._sampler_name = sampler
        self._seed = seed
        self._open: dict[int, _OpenTrial] = {}
        known = _known_trials(earlier, space, sampler) if earlier else []
        is_source = sampler == "cmaes"
        self._source_trials = [trial for trial in known if is_source and trial.state == TrialState.COMPLETE]
        self.study = optuna.create_study(direction="maximize", sampler=self._sampler(0))
        if not is_source:
            self.study.add_trials(known)

    def enqueue(self, trial: Trial) -> None:
        """Adds a trial with fixed hyperparameters: a control, a warm start, or one that is resumed."""
        params = self._searched(trial.config, trial.control)
        if params is not None and not (trial.number in self._open and self._open[trial.number].asked):
            self._ask_again(trial.number, params)

    def propose(self, number: int) -> dict[str, Any]:
        """Opens trial `number` in the study, and returns the parameters that the sampler proposes for it."""
        curve = self._open[number].curve if number in self._open else {}
        self.study.sampler = self._sampler(number)
        asked = self.study.ask(self._space.distributions)
        self._open[number] = _OpenTrial(asked.params, asked, curve)
        return asked.params

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing new is left to propose: every point of a grid was tried."""
        if self._sampler_name != "grid":
            return False
        tried = {tuple(trial.params.values()) for trial in self.study.get_trials(deepcopy=False)}
        return len(tried) >= grid_points(self._space.distributions)

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account."""
        match event:
            case Proposed() if event.trial not in self._open:
                self._open_replayed(event)
            case Report() if event.trial in self._open and (score := event.score(self._metric)) is not None:
                self._open[event.trial].curve[event.epoch] = score
            case Finished() if event.trial in self._open:
                self._close(event.trial, TrialState.COMPLETE)
            case Stopped() if event.trial in self._open:
                self._close(event.trial, TrialState.PRUNED)
            case Failed() if event.trial in self._open:
                self._close(event.trial, TrialState.FAIL if event.worker_lost else TrialState.PRUNED)

    def _searched(self, config: dict[str, Any], control: str | None) -> dict[str, Any] | None:
        """The searched part of a configuration; None for what lies outside the space, and for the baselines.

        A baseline's values may lie inside, but it is another method: its accuracy would mislead about the region.
        """
        return None if control in BASELINES else self._space.searched_values(config)

    def _open_replayed(self, event: Proposed) -> None:
        number, params = event.trial, self._searched(event.config, event.control)
        if params is None:
            return
        if self._sampler_name not in STATEFUL_SAMPLERS:
            self._open[number] = _OpenTrial(params)
        elif event.enqueued:
            self._ask_again(number, params)
        elif self.propose(number) != params:  # another version of the sampler proposed it
            self.study.tell(self._open.pop(number).asked or number, state=TrialState.FAIL)
            self._ask_again(number, params)

    def _ask_again(self, number: int, params: dict[str, Any]) -> None:
        self.study.enqueue_trial(params)
        self.propose(number)

    def _close(self, number: int, state: TrialState) -> None:
        trial = self._open.pop(number)
        value = trial.curve[max(trial.curve)] if trial.curve and state != TrialState.FAIL else None
        if state == TrialState.PRUNED and self._sampler_name in IGNORE_PRUNED_TRIALS:
            state, value = TrialState.COMPLETE, self._worst() if value is None else value
        if trial.asked is None:
            self.study.add_trial(
                create_trial(
                    state=state,
                    value=value,
                    params=trial.params,
                    distributions=self._space.distributions,
                    intermediate_values=trial.curve,
                )
            )
            return
        for epoch in sorted(trial.curve):
            trial.asked.report(trial.curve[epoch], step=epoch)
        self.study.tell(trial.asked, value if state == TrialState.COMPLETE else None, state)

    def _worst(self) -> float:
        """Returns the lowest value told so far."""
        values = [trial.value for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
        return min((value for value in values if value is not None), default=0.0)

    def _sampler(self, number: int) -> BaseSampler:
        return make_sampler(self._sampler_name, self._space.distributions, self._seed, number, self._source_trials)


def _known_trials(earlier: EarlierResults, space: SearchSpace, sampler: str) -> list[FrozenTrial]:
    """Returns an earlier search's results as trials of Optuna, of each what `SearchStudy` tells of its own."""
    known = []
    scores = [trial.score for trial in earlier.trials if trial.score is not None]
    for trial in earlier.trials:
        params = space.values_inside(earlier.config(trial))
        assert params is not None  # those outside are left out when the search is planned
        distributions, value = space.distributions, trial.score
        if sampler == "cmaes":  # which begins from trials of the numbers that it searches, and no others
            distributions = {name: each for name, each in distributions.items() if _is_number(each)}
            params = {name: params[name] for name in distributions}
        is_complete = trial.ran_to_its_end and value is not None
        if not is_complete and sampler in IGNORE_PRUNED_TRIALS:
            is_complete, value = True, min(scores, default=0.0) if value is None else value
        known.append(
            create_trial(
                state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
                value=value,
                params=params,
                distributions=distributions,
                intermediate_values={} if trial.score is None else {trial.epoch: trial.score},
            )
        )
    return known


def _is_number(distribution: BaseDistribution) -> bool:
    return not isinstance(distribution, CategoricalDistribution) and not distribution.single()


STATEFUL_SAMPLERS = ("cmaes", "qmc")  # they store state in the study, so a replay must call them again
IGNORE_PRUNED_TRIALS = ("gp",)  # they learn from completed trials only
SAMPLERS_THAT_LEARN = ("tpe", "gp", "cmaes", "grid")  # from results; the grid, what was tried
MIN_SOURCE_TRIALS = 10  # that ran to their end, for CMA-ES to begin from: it takes the best tenth

Space = Mapping[str, BaseDistribution]


class SpaceTPESampler(TPESampler):
    """Optuna's TPE over a space that is given. Its own compares the spaces of all trials before every proposal."""

    def __init__(self, space: Space, seed: int) -> None:
        """Running trials count as bad ones (constant liar), so that parallel proposals spread out."""
        super().__init__(seed=seed, multivariate=True, constant_liar=True)
        self._searched = {name: each for name, each in sorted(space.items()) if not each.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Optuna's hook: what has more than one value is sampled at once."""
        return self._searched


class GridSampler(BaseSampler):
    """Every combination once, in an order that the seed shuffles; knows what was tried by the trials' parameters.

    Optuna's own numbers its points by trial, which a study rebuilt from a journal, or one with controls, lacks.
    """

    def __init__(self, space: Space, seed: int) -> None:
        """`space`: each distribution has a finite number of values (`grid_points`)."""
        self._space = dict(space)
        self._names = list(space)
        self._points = list(product(*(grid_values(space[name]) for name in self._names)))
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


def _cmaes(seed: int, source_trials: list[FrozenTrial] | None = None) -> BaseSampler:
    return CmaEsSampler(
        seed=seed,
        consider_pruned_trials=True,
        independent_sampler=RandomSampler(seed=seed),
        warn_independent_sampling=False,
        source_trials=source_trials,
    )


# Takes the space, the seed of the search, and that of the proposal.
SAMPLERS: dict[str, Callable[[Space, int, int], BaseSampler]] = {
    "tpe": lambda space, search_seed, seed: SpaceTPESampler(space, seed),
    "gp": lambda space, search_seed, seed: GPSampler(seed=seed),
    # CMA-ES knows no choices, and QMC takes the space from the first trial: these are drawn at random.
    "cmaes": lambda space, search_seed, seed: _cmaes(seed),
    "random": lambda space, search_seed, seed: RandomSampler(seed=seed),
    "grid": lambda space, search_seed, seed: GridSampler(space, search_seed),
    "qmc": lambda space, search_seed, seed: QMCSampler(
        scramble=True,
        seed=search_seed,
        independent_sampler=RandomSampler(seed=seed),
        warn_independent_sampling=False,
    ),
}


def make_sampler(
    name: str, space: Space, search_seed: int, number: int, source_trials: list[FrozenTrial] | None = None
) -> BaseSampler:
    """Returns the sampler, one of `SAMPLERS`, that proposes trial `number`; CMA-ES may begin from source trials."""
    seed = int(np.random.SeedSequence([search_seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "cmaes" and source_trials:
            return _cmaes(seed, source_trials)
        return SAMPLERS[name](space, search_seed, seed)
