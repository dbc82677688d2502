"""Ends trials that hang: a worker that reports nothing for too long is killed, and its trial has failed."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import format_duration
from tune_mentormix.recorder import Recorder
from tune_mentormix.storage.paths import why_not_writable


class HungTrials(Callback):
    """Watches the time since each running trial's start or latest report."""

    def __init__(self, recorder: Recorder, experiment: Experiment, timeout: float) -> None:
        """`timeout` in seconds; it has to allow for the slowest epoch and for writing a checkpoint."""
        self._recorder = recorder
        self._experiment = experiment
        self._timeout = timeout
        self._heard_at: dict[int, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has a worker."""
        self._heard_at[trial.config["trial"]] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """The trial lives."""
        self._heard_at[trial.config["trial"]] = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ends those that were not heard of for too long."""
        now = time.monotonic()
        hung = {number for number, heard_at in self._heard_at.items() if heard_at < now - self._timeout}
        if hung and why_not_writable(self._experiment.path):
            self._heard_at.update(dict.fromkeys(hung, now))  # they wait for the storage
            return
        for trial in trials if hung else ():
            number = trial.config["trial"]
            if number in hung and trial.status == TuneTrial.RUNNING:
                self._end(number, trial)
        for number in hung:
            del self._heard_at[number]

    def _end(self, number: int, trial: Any) -> None:
        if not self._experiment.trials[number].has_ended:
            error = f"no report for {format_duration(self._timeout)} (trial_timeout): the worker was killed"
            self._recorder.record("failed", trial=number, error=error, worker_lost=True)
        ray.kill(trial.temporary_state.ray_actor)
