"""A confirmation: the best configurations of a search and the controls, all trained on the same new seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.config.settings import refuse_newer
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import Event, RuledOut, replay
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.formatting import format_value
from tune_mentormix.results.statistics import ConfidenceInterval, confidence_interval, paired_differences
from tune_mentormix.results.summary import CONTROL_TITLES
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import read_yaml

CONFIRMATION_FOLDER = "confirmation"
REQUEST_FILE = "confirmation.yaml"
TEST_EVALUATIONS_FILE = "sealed_test.json"
ABLATION_RUNS = 10_000  # the first run number of ablations
TOP_K, SEEDS = 5, 5  # where nothing else is asked for
_SEED_STREAM = 0xC0F1  # of random numbers: seeds of confirmations
_SEED_RANGE = 2**31

Accuracies = dict[int, float]  # by seed


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
    def is_baseline(self) -> bool:
        """Whether it is plain mixup or plain training, which the winner is compared with and which cannot win."""
        return self.control in BASELINES

    @property
    def title(self) -> str:
        """The name of a control in words, or `trial 7`."""
        return CONTROL_TITLES.get(self.name, self.name)

    @property
    def in_a_sentence(self) -> str:
        """The title, with an article where it needs one."""
        return f"the {self.title}" if self.name == "published" else self.title


@dataclass(frozen=True)
class Ablation(Candidate):
    """The winner with one hyperparameter set back to its published value. It cannot win."""

    hyperparameter: str
    winner_value: Any
    published_value: Any


def choose_candidates(experiment: Experiment, controls: dict[str, dict[str, Any]], top_k: int) -> list[Candidate]:
    """Returns the controls, then the `top_k` best trials (fewer where fewer ran to the end), none of them twice.

    `controls` are whole configurations by name, for those that the search did not come to. The published setting
    counts among the best where it is one.
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
    best = [trial for trial in ranked[:top_k] if trial.control is None]
    return candidates + [_candidate(f"trial {trial.number}", trial, rank_of[trial.number]) for trial in best]


def _candidate(name: str, trial: Trial, rank: int | None) -> Candidate:
    return Candidate(name, trial.control, trial.number, rank, trial.val_accuracy, dict(trial.config))


def confirmation_seeds(search_seed: int, count: int) -> list[int]:
    """Returns seeds that follow from the search's own, but for that one; more seeds begin with the same ones."""
    drawn = np.random.SeedSequence([search_seed, _SEED_STREAM]).generate_state(2 * count)
    fresh = [int(seed) for seed in dict.fromkeys(drawn % _SEED_RANGE) if seed != search_seed]
    return fresh[:count]


@dataclass
class Confirmation:
    """What was asked for, and the runs that answer it.

    Run number n is candidate n mod C on seed n div C, C candidates; a candidate that is ruled out leaves gaps. The
    runs of ablations are numbered from `ABLATION_RUNS` in the order in which they start.
    """

    runs: Experiment  # the runs are its trials; it lies in the folder of the confirmation
    candidates: list[Candidate]
    seeds: list[int]  # one a round, the same for all candidates
    top_k: int = 0
    searched: int = 0  # trials of the search that had ended when the candidates were chosen
    ablate: bool = False  # whether ablations of the winner were requested
    ruled_out: dict[str, str] = field(default_factory=dict)  # name → why
    rounds_decided: set[int] = field(default_factory=set)  # after how many rounds a candidate was ruled out
    test_evaluations: list[dict[str, Any]] = field(default_factory=list)  # of the test set
    no_test: str | None = None  # why the test set could not be opened, if it was tried

    def apply(self, event: Event) -> None:
        """Handles one event of the journal."""
        self.runs.apply(event)
        if not isinstance(event, RuledOut):
            return
        self.ruled_out |= event.candidates
        if event.rounds is not None:
            self.rounds_decided.add(event.rounds)
        self.runs.num_samples = self.planned()

    def planned(self) -> int:
        """Counts the runs that were started, and those to come of candidates that are not ruled out and ablations."""
        ablations = sum(number >= ABLATION_RUNS for number in self.runs.trials)
        waiting = sum(len(self.seeds) - len(self.runs_of(ablation)) for ablation in self.ablations())
        return self._planned_for_candidates() + ablations + waiting

    def _planned_for_candidates(self) -> int:
        return sum(
            self.run_number(candidate, round_number) in self.runs.trials or candidate.name not in self.ruled_out
            for candidate in self.candidates
            for round_number in range(len(self.seeds))
        )

    def run_number(self, candidate: Candidate, round_number: int) -> int:
        """Returns the number of a candidate's run in a round, counted from 0."""
        return round_number * len(self.candidates) + self.candidates.index(candidate)

    def runs_of(self, candidate: Candidate) -> dict[int, Trial]:
        """Returns the runs that were started, by seed."""
        if isinstance(candidate, Ablation):
            started = [run for number, run in self.runs.trials.items() if number >= ABLATION_RUNS]
            configs = {seed: candidate.config | {"seed": seed} for seed in self.seeds}
            return {seed: run for seed, config in configs.items() for run in started if run.config == config}
        numbers = {seed: self.run_number(candidate, n) for n, seed in enumerate(self.seeds)}
        return {seed: self.runs.trials[number] for seed, number in numbers.items() if number in self.runs.trials}

    def accuracies(self, candidate: Candidate) -> Accuracies:
        """Returns the validation accuracies, at the last epoch, of the runs that finished, by seed."""
        finished = {seed: run for seed, run in self.runs_of(candidate).items() if run.state == "finished"}
        return {seed: run.val_accuracy for seed, run in finished.items() if run.val_accuracy is not None}

    def failure(self, candidate: Candidate) -> str | None:
        """Returns why a run of the candidate failed, if one did."""
        runs = self.runs_of(candidate).items()
        return next((f"failed on seed {seed}: {run.error}" for seed, run in runs if run.state == "failed"), None)

    @property
    def is_complete(self) -> bool:
        """Whether no run of a candidate is left; the ablations come after."""
        runs = [run for number, run in self.runs.trials.items() if number < ABLATION_RUNS]
        return bool(runs) and self._planned_for_candidates() == len(runs) and all(run.has_ended for run in runs)

    def ranking(self) -> list[Candidate]:
        """Returns those that compete, best first: by the mean over seeds, those ruled out after the others."""
        scored = [c for c in self.candidates if not c.is_baseline and self.accuracies(c)]
        return sorted(scored, key=lambda c: (c.name in self.ruled_out, -fmean(self.accuracies(c).values())))

    def winner(self) -> Candidate | None:
        """Returns the best on validation of those that ran on every seed, once nothing is left to run."""
        if not self.is_complete:
            return None
        ran_in_full = (c for c in self.ranking() if len(self.accuracies(c)) == len(self.seeds))
        return next(ran_in_full, None)

    def in_order(self) -> list[Candidate]:
        """Returns every candidate: those that compete by rank, then the others."""
        ranked = self.ranking()
        return [*ranked, *(candidate for candidate in self.candidates if candidate not in ranked)]

    def rank(self, candidate: Candidate) -> int | None:
        """Returns the rank of a candidate that is no baseline, counted from 1."""
        ranked = self.ranking()
        return ranked.index(candidate) + 1 if candidate in ranked else None

    def ablations(self) -> list[Ablation]:
        """Returns the winner with one searched hyperparameter at a time set back, where the value differs.

        There are none before there is a winner, none if they were not requested, and none if a control won.
        """
        winner = self.winner() if self.ablate else None
        if winner is None or winner.control:
            return []
        published = next(candidate.config for candidate in self.candidates if candidate.name == "published")
        return [
            Ablation(
                name=f"{winner.name}, {name} {format_value(published[name])}",
                control=None,
                trial=None,
                search_rank=None,
                search_accuracy=None,
                config=winner.config | {name: published[name]},
                hyperparameter=name,
                winner_value=winner.config[name],
                published_value=published[name],
            )
            for name in self.runs.hyperparameters
            if winner.config[name] != published[name]
        ]

    @property
    def has_ablations_left(self) -> bool:
        """Whether a run of an ablation has not started or not ended."""
        runs = (self.runs_of(ablation).values() for ablation in self.ablations())
        return any(sum(run.has_ended for run in by_seed) < len(self.seeds) for by_seed in runs)

    def controls_beside(self, winner: Candidate) -> list[Candidate]:
        """Returns the controls to compare the winner with: all, but for itself."""
        return [c for c in self.candidates if c.control and c != winner]

    def validation(self, candidate: Candidate) -> ConfidenceInterval | None:
        """Returns the mean accuracy over the candidate's seeds."""
        return _interval(self.accuracies(candidate).values())

    @property
    def test_evaluation(self) -> dict[str, Any] | None:
        """The evaluation of this winner and the controls on all these seeds; None before it was made."""
        winner = self.winner()
        if winner is None or not self.test_evaluations:
            return None
        last = self.test_evaluations[-1]
        asked = (winner.name, {c.name: sorted(self.accuracies(c)) for c in self.compared(winner)})
        return last if "results" in last and (last["winner"], last["seeds"]) == asked else None

    def compared(self, winner: Candidate) -> list[Candidate]:
        """Returns those that the test set is opened for: the winner and the controls that have results."""
        return [c for c in [winner, *self.controls_beside(winner)] if self.accuracies(c)]

    def test_accuracies(self, candidate: Candidate) -> Accuracies:
        """Returns accuracies on the clean labels of the test split, by seed; none where it was not tested."""
        results = (self.test_evaluation or {"results": {}})["results"].get(candidate.name, {})
        return {int(seed): accuracy for seed, accuracy in results.items()}

    def test(self, candidate: Candidate) -> ConfidenceInterval | None:
        """Returns the mean test accuracy over the candidate's seeds."""
        return _interval(self.test_accuracies(candidate).values())

    def gain(self, first: Candidate, second: Candidate, on_test: bool) -> ConfidenceInterval | None:
        """Returns how much better the first is than the second, paired by seed."""
        accuracies = self.test_accuracies if on_test else self.accuracies
        return _interval(paired_differences(accuracies(first), accuracies(second)))

    def difference_to_winner(self, ablation: Ablation) -> ConfidenceInterval | None:
        """How much better an ablation is than the winner on the validation split, paired by seed."""
        winner = self.winner()
        return self.gain(ablation, winner, on_test=False) if winner else None


def read_confirmation(experiment: Experiment) -> Confirmation | None:
    """Reads the confirmation of a search, if one was started. Raises RequestError if it is newer or damaged."""
    path = experiment.path / CONFIRMATION_FOLDER
    if not (path / REQUEST_FILE).is_file():
        return None
    document = read_yaml(path / REQUEST_FILE)
    refuse_newer(document)
    values = document.values
    confirmation = Confirmation(
        Experiment(path, experiment.settings, experiment.provenance),
        candidates=[Candidate(**candidate) for candidate in values["candidates"]],
        seeds=values["seeds"],
        top_k=values["top_k"],
        searched=values["searched"],
        ablate=values.get("ablate", False),
        test_evaluations=read_test_evaluations(path),
    )
    replay(path / JOURNAL_FILE, confirmation.apply)
    confirmation.runs.num_samples = confirmation.planned()
    return confirmation


def read_test_evaluations(path: Location) -> list[dict[str, Any]]:
    """Reads every evaluation on the test set, oldest first. Raises RequestError if the record is damaged."""
    file = path / TEST_EVALUATIONS_FILE
    try:
        return list(json.loads(file.read_text())["openings"]) if file.is_file() else []
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{file} is no record of the test set's openings: the file was damaged") from error


def _interval(values: Iterable[float]) -> ConfidenceInterval | None:
    listed = list(values)
    return confidence_interval(listed) if listed else None


def confirmation_record(confirmation: Confirmation) -> dict[str, Any]:
    """Returns what `confirm --json` shows."""
    winner = confirmation.winner()
    record = {
        "state": confirmation.runs.state(),
        "ended": confirmation.runs.ended,
        "top_k": confirmation.top_k,
        "seeds": confirmation.seeds,
        "labels": {"validation": confirmation.runs.labels_kind, "test": "clean"},
        "candidates": [
            asdict(candidate)
            | {
                "confirmed_rank": confirmation.rank(candidate),
                "ruled_out": confirmation.ruled_out.get(candidate.name),
                "validation": _measured(confirmation.validation(candidate), confirmation.accuracies(candidate)),
                "test": _measured(confirmation.test(candidate), confirmation.test_accuracies(candidate)),
            }
            for candidate in confirmation.candidates
        ],
        "winner": winner and winner.name,
        "gains": _gains(confirmation, winner) if winner else [],
        "verdicts": verdicts(confirmation, winner) if winner else [],
        "openings": confirmation.test_evaluations,
    }
    if ablations := confirmation.ablations():
        record["ablations"] = [_ablation_record(confirmation, ablation) for ablation in ablations]
    return record


def _ablation_record(confirmation: Confirmation, ablation: Ablation) -> dict[str, Any]:
    difference = confirmation.difference_to_winner(ablation)
    return {
        "hyperparameter": ablation.hyperparameter,
        "winner": ablation.winner_value,
        "published": ablation.published_value,
        "config": ablation.config,
        "validation": _measured(confirmation.validation(ablation), confirmation.accuracies(ablation)),
        "difference": difference and difference.as_json(),
    }


def confirmed_winner(experiment: Experiment) -> tuple[Trial, dict[str, Any]] | None:
    """Returns the trial that won the search's confirmation, if there is a winner, and a record of what was found.

    The search may not have trained it to the end. Raises RequestError if it never was a trial of the search.
    """
    confirmation = read_confirmation(experiment)
    winner = confirmation.winner() if confirmation else None
    if confirmation is None or winner is None:
        return None
    if winner.trial is None:
        name, show = winner.in_a_sentence, f"confirm {experiment.name} --json"
        raise RequestError(f"{name} won the confirmation, but the search has no trial of it; its setting: {show}")
    record = {
        "seeds": confirmation.seeds,
        "candidates": len(confirmation.candidates),
        "accuracies": [
            {"split": split, "labels": labels, **interval.as_json()}
            for split, labels, interval in (
                ("validation", confirmation.runs.labels_kind, confirmation.validation(winner)),
                ("test", "clean", confirmation.test(winner)),
            )
            if interval
        ],
        "gains": _gains(confirmation, winner),
        "verdicts": verdicts(confirmation, winner),
        "test_set_opened": [evaluation["opened"] for evaluation in confirmation.test_evaluations],
    }
    return experiment.trials[winner.trial], record


def verdicts(confirmation: Confirmation, winner: Candidate) -> list[str]:
    """Describes what the winner is worth against each control, on the test set if it was opened."""
    validation, test = f"the {confirmation.runs.labels_kind} validation labels", "the clean test labels"
    honest = ", a control itself: nothing found beats it" if winner.control else ""
    sentences = [f"The winner is {winner.in_a_sentence}{honest}."]
    for control in confirmation.controls_beside(winner):
        for where, on_test in ((test, True), (validation, False)):
            gain = confirmation.gain(winner, control, on_test)
            if gain is not None:
                sentences.append(_verdict(gain, control.in_a_sentence, where))
    return sentences


def _gains(confirmation: Confirmation, winner: Candidate) -> list[dict[str, Any]]:
    return [
        {"over": control.name, "split": split, "labels": labels, **gain.as_json()}
        for control in confirmation.controls_beside(winner)
        for split, labels in (("validation", confirmation.runs.labels_kind), ("test", "clean"))
        if (gain := confirmation.gain(winner, control, on_test=split == "test"))
    ]


def _verdict(gain: ConfidenceInterval, control: str, where: str) -> str:
    points = f"{abs(100 * gain.mean):.1f} points"
    if gain.low is None or gain.high is None:
        if gain.n == 1:
            return f"On {where} only one seed can be compared with {control}: nothing can be said."
        return f"On {where} it differs from {control} by {points} on each of {gain.n} seeds: nothing can be said."
    interval = f"95 % interval {100 * gain.low:.2f} … {100 * gain.high:.2f}, {gain.n} seeds"
    if gain.is_above_zero:
        return f"It beats {control} by {points} ({interval}) on {where}."
    if gain.is_below_zero:
        return f"It is worse than {control} by {points} ({interval}) on {where}."
    difference = f"difference {100 * gain.mean:+.1f} points, {interval}"
    return f"It is not better than {control}: a tie ({difference}) on {where}."


def _measured(interval: ConfidenceInterval | None, accuracies: dict[int, float]) -> dict[str, Any] | None:
    return {**interval.as_json(), "by_seed": accuracies} if interval else None
