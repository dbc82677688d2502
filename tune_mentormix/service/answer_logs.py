"""The answers about labels that came through this server: one log for each experiment."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from trainables.verify_csv import VerifyRow
from tune_mentormix.results.verification_pool import newest_pool
from tune_mentormix.results.verified_labels import WITHDRAWN, AnswerLog, check_answers
from tune_mentormix.storage.paths import Location


@dataclass
class _Asked:
    """The answers of one experiment: their log, and the images that may be answered."""

    log: AnswerLog
    given: dict[str, str] = field(default_factory=dict)  # image → given label
    class_names: tuple[str, ...] = ()

    def read_pool(self, path: Location) -> None:
        """Reads which images may be answered now."""
        pool = newest_pool(path)
        if pool:
            self.given = {image: pool.given(position) for position, image in enumerate(pool.images)}
            self.class_names = pool.class_names


class AnswerLogs:
    """Keeps one log of answers for each experiment that was answered through this server."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        self._lock = threading.Lock()

    def add(self, path: Location, answers: dict[str, str], by: str) -> int:
        """Adds answers to an experiment, and takes back those that are `WITHDRAWN`; returns how many are new.

        Raises RequestError if one does not fit.
        """
        with self._lock:
            asked = self._asked.setdefault(str(path), _Asked(AnswerLog(path)))
            if not answers.keys() <= asked.given.keys():  # a new pool may have more images
                asked.read_pool(path)
        withdrawn = {image: WITHDRAWN for image, answer in answers.items() if answer == WITHDRAWN}
        rows = [VerifyRow(image, asked.given.get(image, ""), answers[image]) for image in answers.keys() - withdrawn]
        return asked.log.add(check_answers(rows, asked.given, asked.class_names) | withdrawn, by)

    def close(self) -> None:
        """Closes all logs."""
        for asked in self._asked.values():
            asked.log.close()
