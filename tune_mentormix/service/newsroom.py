"""Tells the people whom the server's configuration names what is new in its searches."""

from __future__ import annotations

from tune_mentormix.results.news import SearchNews
from tune_mentormix.results.notifications import Notifier
from tune_mentormix.service.experiments import ExperimentCache


class Newsroom:
    """Compares all searches with what they were at the last look, and sends what is new; at first, nothing is."""

    def __init__(self, experiments: ExperimentCache, notifier: Notifier) -> None:
        self._experiments = experiments
        self._notifier = notifier
        self._news: dict[str, SearchNews] | None = None

    def look(self) -> None:
        """Looks at all searches. Raises StorageError if the storage cannot be read."""
        overviews = [snapshot.status for snapshot in self._experiments.snapshots()]
        is_first, known = self._news is None, self._news or {}
        for now in overviews:
            if now.state == "unreadable":
                continue  # what was known of it still is
            if now.name not in known:
                begins = now.model_copy(update={"state": "running", "best": None})
                known[now.name] = SearchNews(self._experiments.storage, now if is_first else begins)
            for message in known[now.name].update(now):
                self._notifier.send(message)
        self._news = {now.name: known[now.name] for now in overviews if now.name in known}

    def close(self) -> None:
        """Lets the last messages be sent."""
        self._notifier.close()
