"""Holds a finished search to what must be true of it, whatever happened to it on the way."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_mentormix.storage.journal import JOURNAL_FILE, Event, read_events

ENDS = ("finished", "stopped", "failed")


@dataclass
class Audit:
    """The findings in the journal of a search; `wrong` holds one line for each thing that must not be."""

    asked: int
    ends: Counter[str] = field(default_factory=Counter)  # how trials ended
    restarts: int = 0  # starts of trials beyond the first
    repeated: int = 0  # reports of an epoch that had been reported before
    lost: int = 0  # trials without an end
    doubled: int = 0  # trials with more than one, or started again under a second configuration
    wrong: list[str] = field(default_factory=list)


def audit(
    experiment: Path, asked: int, checkpoint_every: int, torn: int = 0, undisturbed: Path | None = None
) -> Audit:
    """Reads the journal of a finished search and checks it, event by event.

    Every trial asked for exists exactly once, with one configuration, and has come to exactly one end, after which
    nothing more is reported of it; none failed. Its epochs are 1, 2, …, E without a gap. An epoch that ran again gave
    the same accuracy as before, to the last bit. What ran again is at most what a trial had done since its newest
    checkpoint, once for every time it was started again, and once more for every checkpoint that was truncated.

    Args:
        experiment: the folder of the search.
        asked: how many trials were asked for.
        checkpoint_every: epochs between checkpoints.
        torn: how many checkpoints were truncated.
        undisturbed: the folder of a search of the same settings to which nothing happened. Then the configurations
            and curves must be the same, to the last bit. This holds only where proposals and ends do not depend on
            which trial was faster: random sampling, no trial stopped early.
    """
    events = [event for event in read_events(experiment / JOURNAL_FILE) if "trial" in event]
    by_trial: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        by_trial[event["trial"]].append(event)
    found = Audit(asked)
    if sorted(by_trial) != list(range(asked)):
        found.wrong.append(f"trials {sorted(by_trial)} are there, 0 to {asked - 1} were asked for")
    for trial, its_events in sorted(by_trial.items()):
        _audit_trial(found, trial, its_events)
    found.lost += sum(trial not in by_trial for trial in range(asked))
    if found.repeated > checkpoint_every * (found.restarts + torn):
        found.wrong.append(f"{found.repeated} epochs ran again in {found.restarts} restarts")
    if undisturbed is not None and curves(experiment) != curves(undisturbed):
        found.wrong.append("curves differ from those of the undisturbed search")
    return found


def _audit_trial(found: Audit, trial: int, events: list[Event]) -> None:
    ends = [position for position, event in enumerate(events) if event["event"] in ENDS]
    found.ends.update(events[position]["event"] for position in ends)
    proposals = [event for event in events if event["event"] == "proposed"]
    found.restarts += len(proposals) - 1
    found.lost += not ends
    found.doubled += len(ends) > 1 or any(p["config"] != proposals[0]["config"] for p in proposals)
    accuracies: dict[int, Any] = {}
    for event in events:
        if event["event"] == "report":
            epoch = event["epoch"]
            if epoch in accuracies:
                found.repeated += 1
                if accuracies[epoch] != event["val_accuracy"]:
                    found.wrong.append(f"trial {trial}: epoch {epoch} came out differently when it ran again")
            elif epoch != len(accuracies) + 1:
                found.wrong.append(f"trial {trial}: epoch {epoch} followed {len(accuracies)}")
            accuracies[epoch] = event["val_accuracy"]
    if len(ends) != 1:
        found.wrong.append(f"trial {trial} ended {len(ends)} times")
    elif any(event["event"] in ("proposed", "report") for event in events[ends[0] :]):
        found.wrong.append(f"trial {trial} continued after its end")
    elif events[ends[0]]["event"] == "failed":
        found.wrong.append(f"trial {trial} failed: {events[ends[0]]['error']}")
    attempts = [event["attempt"] for event in proposals]
    if len(set(attempts)) != len(attempts):
        found.wrong.append(f"trial {trial} had attempts {attempts}")


def curves(experiment: Path) -> dict[int, Any]:
    """Returns each trial's configuration and its accuracy after each epoch."""
    read: dict[int, Any] = {}
    for event in read_events(experiment / JOURNAL_FILE):
        if event["event"] == "proposed":
            read.setdefault(event["trial"], (event["config"], {}))
        elif event["event"] == "report":
            read[event["trial"]][1].setdefault(event["epoch"], event["val_accuracy"])
    return read
