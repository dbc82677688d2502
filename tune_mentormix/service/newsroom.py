"""Tells the people whom the server's configuration names what is new in its searches."""

from __future__ import annotations

from tune_mentormix.experiment.experiment import experiment_path
from tune_mentormix.results.news import SearchNews
from tune_mentormix.results.notifications import Notifier
from tune_mentormix.service.experiments import ExperimentCache, Snapshot
from tune_mentormix.service.schemas import SearchSummary
from tune_mentormix.storage.lease import Lease


class Newsroom:
    """Compares all searches with what they were at the last look, and sends what is new; at first, nothing is."""

    def __init__(self, experiments: ExperimentCache, notifier: Notifier) -> None:
        self._experiments = experiments
        self._notifier = notifier
        self._news: dict[str, SearchNews] | None = None

    def look(self) -> None:
        """Looks at all searches. Raises StorageError if the storage cannot be read."""
        is_first, known = self._news is None, self._news or {}
        self._news = {}
        for snapshot in self._experiments.snapshots():
            now = self._overview(snapshot)
            if now.state == "unreadable":
                continue
            news = known.get(now.name)
            if news is None:
                begins = now.model_copy(update={"state": "running", "best": None})
                news = SearchNews(self._experiments.storage, now if is_first else begins)
            self._news[now.name] = news
            for message in news.update(now):
                self._notifier.send(message)

    def close(self) -> None:
        """Lets the last messages be sent."""
        self._notifier.close()

    def _overview(self, snapshot: Snapshot) -> SearchSummary:
        """A search that waits for its storage writes nothing, so its lease is asked."""
        status = snapshot.status
        if status.state != "running":
            return status
        waiting = Lease(experiment_path(self._experiments.storage, status.name)).waiting()
        return status.model_copy(update={"waiting": waiting})
