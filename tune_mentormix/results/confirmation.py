"""A confirmation: the best configurations of a search and the controls, all trained on the same new seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from trainables.errors import describe_value
from trainables.settings import MAX_COUNT, Count, Seed
from tune_mentormix.config.settings import with_storage
from tune_mentormix.config.settings_file import refuse_newer
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import Eliminated, Event, replay
from tune_mentormix.experiment.experiment import Experiment, experiment_path, read_experiment
from tune_mentormix.experiment.schemas import CleanEstimate, SearchState
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.formatting import format_value
from tune_mentormix.results.candidates import Ablation, Candidate
from tune_mentormix.results.clean_terms import clean_estimate_over_runs, explain_clean_terms
from tune_mentormix.results.evaluation_log import Evaluation, read_evaluations
from tune_mentormix.results.statistics import ConfidenceInterval, confidence_interval, paired_differences
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.listing import has_file
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import read_yaml

CONFIRMATION_FOLDER = "confirmation"
REQUEST_FILE = "confirmation.yaml"
ABLATION_RUNS = 10_000  # the first run number of ablations
TOP_K, SEEDS = 5, 5  # where nothing else is asked for
MIN_SEEDS = 2  # one seed has no spread
MAX_SEEDS = 10_000  # a slip of the keyboard

Accuracies = dict[int, float]  # by seed


@dataclass
class Confirmation:
    """The candidates and seeds that were requested, and the runs of them.

    Run number n is candidate n mod C on seed n div C, C candidates; a candidate that is eliminated leaves gaps. The
    runs of ablations are numbered from `ABLATION_RUNS` in the order in which they start. Each seed holds out another
    fold of the images, the same for all candidates, so that differences stay paired.
    """

    runs: Experiment  # the runs are its trials; it lies in the folder of the confirmation
    candidates: list[Candidate]
    seeds: list[int]  # one a round, the same for all candidates
    top_k: int = 0
    searched: int = 0  # trials of the search that had ended when the candidates were chosen
    folds: int = 1  # of the images; 1: every run validates on the validation split of the search
    ablate: bool = False  # whether ablations of the winner were requested
    eliminated: dict[str, str] = field(default_factory=dict)  # name → why
    rounds_decided: set[int] = field(default_factory=set)  # after how many rounds a candidate was eliminated
    test_evaluations: list[Evaluation] = field(default_factory=list)  # on the test set, oldest first
    no_test: str | None = None  # why there is no test set, if one was looked for

    def apply(self, event: Event) -> None:
        """Handles one event of the journal."""
        self.runs.apply(event)
        if not isinstance(event, Eliminated):
            return
        self.eliminated |= event.candidates
        if event.rounds is not None:
            self.rounds_decided.add(event.rounds)
        self.runs.num_samples = self.planned()

    def planned(self) -> int:
        """Counts the runs that were started, and those to come: of ablations, and of candidates in the race."""
        ablations = sum(number >= ABLATION_RUNS for number in self.runs.trials)
        waiting = sum(len(self.seeds) - len(self.runs_of(ablation)) for ablation in self.ablations())
        return self._planned_for_candidates() + ablations + waiting

    def _planned_for_candidates(self) -> int:
        return sum(
            self.run_number(candidate, round_number) in self.runs.trials or candidate.name not in self.eliminated
            for candidate in self.candidates
            for round_number in range(len(self.seeds))
        )

    def run_number(self, candidate: Candidate, round_number: int) -> int:
        """Returns the number of a candidate's run in a round, counted from 0."""
        return round_number * len(self.candidates) + self.candidates.index(candidate)

    def fold(self, seed: int) -> int | None:
        """Returns which fold of the images the runs on a seed hold out; None where nothing rotates."""
        return self.seeds.index(seed) % self.folds if self.folds > 1 else None

    def runs_of(self, candidate: Candidate) -> dict[int, Trial]:
        """Returns the runs that were started, by seed."""
        if isinstance(candidate, Ablation):
            started = [run for number, run in self.runs.trials.items() if number >= ABLATION_RUNS]
            configs = {seed: candidate.config | {"seed": seed} for seed in self.seeds}
            return {seed: run for seed, config in configs.items() for run in started if run.config == config}
        numbers = {seed: self.run_number(candidate, n) for n, seed in enumerate(self.seeds)}
        return {seed: self.runs.trials[number] for seed, number in numbers.items() if number in self.runs.trials}

    def accuracies(self, candidate: Candidate) -> Accuracies:
        """Returns the metric of the search, at the last epoch, of the runs that finished, by seed."""
        finished = {seed: run for seed, run in self.runs_of(candidate).items() if run.state == "finished"}
        return {seed: run.score for seed, run in finished.items() if run.score is not None}

    def best_epoch_accuracies(self, candidate: Candidate) -> Accuracies:
        """Returns the metric of the same runs, each at its own best epoch, by seed."""
        runs = self.runs_of(candidate)
        return {seed: max(runs[seed].scores.values(), default=0.0) for seed in self.accuracies(candidate)}

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
        """Returns those with results, best first: by the mean over seeds, those eliminated after the others."""
        scored = [candidate for candidate in self.candidates if self.accuracies(candidate)]
        return sorted(scored, key=lambda c: (c.name in self.eliminated, -fmean(self.accuracies(c).values())))

    def winner(self, with_mentor: bool = False) -> Candidate | None:
        """Returns the best on validation of all that ran on every seed, once nothing is left to run.

        `with_mentor` leaves out those without MentorMix.
        """
        if not self.is_complete:
            return None
        ran_in_full = (c for c in self.ranking() if len(self.accuracies(c)) == len(self.seeds))
        return next((c for c in ran_in_full if c.uses_mentor or not with_mentor), None)

    def in_order(self) -> list[Candidate]:
        """Returns every candidate: by rank, then those without results."""
        ranked = self.ranking()
        return [*ranked, *(candidate for candidate in self.candidates if candidate not in ranked)]

    def rank(self, candidate: Candidate) -> int | None:
        """Returns the rank of a candidate that has results, counted from 1."""
        ranked = self.ranking()
        return ranked.index(candidate) + 1 if candidate in ranked else None

    def ablations(self) -> list[Ablation]:
        """Returns the winner with one searched hyperparameter at a time set back, where the value differs.

        There are none before there is a winner, none if they were not requested, and none if a control or a
        configuration without MentorMix won.
        """
        winner = self.winner() if self.ablate else None
        published = next((candidate.config for candidate in self.candidates if candidate.name == "published"), None)
        if winner is None or published is None or winner.control or not winner.uses_mentor:
            return []
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

    def rivals(self, winner: Candidate) -> list[Candidate]:
        """Returns whom to compare the winner with: the controls, and the best with MentorMix where that lost."""
        rivals = [candidate for candidate in self.candidates if candidate.control and candidate != winner]
        best = next((candidate for candidate in self.ranking() if candidate.uses_mentor), None)
        return rivals if winner.uses_mentor or best is None or best in rivals else [best, *rivals]

    def validation(self, candidate: Candidate) -> ConfidenceInterval | None:
        """Returns the mean of the search's metric over the candidate's seeds, at the last epoch."""
        return _interval(self.accuracies(candidate).values())

    def best_and_last(self, candidate: Candidate) -> str | None:
        """Formats the mean of the metric at each run's best epoch, and at the last: `0.5921 / 0.5868 ± 0.0053`."""
        best, last = _interval(self.best_epoch_accuracies(candidate).values()), self.validation(candidate)
        return f"{best.mean:.4f} / {last}" if best else None

    def clean_estimate(self, candidate: Candidate) -> CleanEstimate | None:
        """Returns what the mean accuracy would be on clean labels; the leader's runs estimate the noise."""
        leader = next(iter(self.ranking()), candidate)
        runs, reference = (
            [run for run in self.runs_of(which).values() if run.state == "finished"] for which in (candidate, leader)
        )
        return clean_estimate_over_runs(self.runs, runs, reference, self.folds)

    @property
    def clean_note(self) -> str | None:
        """The assumption of the accuracies on clean labels; None if there are none."""
        return explain_clean_terms([self.clean_estimate(candidate) for candidate in self.candidates])

    @property
    def validation_labels(self) -> str:
        """The labels that candidates are compared on, with the metric where that is not the accuracy."""
        labels = f"{self.runs.labels_kind} labels"
        return labels if self.runs.metric == "val_accuracy" else f"{self.runs.settings.metric} on {labels}"

    def about_intervals(self) -> str:
        """Describes what the intervals of validation accuracies are about."""
        if self.folds == 1:
            return "Validation intervals (95 %) are over seeds, on the same images."
        return (
            f"Validation intervals (95 %) are over seeds and images: each seed holds out another of {self.folds} "
            "folds of the images, the same one for all."
        )

    @property
    def test_evaluation(self) -> Evaluation | None:
        """The evaluation of this winner and its rivals on all these seeds; None before it was made."""
        winner = self.winner()
        if winner is None or not self.test_evaluations:
            return None
        last = self.test_evaluations[-1]
        seeds = {candidate.name: sorted(self.accuracies(candidate)) for candidate in self.compared(winner)}
        return last if "results" in last and seeds.items() <= last.get("seeds", {}).items() else None

    def compared(self, winner: Candidate) -> list[Candidate]:
        """Returns those that are evaluated on the test set: the winner and its rivals that have results."""
        return [candidate for candidate in [winner, *self.rivals(winner)] if self.accuracies(candidate)]

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
        """Returns how much better an ablation is than the winner on the validation split, paired by seed."""
        winner = self.winner()
        return self.gain(ablation, winner, on_test=False) if winner else None


class _Request(BaseModel):
    """The content of `confirmation.yaml`."""

    top_k: Count
    seeds: Annotated[list[Seed], Field(min_length=1)]
    searched: Annotated[int, Field(ge=0)]
    folds: Count = 1  # earlier versions validated on the same images in every run
    ablate: bool = False
    candidates: Annotated[list[Candidate], Field(min_length=1)]


def _read_request(folder: Location, hyperparameters: list[str]) -> _Request:
    document = read_yaml(folder / REQUEST_FILE)
    refuse_newer(document)
    try:
        request = _Request.model_validate(document.values)
        pairs = ((candidate, name) for candidate in request.candidates for name in hyperparameters)
        wrong = next((f"{who.name} has no {name} in config" for who, name in pairs if name not in who.config), None)
    except ValidationError as error:
        wrong = describe_value(error.errors()[0])
    if wrong:
        again = f"restore it, or move the folder {CONFIRMATION_FOLDER} away to confirm again"
        raise RequestError(f"{document.source} is damaged: {wrong}; {again}")
    return request


def read_confirmation(experiment: Experiment) -> Confirmation | None:
    """Reads the confirmation of a search, if one was started. Raises RequestError if it is newer or damaged."""
    path = experiment.path / CONFIRMATION_FOLDER
    if not has_file(path / REQUEST_FILE):
        return None
    request = _read_request(path, experiment.hyperparameters)
    confirmation = Confirmation(
        Experiment(path, experiment.settings, experiment.provenance),
        candidates=request.candidates,
        seeds=request.seeds,
        top_k=request.top_k,
        searched=request.searched,
        folds=request.folds,
        ablate=request.ablate,
        test_evaluations=read_evaluations(path),
    )
    replay(path / JOURNAL_FILE, confirmation.apply)
    confirmation.runs.num_samples = confirmation.planned()
    return confirmation


def check_counts(top_k: int | None, seeds: int | None) -> None:
    """Raises RequestError if the options of a confirmation are out of range; None: not given."""
    for option, value, least, most in (("top-k", top_k, 1, MAX_COUNT), ("seeds", seeds, MIN_SEEDS, MAX_SEEDS)):
        if value is not None and not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most:,}"
            raise RequestError(
                f"{option.replace('-', '_')} must be a whole number of {bound}, got {value} (--{option})"
            )


def check_can_confirm(experiment: Experiment) -> None:
    """Raises RequestError if nothing of a search can be confirmed, as no trial ran to its end."""
    if not (experiment.path / CONFIRMATION_FOLDER).exists() and not experiment.ranked_trials():
        status = with_storage(f"status {experiment.name}", experiment.path.parent)
        raise RequestError(
            f"{experiment.name} has no trial that ran to the end yet, so nothing can be confirmed: see {status}"
        )


def confirmation_state(storage: Location, name: str) -> SearchState | None:
    """Returns the state of a search's confirmation; None before it begins."""
    if not has_file(experiment_path(storage, name) / CONFIRMATION_FOLDER / REQUEST_FILE):
        return None
    confirmation = read_confirmation(read_experiment(storage, name))
    return confirmation.runs.state() if confirmation else None


def _interval(values: Iterable[float]) -> ConfidenceInterval | None:
    listed = list(values)
    return confidence_interval(listed) if listed else None
