"""Experiments as Optuna studies in memory, for optuna-dashboard."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna_dashboard import wsgi

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.config.search_space import SearchSpace, parse_space
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.storage.yaml_files import YamlDocument

optuna.logging.set_verbosity(optuna.logging.WARNING)
MOST = 8  # studies at once; the one opened least recently goes
_STATES = {
    "pending": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "stopped_early": TrialState.PRUNED,
    "finished": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
}


class OptunaStudies:
    """The studies opened lately, and the application that shows them."""

    def __init__(self) -> None:
        self._storage = InMemoryStorage()
        self.wsgi: Any = wsgi(self._storage)
        self._known: OrderedDict[str, tuple[object, int]] = OrderedDict()  # by experiment: what was read, study
        self._lock = threading.Lock()

    def rebuild(self, experiment: Experiment, version: object) -> int:
        """Makes the study anew unless it is up to date, and returns its number."""
        with self._lock:
            read, number = self._known.get(experiment.name, (None, -1))
            if read != version:
                if read is not None:
                    self._storage.delete_study(number)
                number = self._study_of(experiment)
                self._known[experiment.name] = (version, number)
            self._known.move_to_end(experiment.name)
            while len(self._known) > MOST:
                _, (_, oldest) = self._known.popitem(last=False)
                self._storage.delete_study(oldest)
            return number

    def _study_of(self, experiment: Experiment) -> int:
        number = self._storage.create_new_study([StudyDirection.MAXIMIZE], experiment.name)
        space = parse_space(YamlDocument(experiment.space, "search.yaml"))
        for trial in sorted(experiment.trials.values(), key=lambda trial: trial.number):
            self._storage.create_new_trial(number, _frozen(trial, space))
        return number


def _frozen(trial: Trial, space: SearchSpace) -> FrozenTrial:
    """Without parameters where they lie outside the space; nor has a baseline any, which is another method."""
    inside = None if trial.control in BASELINES else space.values_inside(trial.config)
    curve = {epoch: value for epoch, value in trial.curve.items() if value is not None}
    state = _STATES[trial.state]
    value = trial.val_accuracy if state in (TrialState.COMPLETE, TrialState.PRUNED) else None
    if state == TrialState.COMPLETE and value is None:
        state = TrialState.FAIL
    return create_trial(
        state=state,
        value=value,
        params=inside or {},
        distributions=space.distributions if inside else {},
        intermediate_values=curve,
        user_attrs={"trial": trial.number} | ({"control": trial.control} if trial.control else {}),
    )
