"""The labels that people verified, in the folder of an experiment, with who gave each and when.

Each writer has a log of its own, so that two people at once, also on an object store, lose nothing. A log is written
and read as a journal is: a line is there as a whole or not at all, and nothing is ever changed or removed.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from trainables import verify_csv
from trainables.errors import DatasetError, one_line
from trainables.verify_csv import CANNOT_TELL, VerifyRow, match_answer
from tune_mentormix.errors import RequestError, unknown
from tune_mentormix.storage.journal_backends import FileBackend, SegmentsBackend, journal_lines, open_backend
from tune_mentormix.storage.listing import list_folder
from tune_mentormix.storage.paths import Location

VERIFICATION_FOLDER = "verification"
WITHDRAWN = ""  # in place of an answer, once it is taken back
MAX_CLASSES_NAMED = 20  # in a message
_PREFIX = "answers-"


@dataclass(frozen=True)
class VerifiedLabel:
    """What a person answered about one image."""

    time: str  # ISO 8601, in UTC
    by: str
    image: str
    answer: str  # the name of a class, `CANNOT_TELL` or `WITHDRAWN`


def new_name(prefix: str, suffix: str) -> str:
    """Returns the name of a new file: names sort by time, and no two writers choose the same."""
    return f"{prefix}{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}{suffix}"


def read_answers(experiment: Location) -> list[VerifiedLabel]:
    """Reads all answers, oldest first. Raises RequestError if a log is damaged or cannot be read."""
    folder = experiment / VERIFICATION_FOLDER
    answers: list[VerifiedLabel] = []
    try:
        names = {path.name.removesuffix(".jsonl") for path in list_folder(folder) if path.name.startswith(_PREFIX)}
        for name in sorted(names):
            path = folder / f"{name}.jsonl"
            try:
                answers += [VerifiedLabel(**json.loads(line)) for line in journal_lines(path)]
            except (ValueError, TypeError) as error:
                raise RequestError(f"{path} is no log of verified labels: restore it, or move it away") from error
    except OSError as error:
        raise RequestError(f"cannot read {folder}: {one_line(error)}") from error
    return sorted(answers, key=lambda answer: answer.time)


def latest_answers(answers: Iterable[VerifiedLabel]) -> dict[str, VerifiedLabel]:
    """Returns the answer that counts for each image, in the order in which they were given.

    It is the latest one, whoever gave it; an image has none if the latest withdraws it.
    """
    latest: dict[str, VerifiedLabel] = {}
    for answer in answers:
        latest.pop(answer.image, None)
        if answer.answer != WITHDRAWN:
            latest[answer.image] = answer
    return latest


class AnswerLog:
    """Appends answers to a log of its own; may be used from several threads."""

    def __init__(self, experiment: Location) -> None:
        """Writes nothing yet."""
        self._experiment = experiment
        self._backend: FileBackend | SegmentsBackend | None = None
        self._known: dict[str, str] | None = None  # image → latest answer: all when it began, and its own since
        self._lock = threading.Lock()

    def add(self, answers: Mapping[str, str], by: str) -> int:
        """Adds the answers, image → class name, that are not the latest already; returns how many those are.

        `WITHDRAWN` in place of a name takes the answer to an image back. Raises RequestError if they cannot be
        written now: none was, then.
        """
        with self._lock:
            if self._known is None:
                found = latest_answers(read_answers(self._experiment))
                self._known = {image: answer.answer for image, answer in found.items()}
            known = self._known
            time = datetime.now(UTC).isoformat(timespec="microseconds")
            new = [VerifiedLabel(time, by, image, answer) for image, answer in answers.items()]
            new = [answer for answer in new if known.get(answer.image, WITHDRAWN) != answer.answer]
            if new:
                self._append(new)
                known.update((answer.image, answer.answer) for answer in new)
            return len(new)

    def close(self) -> None:
        """Closes the log."""
        if self._backend:
            self._backend.close()

    def _append(self, answers: list[VerifiedLabel]) -> None:
        folder = self._experiment / VERIFICATION_FOLDER
        lines = [json.dumps(asdict(answer), ensure_ascii=False, separators=(",", ":")) for answer in answers]
        try:
            if self._backend is None:
                folder.mkdir(exist_ok=True)
                self._backend = open_backend(folder / new_name(_PREFIX, ".jsonl"))
            self._backend.append("".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            raise RequestError(f"the answers could not be kept in {folder}: {one_line(error)}") from error


def record_answers(experiment: Location, answers: Mapping[str, str], by: str) -> int:
    """Adds answers as `AnswerLog.add` does, for a process that adds once."""
    log = AnswerLog(experiment)
    try:
        return log.add(answers, by)
    finally:
        log.close()


def check_answers(rows: Iterable[VerifyRow], given: Mapping[str, str], class_names: Sequence[str]) -> dict[str, str]:
    """Returns the answers of a verify.csv, image → class name or `CANNOT_TELL`, without images not answered.

    `given` are the given labels of the images that may be answered. Raises RequestError if a line is about another
    image or another given label, or answers what is no class.
    """
    answers: dict[str, str] = {}
    for row in rows:
        if not row.answer.strip():
            continue
        if row.image not in given:
            raise RequestError(
                f"there is no image {row.image!r} to verify in this search: was the file made for another?"
            )
        if row.given.strip() != given[row.image].strip():
            label = given[row.image]
            raise RequestError(f"image {row.image!r} is labelled {label!r} in this search, not {row.given!r}")
        exact = match_answer(row.answer, class_names)
        if exact is None:
            kind, allowed = "answer", [*class_names[:MAX_CLASSES_NAMED], CANNOT_TELL]
            raise RequestError(
                f"{unknown(kind, row.answer, allowed)}, for image {row.image!r}; {CANNOT_TELL}: cannot tell"
            )
        if answers.setdefault(row.image, exact) != exact:
            raise RequestError(
                f"image {row.image!r} has two answers, {answers[row.image]!r} and {exact!r}: leave one"
            )
    return answers


def read_verify_csv(path: Path) -> list[VerifyRow]:
    """Reads the lines of a verify.csv. Raises RequestError if it cannot be read, or lacks a column."""
    try:
        return verify_csv.read_verify_csv(path)
    except DatasetError as error:
        raise RequestError(f"{error} (--labels)") from error
