"""Tells people of a search and of the end of its confirmation, where the environment names whom to tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trainables.errors import one_line
from tune_mentormix.config.settings import with_storage
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import SearchOverview, SearchState
from tune_mentormix.formatting import command
from tune_mentormix.results.confirmation import Confirmation
from tune_mentormix.results.confirmation_summary import verdicts
from tune_mentormix.results.news import Message, SearchNews, confirmation_news
from tune_mentormix.results.notifications import Notifier, notifier_of_environment
from tune_mentormix.search.tune_run import Progress

UPDATE_SECONDS = 1.0  # between two looks at the search


class Watch:
    """Looks at a search after its events, and sends what is new; without a notifier, nothing."""

    def __init__(self, notifier: Notifier | None) -> None:
        self._notifier = notifier
        self._news: SearchNews | None = None
        self._looked = 0.0

    def begin(self, experiment: Experiment, progress: Progress) -> Progress:
        """Remembers the search as it is before it goes on; returns a `progress` that also looks at it."""
        if self._notifier is None:
            return progress
        storage = experiment.path.parent
        self._news = SearchNews(storage, _overview(experiment, "running"))
        again = command(with_storage(f"resume {experiment.name}", storage))
        self._notifier.expect_end(
            Message("failed", f"{experiment.name} failed: its driver died", f"What was stored is safe: {again}")
        )

        def watched(experiment: Experiment) -> None:
            progress(experiment)
            if time.monotonic() - self._looked >= UPDATE_SECONDS:
                self._looked = time.monotonic()
                self._send(experiment, "running")

        return watched

    def end(self, experiment: Experiment) -> None:
        """Sends how the search ended."""
        self._send(experiment, experiment.left_as())

    def _send(self, experiment: Experiment, state: SearchState) -> None:
        if self._notifier is not None and self._news is not None:
            for message in self._news.update(_overview(experiment, state)):
                self._notifier.send(message)


def _overview(experiment: Experiment, state: SearchState) -> SearchOverview:
    return experiment.status().model_copy(update={"state": state})


class ConfirmationWatch:
    """Tells how the confirmation of a search ended; without a notifier, nothing."""

    def __init__(self, experiment: Experiment, notifier: Notifier | None) -> None:
        self._name, self._storage = experiment.name, experiment.path.parent
        self._notifier = notifier

    @contextmanager
    def watching(self) -> Iterator[Callable[[Confirmation], None]]:
        """Tells of an error or the death of the driver in the block; yields what tells how it ended."""
        if self._notifier is None:
            yield lambda confirmation: None
            return
        self._notifier.expect_end(confirmation_news(self._name, self._storage, None, []))
        try:
            yield self._tell
        except Exception as error:
            self._notifier.send(Message("failed", f"{self._name}: its confirmation failed", one_line(error)))
            raise

    def _tell(self, confirmation: Confirmation) -> None:
        assert self._notifier is not None
        winner = confirmation.winner() if confirmation.test_evaluation else None
        found = verdicts(confirmation, winner) if winner else []
        self._notifier.send(confirmation_news(self._name, self._storage, confirmation.runs.ended, found))


@contextmanager
def watching_confirmation(experiment: Experiment) -> Iterator[ConfirmationWatch]:
    """Yields what tells of a confirmation. Raises RequestError if the environment names a wrong address."""
    with _notifier() as notifier:
        yield ConfirmationWatch(experiment, notifier)


@contextmanager
def watching() -> Iterator[Watch]:
    """Yields what looks at a search. Raises RequestError if the environment names a wrong address."""
    with _notifier() as notifier:
        yield Watch(notifier)


@contextmanager
def _notifier() -> Iterator[Notifier | None]:
    notifier = notifier_of_environment(os.environ)
    try:
        yield notifier
    finally:
        if notifier is not None:
            notifier.close()
