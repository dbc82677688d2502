"""The configurations that a confirmation trains, and the seeds that it trains them on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tune_mentormix.config.controls import BASELINES, published_row
from tune_mentormix.experiment.events import Config
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.summary import CONTROL_TITLES

_SEED_STREAM = 0xC0F1  # of random numbers: seeds of confirmations
_SEED_RANGE = 2**31


@dataclass(frozen=True)
class Candidate:
    """One configuration that is trained on every seed."""

    name: str  # of a control, or `trial 7`
    control: str | None
    trial: int | None  # its number in the search, if it ran there
    search_rank: int | None  # among the trials that ran to the end
    search_accuracy: float | None  # at the last epoch
    config: Config  # with the search's own seed

    @property
    def uses_mentor(self) -> bool:
        """Whether it trains with MentorMix; plain mixup and plain training do not."""
        return self.control not in BASELINES and self.config.get("mentor") != "uniform"

    @property
    def title(self) -> str:
        """The name of a control in words, or `trial 7`; of another published setting, for which noise it is."""
        if self.name in CONTROL_TITLES or self._row is None:
            return CONTROL_TITLES.get(self.name, self.name)
        return f"{self.name} (published for {100 * self._row:.0f} % noise)"

    @property
    def in_a_sentence(self) -> str:
        """The title, with an article where it needs one."""
        if self.name != "published":
            return self.title
        return f"the {self.title}" + ("" if self._row is None else f" for {100 * self._row:.0f} % noise")

    @property
    def _row(self) -> float | None:
        """The noise rate for which these values were published; None for other values."""
        return published_row(self.config) if self.uses_mentor else None


@dataclass(frozen=True)
class Ablation(Candidate):
    """The winner with one hyperparameter set back to its published value. It cannot win."""

    hyperparameter: str
    winner_value: Any
    published_value: Any


def choose_candidates(experiment: Experiment, controls: dict[str, dict[str, Any]], top_k: int) -> list[Candidate]:
    """Returns the controls, then the `top_k` best trials (fewer where fewer ran to the end), none of them twice.

    `controls` are whole configurations by name, for those that the search did not come to. The published setting
    counts among the best where it is one; plain mixup and plain training do not, so that MentorMix is tried too
    where they are ahead.
    """
    ranked = experiment.ranked_trials()
    rank_of = {trial.number: rank for rank, trial in enumerate(ranked, start=1)}
    by_control = {trial.control: trial for trial in experiment.trials.values()}
    candidates = [
        _candidate(name, by_control[name], rank_of.get(by_control[name].number))
        if name in by_control
        else Candidate(name, name, None, None, None, config)
        for name, config in controls.items()
    ]
    best = [trial for trial in ranked if not trial.is_baseline][:top_k]
    chosen = {candidate.trial for candidate in candidates}
    return candidates + [
        replace(_candidate(f"trial {trial.number}", trial, rank_of[trial.number]), control=None)
        for trial in best
        if trial.number not in chosen
    ]


def _candidate(name: str, trial: Trial, rank: int | None) -> Candidate:
    return Candidate(name, trial.control, trial.number, rank, trial.score, dict(trial.config))


def confirmation_seeds(search_seed: int, count: int) -> list[int]:
    """Returns seeds that follow from the search's own, but for that one; more seeds begin with the same ones."""
    drawn = np.random.SeedSequence([search_seed, _SEED_STREAM]).generate_state(2 * count)
    fresh = [int(seed) for seed in dict.fromkeys(drawn % _SEED_RANGE) if seed != search_seed]
    return fresh[:count]
