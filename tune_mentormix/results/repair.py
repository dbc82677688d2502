"""Repairs damaged journals: what cannot be read is cut out, and a copy of the whole is kept.

A journal is written by appending whole lines, so that a crash damages none. Disks, editors and copying do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from trainables.errors import one_line
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import parse_line
from tune_mentormix.experiment.experiment import SEARCH_FILE, experiment_path, open_experiment
from tune_mentormix.results.confirmation import CONFIRMATION_FOLDER
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.journal_backends import journal_lines, rewrite_lines
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.listing import has_file
from tune_mentormix.storage.paths import Location


@dataclass(frozen=True)
class Repair:
    """The lines that were cut out of one journal."""

    journal: Location
    copy: Location  # of the journal as it was
    kept: int  # lines
    lost: list[str]  # for each line that was cut out, its number and the reason


def repair_experiment(storage: Location, name: str) -> list[Repair]:
    """Repairs the journals of a search and of its confirmation; returns what was damaged.

    With the line that proposed a trial, all lines of that trial go. Raises RequestError if there is no such search,
    it is running, or its `search.yaml` or its storage cannot be used.
    """
    path = experiment_path(storage, name)
    if not has_file(path / SEARCH_FILE):
        raise RequestError(f"there is no experiment {name!r} in {storage}")
    open_experiment(path)  # refused at once, where `search.yaml` cannot be used
    with Lease(path).acquire():
        try:
            found = (_repair(path, folder / JOURNAL_FILE) for folder in (path, path / CONFIRMATION_FOLDER))
            return [repair for repair in found if repair]
        except OSError as error:
            raise RequestError(f"{path} cannot be repaired: {one_line(error)} (--storage)") from error


def _repair(path: Location, journal: Location) -> Repair | None:
    experiment, lines, kept, lost = open_experiment(path), list(journal_lines(journal)), [], []
    for number, line in enumerate(lines, start=1):
        try:
            experiment.apply(parse_line(line))
            kept.append(line)
        except KeyError as error:
            lost.append(f"line {number}: trial {error} was never proposed")
        except ValueError as error:
            lost.append(f"line {number}: {error}")
    if not lost:
        return None
    copy = journal.parent / f"journal.damaged-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    copy.write_bytes(b"".join(line.rstrip(b"\n") + b"\n" for line in lines))
    rewrite_lines(journal, kept)
    return Repair(journal, copy, len(kept), lost)
