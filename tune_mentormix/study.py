"""The Optuna study, as a fold over the journal's events: what is told to Optuna, and when.

A live search and a replayed one pass through the same `apply`, so a resumed study cannot disagree with the results.
What Optuna hears: every report; COMPLETE with the last epoch's accuracy for a trial that ran to the end; PRUNED with
its curve for one that was stopped; PRUNED for one that failed by its own fault (NaN, out of memory), so that the
region counts as bad; FAIL, which samplers ignore, for one whose workers were lost. Each proposal is seeded by the
search's seed and the trial's number: a search resumed proposes what it would have proposed undisturbed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from tune_mentormix.experiment import Trial
from tune_mentormix.journal import Event
from tune_mentormix.published import BASELINES
from tune_mentormix.space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)


def _tpe(seed: int) -> BaseSampler:
    # Running trials count as bad ones (constant liar), so that parallel proposals spread out.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _random(seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


SAMPLERS = {"tpe": _tpe, "random": _random}


@dataclass
class _OpenTrial:
    """A trial of the space that has not ended; `asked` is Optuna's own handle, which a replayed trial lacks."""

    params: dict[str, Any]
    asked: optuna.Trial | None = None
    curve: dict[int, float] = field(default_factory=dict)


class SearchStudy:
    """Proposes configurations from what the trials so far showed."""

    def __init__(self, space: SearchSpace, sampler: str, seed: int) -> None:
        """Starts empty; `apply` brings it up to date."""
        self.study = optuna.create_study(direction="maximize", sampler=self._sampler(sampler, seed, 0))
        self._space = space
        self._sampler_name = sampler
        self._seed = seed
        self._open: dict[int, _OpenTrial] = {}

    def enter(self, trial: Trial) -> None:
        """Opens a trial in the study that was not the sampler's choice just now: a control, or one taken up again."""
        params = self._searched(trial.config, trial.control)
        if params is not None:
            self.study.enqueue_trial(params)
            self.propose(trial.number)

    def propose(self, number: int) -> dict[str, Any]:
        """Opens trial `number` in the study, and returns the parameters that the sampler proposes for it."""
        curve = self._open[number].curve if number in self._open else {}
        self.study.sampler = self._sampler(self._sampler_name, self._seed, number)
        asked = self.study.ask(self._space.distributions)
        self._open[number] = _OpenTrial(asked.params, asked, curve)
        return asked.params

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account."""
        kind, number = event["event"], event.get("trial")
        if kind == "proposed" and number not in self._open:
            params = self._searched(event["config"], event.get("control"))
            if params is not None:
                self._open[event["trial"]] = _OpenTrial(params)
        elif number not in self._open:
            return
        elif kind == "report" and event["val_accuracy"] is not None:
            self._open[number].curve[event["epoch"]] = event["val_accuracy"]
        elif kind == "finished":
            self._close(number, TrialState.COMPLETE)
        elif kind == "stopped":
            self._close(number, TrialState.PRUNED)
        elif kind == "failed":
            self._close(number, TrialState.FAIL if event.get("worker_lost") else TrialState.PRUNED)

    def _searched(self, config: dict[str, Any], control: str | None) -> dict[str, Any] | None:
        """The searched part of a configuration; None for what lies outside the space, and for the baselines.

        A baseline's values may lie inside, but it is another method: its accuracy would mislead about the region.
        """
        return None if control in BASELINES else self._space.searched_values(config)

    def _close(self, number: int, state: TrialState) -> None:
        trial = self._open.pop(number)
        value = trial.curve[max(trial.curve)] if trial.curve and state != TrialState.FAIL else None
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

    @staticmethod
    def _sampler(name: str, seed: int, number: int) -> BaseSampler:
        return SAMPLERS[name](int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
