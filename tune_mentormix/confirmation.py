"""A confirmation read back: who ran on which seeds, who won, what the test set said.

It lies in `<experiment>/confirmation/` and is an experiment of its own, with its own journal. Its trials are called
runs here: one candidate on one seed. Reading it imports neither torch nor Ray.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from tune_mentormix.candidates import Candidate
from tune_mentormix.config.settings import refuse_newer
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, Trial, replay
from tune_mentormix.intervals import Interval, mean_interval, paired_differences
from tune_mentormix.storage.journal import JOURNAL_FILE, Event
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import read_yaml

CONFIRMATION_FOLDER = "confirmation"
REQUEST_FILE = "confirmation.yaml"
SEALED_TEST_FILE = "sealed_test.json"

Accuracies = dict[int, float]  # by seed


@dataclass
class Confirmation(Experiment):
    """The journal of a confirmation, and what was asked for.

    Run number n is candidate n mod C on seed n div C, C candidates; a candidate ruled out leaves gaps.
    """

    candidates: list[Candidate] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)  # one a round, the same for all candidates
    top_k: int = 0
    searched: int = 0  # trials of the search that had ended when the candidates were chosen
    ruled_out: dict[str, str] = field(default_factory=dict)  # name → why
    rounds_decided: set[int] = field(default_factory=set)  # after how many rounds somebody was ruled out
    openings: list[dict[str, Any]] = field(default_factory=list)  # of the test set
    no_test: str | None = None  # why the test set could not be opened, if it was tried

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account."""
        if event["event"] != "ruled_out":
            super().apply(event)
            return
        self.ruled_out |= event["candidates"]
        if event["rounds"] is not None:
            self.rounds_decided.add(event["rounds"])
        self.num_samples = self.planned()

    def planned(self) -> int:
        """Runs in all, as things stand: started ones, and those of candidates still in the race."""
        rounds = range(len(self.seeds))
        return sum(
            self.run_number(candidate, round_number) in self.trials or candidate.name not in self.ruled_out
            for candidate in self.candidates
            for round_number in rounds
        )

    def run_number(self, candidate: Candidate, round_number: int) -> int:
        """Of a candidate's run in a round, from 0."""
        return round_number * len(self.candidates) + self.candidates.index(candidate)

    def runs_of(self, candidate: Candidate) -> dict[int, Trial]:
        """Those started, by seed."""
        numbers = {seed: self.run_number(candidate, n) for n, seed in enumerate(self.seeds)}
        return {seed: self.trials[number] for seed, number in numbers.items() if number in self.trials}

    def accuracies(self, candidate: Candidate) -> Accuracies:
        """At the last epoch, on the validation split, of the runs that finished, by seed."""
        finished = {seed: run for seed, run in self.runs_of(candidate).items() if run.state == "finished"}
        return {seed: run.val_accuracy for seed, run in finished.items() if run.val_accuracy is not None}

    def failure(self, candidate: Candidate) -> str | None:
        """Why a run of the candidate failed, if one did."""
        runs = self.runs_of(candidate).items()
        return next((f"failed on seed {seed}: {run.error}" for seed, run in runs if run.state == "failed"), None)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to run."""
        return bool(self.trials) and self.planned() == len(self.trials) and not self.unfinished()

    def ranking(self) -> list[Candidate]:
        """Those that compete, best first: by the mean over seeds, those ruled out after the others."""
        scored = [c for c in self.candidates if c.competes and self.accuracies(c)]
        return sorted(scored, key=lambda c: (c.name in self.ruled_out, -fmean(self.accuracies(c).values())))

    def winner(self) -> Candidate | None:
        """The best on validation of those that ran on every seed, once nothing is left to run."""
        if not self.is_complete:
            return None
        ran_in_full = (c for c in self.ranking() if len(self.accuracies(c)) == len(self.seeds))
        return next(ran_in_full, None)

    def controls_beside(self, winner: Candidate) -> list[Candidate]:
        """The controls to compare the winner with: all, but for itself."""
        return [c for c in self.candidates if c.control and c != winner]

    def validation(self, candidate: Candidate) -> Interval | None:
        """Mean accuracy over the candidate's seeds."""
        return _interval(self.accuracies(candidate).values())

    @property
    def opening(self) -> dict[str, Any] | None:
        """What the test set said of this winner and the controls, on all these seeds; None before it was asked."""
        winner = self.winner()
        if winner is None or not self.openings:
            return None
        last = self.openings[-1]
        asked = (winner.name, {c.name: sorted(self.accuracies(c)) for c in self.compared(winner)})
        return last if "results" in last and (last["winner"], last["seeds"]) == asked else None

    def compared(self, winner: Candidate) -> list[Candidate]:
        """Whom the test set is opened for: the winner and the controls that have results."""
        return [c for c in [winner, *self.controls_beside(winner)] if self.accuracies(c)]

    def test_accuracies(self, candidate: Candidate) -> Accuracies:
        """On the clean labels of the test split, by seed; empty where the candidate was not tested."""
        results = (self.opening or {"results": {}})["results"].get(candidate.name, {})
        return {int(seed): accuracy for seed, accuracy in results.items()}

    def test(self, candidate: Candidate) -> Interval | None:
        """Mean test accuracy over the candidate's seeds."""
        return _interval(self.test_accuracies(candidate).values())

    def gain(self, first: Candidate, second: Candidate, on_test: bool) -> Interval | None:
        """How much better the first is than the second, paired by seed."""
        accuracies = self.test_accuracies if on_test else self.accuracies
        return _interval(paired_differences(accuracies(first), accuracies(second)))


def read_confirmation(experiment: Experiment) -> Confirmation | None:
    """The confirmation of a search, if one was begun.

    Raises:
        RequestError: if a newer version wrote it, or its journal is damaged.
    """
    path = experiment.path / CONFIRMATION_FOLDER
    if not (path / REQUEST_FILE).is_file():
        return None
    document = read_yaml(path / REQUEST_FILE)
    refuse_newer(document)
    values = document.values
    confirmation = Confirmation(
        path,
        experiment.settings,
        candidates=[Candidate(**candidate) for candidate in values["candidates"]],
        seeds=values["seeds"],
        top_k=values["top_k"],
        searched=values["searched"],
        openings=read_openings(path),
    )
    replay(confirmation, path / JOURNAL_FILE)
    confirmation.num_samples = confirmation.planned()
    return confirmation


def read_openings(path: Location) -> list[dict[str, Any]]:
    """Every opening of the test set that was written down, oldest first. Raises RequestError if it is damaged."""
    file = path / SEALED_TEST_FILE
    try:
        return list(json.loads(file.read_text())["openings"]) if file.is_file() else []
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{file} is no record of the test set's openings: the file was damaged") from error


def _interval(values: Iterable[float]) -> Interval | None:
    listed = list(values)
    return mean_interval(listed) if listed else None
