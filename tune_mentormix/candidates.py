"""Who is to be confirmed: the best configurations of a search and the controls, each once; and on which seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.experiment.experiment import Experiment, Trial

TOP_K, SEEDS = 5, 5  # where nothing else is asked for
_SEED_STREAM = 0xC0F1  # of random numbers: seeds of confirmations
_SEED_RANGE = 2**31


@dataclass(frozen=True)
class Candidate:
    """One configuration that is trained on every seed."""

    name: str  # of a control, or `trial 7`
    control: str | None
    trial: int | None  # its number in the search, if it ran there
    search_rank: int | None  # among the trials that ran to the end; None for baselines, which do not compete
    search_accuracy: float | None  # at the last epoch
    config: dict[str, Any]  # with the search's own seed

    @property
    def competes(self) -> bool:
        """Whether it can win: plain mixup and plain training are there to be compared with."""
        return self.control not in BASELINES

    def as_json(self) -> dict[str, Any]:
        """As `confirmation.yaml` holds it."""
        return asdict(self)


def choose_candidates(experiment: Experiment, controls: dict[str, dict[str, Any]], top_k: int) -> list[Candidate]:
    """The controls, then the `top_k` best trials (fewer where fewer ran to the end), none of them twice.

    Args:
        experiment: the search.
        controls: name → its whole configuration, for those that the search did not come to.
        top_k: how many; the published setting counts where it is among the best.
    """
    ranked = ranked_trials(experiment)
    rank_of = {trial.number: rank for rank, trial in enumerate(ranked, start=1)}
    by_control = {trial.control: trial for trial in experiment.trials.values()}
    candidates = [
        _candidate(name, by_control[name], rank_of.get(by_control[name].number))
        if name in by_control
        else Candidate(name, name, None, None, None, config)
        for name, config in controls.items()
    ]
    best = [trial for trial in ranked[:top_k] if trial.control is None]
    return candidates + [_candidate(f"trial {trial.number}", trial, rank_of[trial.number]) for trial in best]


def ranked_trials(experiment: Experiment) -> list[Trial]:
    """The trials that ran to the end, best first, each configuration once; baselines do not compete."""
    finished = [t for t in experiment.trials.values() if t.state == "finished" and t.control not in BASELINES]
    finished.sort(key=lambda trial: (-(trial.val_accuracy or 0.0), trial.number))
    ranked: list[Trial] = []
    for trial in finished:
        if all(trial.config != other.config for other in ranked):
            ranked.append(trial)
    return ranked


def _candidate(name: str, trial: Trial, rank: int | None) -> Candidate:
    return Candidate(name, trial.control, trial.number, rank, trial.val_accuracy, dict(trial.config))


def confirmation_seeds(search_seed: int, count: int) -> list[int]:
    """Seeds that follow from the search's own, which is not among them; more seeds begin with the same ones."""
    drawn = np.random.SeedSequence([search_seed, _SEED_STREAM]).generate_state(2 * count)
    fresh = [int(seed) for seed in dict.fromkeys(drawn % _SEED_RANGE) if seed != search_seed]
    return fresh[:count]
