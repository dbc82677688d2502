"""The contestants of `search_efficiency`: this project's study and rungs, Ray's own classes, full-length searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial
from problems import Problem
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from simulation import Proposal

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Event, Finished, Proposed, Report, Stopped
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving, rung_epochs
from tune_mentormix.search.plan import EPOCHS_AFTER_BURN_IN
from tune_mentormix.search.study import SearchStudy

DEFAULTS = SearchSettings()


def first_rung(problem: Problem, epochs_after_burn_in: float = EPOCHS_AFTER_BURN_IN) -> int:
    """Returns the first rung where `SearchRequest.first_rung` puts it."""
    return max(1, round(problem.epochs * (problem.longest_burn_in + epochs_after_burn_in)))


class Ours:
    """Our study and early stopping, fed the events that a journal would hold; the three controls come first."""

    def __init__(
        self,
        problem: Problem,
        seed: int,
        sampler: str = DEFAULTS.sampler,
        asha: AsyncSuccessiveHalving | None = None,
    ) -> None:
        """Searches with the default policy, unless another is given."""
        self._problem = problem
        self._study = self._new_study(sampler, seed)
        factor = DEFAULTS.reduction_factor
        self._asha = asha or AsyncSuccessiveHalving(rung_epochs(first_rung(problem), factor, problem.epochs), factor)
        self._proposed = 0
        self._controls = ["published", "mixup", "plain"]

    def _new_study(self, sampler: str, seed: int) -> SearchStudy:
        return SearchStudy(self._problem.space, sampler, seed)

    def propose(self) -> Proposal:
        """A control, or what the study proposes."""
        number, self._proposed = self._proposed, self._proposed + 1
        control = self._controls.pop(0) if self._controls else None
        if control:
            params = self._problem.published
            self._study.enqueue(Trial(number, params, control))
        else:
            params = self._study.propose(number)
        self._apply(Proposed(trial=number, config=params, control=control))
        return Proposal(number, params, is_baseline=control in ("mixup", "plain"))

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Reports as `EarlyStoppingScheduler` and `JournalCallback` do, in their order."""
        is_last = epoch == self._problem.epochs
        if not is_last:
            self._asha.record(number, epoch, accuracy)
        continues = is_last or not self._asha.is_stopped(number)
        self._apply(Report(trial=number, epoch=epoch, val_accuracy=accuracy))
        if is_last or not continues:
            self._apply((Finished if is_last else Stopped)(trial=number, epoch=epoch))
        return continues

    def _apply(self, event: Event) -> None:
        self._study.apply(event)
        self._asha.apply(event)


class FullLength:
    """Optuna's sampler alone: every trial is trained to the end."""

    def __init__(self, problem: Problem, seed: int, sampler: str) -> None:
        """`sampler` by its name in `search`."""
        self._problem = problem
        self._study = SearchStudy(problem.space, sampler, seed)
        self._proposed = 0

    def propose(self) -> Proposal:
        """Returns what the sampler proposes."""
        number, self._proposed = self._proposed, self._proposed + 1
        return Proposal(number, self._study.propose(number))

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Never stops a trial."""
        self._study.apply(Report(trial=number, epoch=epoch, val_accuracy=accuracy))
        if epoch == self._problem.epochs:
            self._study.apply(Finished(trial=number))
        return True


@dataclass
class _RayTrial:
    """The part of Tune's `Trial` that the scheduler looks at."""

    trial_id: str


class Ray:
    """Ray's `OptunaSearch` and `ASHAScheduler`, called as `TuneController` calls them, in its order.

    That is: a report goes to the scheduler first, and to the searcher only if the trial continues; a trial stopped
    early is complete for both, with its last result. On the last result of a trial, which is `done`, the scheduler
    is not asked.
    """

    def __init__(self, problem: Problem, seed: int, sampler: BaseSampler | None = None, **asha: Any) -> None:
        """`asha` are options of `ASHAScheduler` besides its `max_t`; by default, all is as Ray ships it."""
        self._problem = problem
        seed_of_sampler = int(np.random.SeedSequence([seed, 7]).generate_state(1)[0])
        options: dict[str, Any] = {"sampler": sampler} if sampler else {"seed": seed_of_sampler}
        self._searcher: Any = OptunaSearch(problem.space.distributions, metric="val_accuracy", mode="max", **options)
        self._scheduler: Any = ASHAScheduler(metric="val_accuracy", mode="max", max_t=problem.epochs, **asha)
        self._trials: list[_RayTrial] = []

    def propose(self) -> Proposal:
        """Returns what `OptunaSearch` suggests."""
        trial = _RayTrial(str(len(self._trials)))
        self._trials.append(trial)
        params = self._searcher.suggest(trial.trial_id)
        self._scheduler.on_trial_add(None, trial)
        return Proposal(int(trial.trial_id), params)

    def told(self, number: int) -> FrozenTrial:
        """A trial as Optuna knows it."""
        trial: FrozenTrial = self._searcher._ot_study.trials[number]
        return trial

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Reports as `TuneController._process_trial_result` and `stop_trial` do."""
        trial = self._trials[number]
        result = {"val_accuracy": accuracy, "training_iteration": epoch}
        is_done = epoch == self._problem.epochs
        if not is_done and self._scheduler.on_trial_result(None, trial, result) != TrialScheduler.STOP:
            self._searcher.on_trial_result(trial.trial_id, result)
            return True
        self._scheduler.on_trial_complete(None, trial, result)
        self._searcher.on_trial_complete(trial.trial_id, result=result)
        return False


def random_with_ray_asha(problem: Problem, seed: int) -> Ray:
    """Random search stopped early as Ray ships it."""
    return Ray(problem, seed, sampler=RandomSampler(seed=int(np.random.SeedSequence([seed, 8]).generate_state(1)[0])))


def ray_with_our_rungs(problem: Problem, seed: int) -> Ray:
    """Ray's classes, set to what this project knows: where burn-in ends, and how many to keep."""
    return Ray(
        problem,
        seed,
        grace_period=first_rung(problem),
        reduction_factor=DEFAULTS.reduction_factor,
    )
