"""Tells the people whom the server's configuration names what is new in its searches."""

from __future__ import annotations

from tune_mentormix.results.news import Message, SearchNews, confirmation_news
from tune_mentormix.results.notifications import Notifier
from tune_mentormix.service.experiments import ExperimentCache
from tune_mentormix.service.schemas import ConfirmationSummary, SearchSummary


class Newsroom:
    """Compares all searches with what they were at the last look, and sends what is new; at first, nothing is."""

    def __init__(self, experiments: ExperimentCache, notifier: Notifier) -> None:
        self._experiments = experiments
        self._notifier = notifier
        self._news: dict[str, SearchNews] | None = None
        self._confirmations: dict[str, ConfirmationSummary | None] = {}

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
            for message in known[now.name].update(now) + self._about_confirmation(now):
                self._notifier.send(message)
        self._news = {now.name: known[now.name] for now in overviews if now.name in known}

    def _about_confirmation(self, search: SearchSummary) -> list[Message]:
        """Returns the message that a confirmation has ended since it was last read, or has found something else."""
        now, is_known = search.confirmation, search.name in self._confirmations
        if now and now.state == "unreadable":
            return []  # what was known of it still is
        before = self._confirmations.get(search.name)
        self._confirmations[search.name] = now
        if now is None or now.state == "running" or not is_known:
            return []
        if before and before.state != "running" and before.verdicts == now.verdicts:
            return []
        return [confirmation_news(search.name, self._experiments.storage, now.ended, now.verdicts)]

    def close(self) -> None:
        """Lets the last messages be sent."""
        self._notifier.close()
