"""News of a search that its people want to hear: that it or its confirmation ended, that it waits, and a new best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tune_mentormix.config.settings import with_storage
from tune_mentormix.experiment.schemas import SearchOverview
from tune_mentormix.formatting import command, format_accuracy, format_value
from tune_mentormix.storage.paths import Location

NewsKind = Literal["ended", "failed", "stalled", "best"]
FAILURES = {
    "all_failing": "every trial fails",
    "storage": "its storage failed for long",
    "ray_lost": "its Ray cluster was lost",
}


class Message(NamedTuple):
    """A message to people, in plain text."""

    kind: NewsKind
    title: str
    body: str


class SearchNews:
    """Compares a search with what it was before, and writes a message for each thing that is new."""

    def __init__(self, storage: Location, known: SearchOverview | None = None) -> None:
        """`known` is the search as people know it already; None before it starts."""
        self._storage = storage
        self._known = known

    def update(self, now: SearchOverview) -> list[Message]:
        """Returns the messages about what is new; none where nothing is."""
        before, self._known = self._known, now
        messages = []
        if now.waiting and not (before and before.waiting):
            text = f"It waits for its storage since {now.waiting}. Nothing is lost; make room, or mend it."
            messages.append(Message("stalled", f"{now.name} waits for its storage", text))
        if before and before.waiting and not now.waiting and now.state == "running":
            messages.append(Message("stalled", f"{now.name} goes on", "Its storage works again."))
        if _finished_best(now) != (_finished_best(before) if before else None) and now.best:
            messages.append(Message("best", f"{now.name}: a new best", _about_best(now)))
        was_running = before is not None and before.state == "running"
        if was_running and now.state != "running":
            messages.append(self._end(now))
        return messages

    def _end(self, now: SearchOverview) -> Message:
        best = _about_best(now) if now.best else "No trial has a result."
        words = "report" if now.state == "finished" else "resume"
        body = f"{best} Next: {command(with_storage(f'{words} {now.name}', self._storage))}"
        reason = FAILURES.get(now.ended or "")
        if now.state == "interrupted" and now.ended is None:
            reason = "its driver died"
        if reason:
            return Message("failed", f"{now.name} failed: {reason}", body)
        if now.ended == "interrupted":
            return Message("ended", f"{now.name} was interrupted", body)
        return Message("ended", f"{now.name} ended ({(now.ended or now.state).replace('_', ' ')})", body)


def confirmation_news(name: str, storage: Location, ended: str | None, verdicts: Sequence[str]) -> Message:
    """Returns the message that a confirmation has ended; `ended` tells why, None that its driver died."""
    if verdicts:
        return Message("ended", f"{name}: its confirmation ended", " ".join(verdicts))
    body = f"Next: {command(with_storage(f'confirm {name}', storage))}"
    if ended is None or ended in FAILURES:
        reason = FAILURES.get(ended or "", "its driver died")
        return Message("failed", f"{name}: its confirmation failed: {reason}", body)
    how = "was interrupted" if ended == "interrupted" else f"ended without a verdict ({ended.replace('_', ' ')})"
    return Message("ended", f"{name}: its confirmation {how}", body)


def _finished_best(overview: SearchOverview) -> int | None:
    """Returns the best trial if it ran to its end; accuracies at earlier epochs change all the time."""
    return overview.best.trial_id if overview.best and overview.trials.finished else None


def _about_best(overview: SearchOverview) -> str:
    best = overview.best
    assert best is not None
    values = ", ".join(
        f"{name} {format_value(best.config[name])}"
        for name in ("mixup_alpha", "loss_p_percentile", "burn_in")
        if name in best.config
    )
    split = f"on {overview.labels} {overview.split} labels"
    count = overview.trials.finished
    return f"Best of {count} finished trials: {format_accuracy(best.val_accuracy)} {split} ({values})."
