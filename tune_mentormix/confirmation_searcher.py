"""Which run of a confirmation comes next: a round is one seed for every candidate still in the race.

The first rounds overlap. From then on a round begins when the earlier ones have ended, and a paired test has said who
is out; so what is run does not depend on which worker was faster, nor on interruptions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from tune_mentormix.experiment.experiment import Trial
from tune_mentormix.recorder import Recorder
from tune_mentormix.results.confirmation import Candidate, Confirmation
from tune_mentormix.results.statistics import LEAST_ROUNDS, hopeless
from tune_mentormix.searcher import start_trial


class ConfirmationSearcher(Searcher):
    """Proposes the runs that an earlier driver left unfinished, then round by round."""

    def __init__(
        self,
        confirmation: Confirmation,
        recorder: Recorder,
        threads: int,
        unfinished: list[tuple[Trial, str | None]],
    ) -> None:
        """Prepares the order of runs.

        Args:
            confirmation: kept up to date by the recorder.
            recorder: where proposals, and who is ruled out, are written.
            threads: of torch on a CPU.
            unfinished: runs to go on with first, each with its checkpoint's folder, if one is whole.
        """
        super().__init__()
        self._confirmation = confirmation
        self._recorder = recorder
        self._threads = threads
        self._unfinished = list(unfinished)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """The next run as Tune hands it to the trainable; None while a round waits for others; or FINISHED."""
        if self._unfinished:
            run, checkpoint = self._unfinished.pop(0)
            return self._start(replace(run, attempt=run.attempt + 1), checkpoint)
        rule_out_failed(self._confirmation, self._recorder)
        for round_number, seed in enumerate(self._confirmation.seeds):
            if round_number >= LEAST_ROUNDS and not self._has_begun(round_number):
                if self._confirmation.unfinished():
                    return None
                self._rule_out_hopeless(round_number)
            for candidate in self._confirmation.candidates:
                number = self._confirmation.run_number(candidate, round_number)
                if number not in self._confirmation.trials and candidate.name not in self._confirmation.ruled_out:
                    return self._start(Trial(number, candidate.config | {"seed": seed}, candidate.control), None)
        return str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the journal says how a run ended."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def _start(self, run: Trial, checkpoint: str | None) -> dict[str, Any]:
        return start_trial(self._recorder, run, self._confirmation.runs, self._threads, checkpoint)

    def _has_begun(self, round_number: int) -> bool:
        """Whether it is decided who runs in a round: then that stands."""
        numbers = (self._confirmation.run_number(c, round_number) for c in self._confirmation.candidates)
        return round_number in self._confirmation.rounds_decided or any(
            number in self._confirmation.trials for number in numbers
        )

    def _rule_out_hopeless(self, rounds: int) -> None:
        """Those that a paired test over all rounds so far rules out; the controls never."""
        confirmation = self._confirmation
        race = [c for c in confirmation.candidates if c.competes and c.name not in confirmation.ruled_out]
        accuracies = {c.name: confirmation.accuracies(c) for c in race if confirmation.accuracies(c)}
        kept = [c.name for c in race if c.control]
        reasons = hopeless(accuracies, kept) if accuracies else {}
        if reasons:
            self._recorder.record("ruled_out", rounds=rounds, candidates=reasons)


def rule_out_failed(confirmation: Confirmation, recorder: Recorder) -> None:
    """A candidate of which a run failed is out, whatever its other runs say; a control is not."""
    reasons = {candidate.name: _why_failed(confirmation, candidate) for candidate in confirmation.candidates}
    new = {name: why for name, why in reasons.items() if why and name not in confirmation.ruled_out}
    if new:
        recorder.record("ruled_out", rounds=None, candidates=new)


def _why_failed(confirmation: Confirmation, candidate: Candidate) -> str | None:
    return None if candidate.control else confirmation.failure(candidate)
