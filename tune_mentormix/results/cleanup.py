"""Disk usage of experiments, and removal of checkpoints that are no longer needed.

Kept are the checkpoints that a resume starts from, those that `export` takes weights from, now or after a `confirm`
of the default number of trials, and those that are evaluated on the test set. Nothing is removed while a search runs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import CHECKPOINTS_KEPT
from tune_mentormix.experiment.experiment import Experiment, list_experiments, read_experiment
from tune_mentormix.experiment.schemas import ListedState
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.confirmation import CONFIRMATION_FOLDER, TOP_K, Confirmation, read_confirmation
from tune_mentormix.results.verification_summary import chosen_trial
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.listing import list_folder, sizes_below
from tune_mentormix.storage.paths import SUBMISSIONS_FOLDER, Location, remove_folder

ABLATION_FOLDER = "ablation"  # in which version 0.1.0 trained ablations; nothing reads it any more
_CHECKPOINT = re.compile(r"(?:.*/)?runs/\d+/[^/]+/checkpoint_[^/]+(?=/)")


class DiskUsage(BaseModel):
    """The storage that one experiment takes."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: ListedState
    error: str | None = None  # why it cannot be read; the figures are 0 then
    bytes: int = 0
    checkpoints: int = 0  # their number
    removable: int = 0  # bytes that can be removed


def disk_usage(storage: Location, names: list[str], whole: bool = False) -> list[DiskUsage]:
    """Measures the named experiments, or all of the storage; `whole` if each is to be removed with all it holds.

    Raises RequestError if a named experiment does not exist or cannot be read, or is running and is to be removed
    with all it holds; StorageError if the storage cannot be read.
    """
    named = [read_experiment(storage, name) for name in dict.fromkeys(names)]
    if whole:
        for experiment in named:
            _refuse_if_running(experiment)
    if named:
        return [_disk_usage(experiment, whole) for experiment in named]
    experiments, unreadable = list_experiments(storage)
    usages = [DiskUsage(name=name, state="unreadable", error=reason) for name, reason in unreadable.items()]
    for experiment in experiments:
        try:
            usages.append(_disk_usage(experiment, whole))
        except RequestError as error:
            usages.append(DiskUsage(name=experiment.name, state="unreadable", error=str(error)))
    return sorted(usages, key=lambda usage: usage.name)


def remove_old_checkpoints(storage: Location, name: str) -> None:
    """Removes the checkpoints of an experiment that are no longer needed. Raises RequestError if it runs."""
    with _held(storage, name) as path:
        for checkpoint in _old_checkpoints(read_experiment(storage, name), sizes_below(path)):
            remove_folder(path / checkpoint)


def remove_whole(storage: Location, name: str) -> None:
    """Removes an experiment with all it holds, its journal last. Raises RequestError if it runs."""
    with _held(storage, name) as path:
        for part in ("runs", CONFIRMATION_FOLDER, ABLATION_FOLDER):
            remove_folder(path / part)
        remove_folder(path)
    remove_folder(storage / SUBMISSIONS_FOLDER / name)


@contextmanager
def _held(storage: Location, name: str) -> Iterator[Location]:
    """Yields the folder of an experiment under its lease, so that no other process writes there."""
    experiment = read_experiment(storage, name)
    _refuse_if_running(experiment)
    with Lease(experiment.path).acquire():
        yield experiment.path


def _disk_usage(experiment: Experiment, whole: bool) -> DiskUsage:
    sizes = sizes_below(experiment.path)
    running = any(lease.holder() for lease in _leases(experiment))
    removable = sizes if whole else {} if running else _old_checkpoints(experiment, sizes)
    return DiskUsage(
        name=experiment.name,
        state="running" if running else experiment.state(),
        bytes=sum(sizes.values()),
        checkpoints=len(_checkpoints(sizes)),
        removable=sum(removable.values()),
    )


def _old_checkpoints(experiment: Experiment, sizes: dict[str, int]) -> dict[str, int]:
    """Returns the bytes of each checkpoint that is no longer needed, by its path in the experiment."""
    confirmation = read_confirmation(experiment)
    needed = set(_needed_by_search(experiment, confirmation))
    if confirmation:
        needed |= {f"{CONFIRMATION_FOLDER}/{path}" for path in _needed_by_confirmation(confirmation)}
    return {path: size for path, size in _checkpoints(sizes).items() if path not in needed}


def _needed_by_search(experiment: Experiment, confirmation: Confirmation | None) -> Iterator[str]:
    best, chosen = experiment.best(), chosen_trial(experiment)
    confirmed = [candidate.trial for candidate in confirmation.candidates] if confirmation else []
    yield from _newest(
        [
            *experiment.unfinished(),
            *experiment.ranked_trials()[:TOP_K],
            *(trial for trial in experiment.trials.values() if trial.control or trial.number in confirmed),
            *(trial for trial in (best, chosen) if trial),
        ]
    )


def _needed_by_confirmation(confirmation: Confirmation) -> Iterator[str]:
    """Yields the checkpoints of unfinished runs, and those that more seeds would evaluate again on the test set."""
    yield from _newest(confirmation.runs.unfinished())
    for candidate in confirmation.candidates:
        if candidate.control or candidate.name not in confirmation.eliminated:
            yield from _newest(confirmation.runs_of(candidate).values())


def _newest(trials: Iterable[Trial]) -> Iterator[str]:
    for trial in trials:
        yield from (path for _, path in trial.checkpoints[-CHECKPOINTS_KEPT:])


def _checkpoints(sizes: dict[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for path, size in sizes.items():
        if match := _CHECKPOINT.match(path):
            found[match[0]] += size
    return found


def _refuse_if_running(experiment: Experiment) -> None:
    for lease in _leases(experiment):
        try:
            lease.check_free()
        except RequestError as error:
            raise RequestError(f"nothing of {experiment.name} is removed: {error}") from error


def _leases(experiment: Experiment) -> list[Lease]:
    """Returns the leases of an experiment, its confirmation and its ablations."""
    ablations = list_folder(experiment.path / ABLATION_FOLDER)
    return [Lease(place) for place in (experiment.path, experiment.path / CONFIRMATION_FOLDER, *ablations)]
