"""The contestants of `search_efficiency`: this project's study and rungs, Ray's classes, and Optuna's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from problems import Baseline, Problem
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


@dataclass(frozen=True)
class Policy:
    """How a search of this project proposes and stops."""

    controls: tuple[str, ...] = ("published", "plain")  # the first trials, in this order
    sampler: str = DEFAULTS.sampler
    after_burn_in: float | None = EPOCHS_AFTER_BURN_IN  # of a trial, from there to the first rung; None: no rungs
    factor: float = DEFAULTS.reduction_factor
    stops_plain: bool = False  # at a rung, like any other trial

    def early_stopping(self, problem: Problem) -> AsyncSuccessiveHalving:
        """Returns the rungs, before any report."""
        if self.after_burn_in is None:
            return AsyncSuccessiveHalving()
        first = max(1, round(problem.epochs * (problem.longest_burn_in + self.after_burn_in)))
        return AsyncSuccessiveHalving(rung_epochs(first, self.factor, problem.epochs), self.factor)


class Ours:
    """Our study and early stopping, fed the events that a journal would hold."""

    def __init__(self, problem: Problem, seed: int, policy: Policy = Policy()) -> None:
        """Searches with the default policy, unless another is given."""
        self._problem, self._policy = problem, policy
        self._study = SearchStudy(problem.space, policy.sampler, seed)
        self._asha = policy.early_stopping(problem)
        self._proposed = 0

    @property
    def rungs(self) -> list[int]:
        """The epochs after which trials may be stopped."""
        return self._asha.rungs

    def propose(self) -> Proposal:
        """A control, or what the study proposes."""
        number, self._proposed = self._proposed, self._proposed + 1
        if number >= len(self._policy.controls):
            params = self._study.propose(number)
            self._apply(Proposed(trial=number, config=params))
            return Proposal(number, params)
        control = self._policy.controls[number]
        params = self._problem.published
        self._study.enqueue(Trial(number, params, control))
        self._study.apply(Proposed(trial=number, config=params, control=control))
        exempt = None if self._policy.stops_plain and control != "published" else control
        self._asha.apply(Proposed(trial=number, config=params, control=exempt))
        return Proposal(number, params if control == "published" else cast("Baseline", control))

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Reports as `EarlyStoppingScheduler` and `JournalCallback` do, in their order."""
        is_last = epoch == self._problem.epochs
        if not is_last:
            self._asha.record(number, epoch, accuracy)
        continues = is_last or not self._asha.is_stopped(number)
        self._apply(Report(trial=number, epoch=epoch, val_accuracy=min(1.0, max(0.0, accuracy))))
        if is_last or not continues:
            self._apply((Finished if is_last else Stopped)(trial=number, epoch=epoch))
        return continues

    def _apply(self, event: Event) -> None:
        self._study.apply(event)
        self._asha.apply(event)


class OptunaAlone:
    """A sampler and a pruner of Optuna, as its documentation shows them."""

    def __init__(
        self, problem: Problem, seed: int, sampler: Callable[[int], BaseSampler], pruner: BasePruner | None = None
    ) -> None:
        """The published setting comes first; without a pruner every trial is trained to the end."""
        self._problem = problem
        chosen = sampler(int(np.random.SeedSequence([seed, 7]).generate_state(1)[0]))
        self._study = optuna.create_study(direction="maximize", sampler=chosen, pruner=pruner or NopPruner())
        self._study.enqueue_trial(problem.published)
        self._trials: list[optuna.Trial] = []

    def propose(self) -> Proposal:
        """Returns what the sampler proposes."""
        self._trials.append(self._study.ask(self._problem.space.distributions))
        return Proposal(len(self._trials) - 1, self._trials[-1].params)

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Reports as an objective function would."""
        trial = self._trials[number]
        trial.report(accuracy, epoch)
        if epoch == self._problem.epochs:
            self._study.tell(trial, accuracy)
        elif trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
            return False
        return True


def hyperband(problem: Problem) -> HyperbandPruner:
    """Returns Optuna's pruner for as many epochs as a trial has."""
    return HyperbandPruner(min_resource=1, max_resource=problem.epochs)


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

    def __init__(self, problem: Problem, seed: int, tries_published: bool = False) -> None:
        """All is as Ray ships it; the published setting may come first."""
        self._problem = problem
        options: dict[str, Any] = {"seed": int(np.random.SeedSequence([seed, 7]).generate_state(1)[0])}
        if tries_published:
            options["points_to_evaluate"] = [problem.published]
        self._searcher: Any = OptunaSearch(problem.space.distributions, metric="val_accuracy", mode="max", **options)
        self._scheduler: Any = ASHAScheduler(metric="val_accuracy", mode="max", max_t=problem.epochs)
        self._trials: list[_RayTrial] = []

    def propose(self) -> Proposal:
        """Returns what `OptunaSearch` suggests."""
        trial = _RayTrial(str(len(self._trials)))
        self._trials.append(trial)
        params = self._searcher.suggest(trial.trial_id)
        self._scheduler.on_trial_add(None, trial)
        return Proposal(int(trial.trial_id), params)

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
