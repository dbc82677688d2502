"""Population-based training (Jaderberg et al. 2017): the worst trials go on as changed copies of the best ones.

At a boundary, every trial but the controls is paused until all have come there. Then each of the worst quarter takes
the checkpoint of one of the best quarter, with that one's hyperparameters perturbed. Who copies whom follows from the
reports and the seed alone, so it does not depend on how many workers there are, nor on interruptions. Ours rather
than Ray's, which takes no searcher, keeps its state in memory and lets trials copy others of another epoch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search import Searcher

from trainables.settings import TrialSettings
from tune_mentormix.experiment import Experiment, Trial, checkpoint_at, newest_checkpoint
from tune_mentormix.recorder import Recorder
from tune_mentormix.searcher import start_trial
from tune_mentormix.space import SearchSpace

LEAST_MEMBERS = 4  # or there are no quarters
PERTURBATIONS = (0.8, 1.2)  # of a number
RESAMPLED = 0.25  # the chance that a value is drawn anew instead


class PopulationSearcher(Searcher):
    """Has another searcher propose the members, then takes them from boundary to boundary."""

    def __init__(
        self,
        searcher: Searcher,
        experiment: Experiment,
        recorder: Recorder,
        space: SearchSpace,
        boundaries: list[int],
        threads: int,
        seed: int,
    ) -> None:
        """Prepares the population.

        Args:
            searcher: proposes the controls and the members, and goes on with those interrupted between boundaries.
            experiment: kept up to date by the recorder.
            recorder: where starts and copies are written.
            space: whose hyperparameters are perturbed.
            boundaries: in epochs.
            threads: of torch in a trial.
            seed: of who copies whom, and of the perturbations.
        """
        super().__init__()
        self._searcher = searcher
        self._experiment = experiment
        self._recorder = recorder
        self._space = space
        self._boundaries = boundaries
        self._threads = threads
        self._seed = seed
        self._begun: set[tuple[int, int]] = set()  # trials that went on, and how many checkpoints they had then

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """The next start of a member; None while a boundary waits for others; or FINISHED."""
        proposed = self._propose(trial_id)
        if not isinstance(proposed, str):
            return proposed
        unfinished = self._experiment.unfinished()
        waiting = [trial for trial in unfinished if is_paused(trial, self._boundaries) and not self._went_on(trial)]
        if not waiting:
            return None if unfinished else proposed
        first = min(waiting, key=lambda trial: (trial.epoch, trial.number))
        if any(trial.epoch < first.epoch for trial in self._members() if not trial.has_ended):
            return None
        return self._start(first)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the journal says where a member is."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def _propose(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._searcher.suggest(trial_id)

    def _members(self) -> list[Trial]:
        return [trial for trial in self._experiment.trials.values() if trial.control is None]

    def _went_on(self, trial: Trial) -> bool:
        """Whether it was started from where it is; its next checkpoint, at whichever epoch, makes that old."""
        return (trial.number, len(trial.checkpoints)) in self._begun

    def _start(self, trial: Trial) -> dict[str, Any] | None:
        boundary = trial.epoch
        config = trial.config
        donor_number = donor_of(self._members(), trial.number, boundary, self._seed)
        donor = self._experiment.trials.get(-1 if donor_number is None else donor_number)
        path = checkpoint_at(self._experiment, donor, boundary) if donor else None
        if donor and path:
            rng = np.random.default_rng([self._seed, trial.number, boundary, 1])
            values = {
                name: perturbed(distribution, donor.config[name], rng)
                for name, distribution in self._space.distributions.items()
            }
            config = TrialSettings(**(donor.config | values)).model_dump()
            self._recorder.record(
                "checkpoint", trial=trial.number, epoch=boundary, path=path, copied_from=donor.number
            )
        again = replace(trial, config=config, attempt=trial.attempt + 1)
        checkpoint = newest_checkpoint(self._experiment, self._experiment.trials[trial.number])
        started = start_trial(self._recorder, again, self._experiment.runs, self._threads, checkpoint)
        self._begun.add((trial.number, len(trial.checkpoints)))
        return started


def is_paused(trial: Trial, boundaries: list[int]) -> bool:
    """Whether a member came to a boundary, and its checkpoint there was written."""
    at_boundary = trial.control is None and not trial.has_ended and trial.epoch in boundaries
    return at_boundary and any(epoch == trial.epoch for epoch, _ in trial.checkpoints)


def donor_of(members: list[Trial], number: int, boundary: int, seed: int) -> int | None:
    """Whom a member copies at a boundary; None for all but the worst quarter.

    Args:
        members: of the population; those without an accuracy at the boundary are not ranked.
        number: the member's.
        boundary: in epochs.
        seed: decides which of the best quarter.
    """
    scores = {member.number: member.curve.get(boundary) for member in members}
    ranked = sorted((n for n, score in scores.items() if score is not None), key=lambda n: (-(scores[n] or 0.0), n))
    quarter = len(ranked) // LEAST_MEMBERS
    if quarter == 0 or number not in ranked[-quarter:]:
        return None
    return int(np.random.default_rng([seed, number, boundary, 0]).choice(ranked[:quarter]))


def perturbed(distribution: BaseDistribution, value: Any, rng: np.random.Generator) -> Any:
    """A value near another, within its range: a number times 0.8 or 1.2, a neighbouring choice; or a fresh draw."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if rng.random() < RESAMPLED:
            return choices[rng.integers(len(choices))]
        return choices[int(np.clip(choices.index(value) + rng.choice((-1, 1)), 0, len(choices) - 1))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if rng.random() < RESAMPLED:
        drawn = np.exp(rng.uniform(np.log(low), np.log(high))) if distribution.log else rng.uniform(low, high)
    else:
        drawn = value * rng.choice(PERTURBATIONS)
    inside = float(np.clip(drawn, low, high))
    return round(inside) if isinstance(distribution, IntDistribution) else inside
