"""Verified labels: what people answered about single images, as the clean labels that a search validates on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.sources import Labels
from trainables.errors import DatasetError
from trainables.verify_csv import CANNOT_TELL, VerifyRow, match_answer, read_verify_csv

MIN_VERIFIED = 20  # images; on fewer, one answer moves every accuracy by more than 5 points
MAX_CLASSES_NAMED = 20  # in a message


@dataclass(frozen=True)
class VerifiedImages:
    """The images of a dataset whose label a person verified, in the order of the dataset."""

    positions: Labels  # [M] ascending
    image_names: tuple[str, ...]  # M
    labels: Labels  # [M] int64 in [0, K), as verified
    noisy_labels: Labels | None  # [M] as they were before; None if the file does not name a class for each


def read_verified(path: Path, image_names: tuple[str, ...], class_names: tuple[str, ...]) -> VerifiedImages:
    """Reads the verified labels in a verify.csv; images without an answer, or that nobody can tell, are left out.

    Raises DatasetError if a line is about an unknown image or one named before, or answers what is no class, or if
    there are too few.
    """
    position_of = {name: position for position, name in enumerate(image_names)}
    seen: set[int] = set()
    found: dict[int, tuple[VerifyRow, int]] = {}
    try:
        rows = read_verify_csv(path)
    except DatasetError as error:
        raise DatasetError(f"verified: {error}") from error
    for row in rows:
        if not row.answer.strip():
            continue
        position, answer = position_of.get(row.image), match_answer(row.answer, class_names)
        if position is None:
            raise DatasetError(
                f"verified {path} names image {row.image!r}, which the dataset does not have (its own are named like "
                f"{image_names[0]!r})"
            )
        if position in seen:
            raise DatasetError(f"verified {path} names image {row.image!r} twice: leave one line")
        seen.add(position)
        if answer is None:
            allowed = ", ".join((*class_names[:MAX_CLASSES_NAMED], CANNOT_TELL))
            raise DatasetError(
                f"verified {path} has answer {row.answer!r} for image {row.image!r}, not one of {allowed}"
            )
        if answer != CANNOT_TELL or CANNOT_TELL in class_names:
            found[position] = row, class_names.index(answer)
    if len(found) < MIN_VERIFIED:
        raise DatasetError(
            f"verified {path} has {len(found)} verified labels: at least {MIN_VERIFIED} are needed to compare "
            "configurations; verify more images"
        )
    positions = sorted(found)
    given = [match_answer(found[position][0].given, class_names) for position in positions]
    return VerifiedImages(
        positions=np.array(positions, np.int64),
        image_names=tuple(image_names[position] for position in positions),
        labels=np.array([found[position][1] for position in positions], np.int64),
        noisy_labels=_labels_of(given, class_names),
    )


def _labels_of(names: list[str | None], class_names: tuple[str, ...]) -> Labels | None:
    label_of: dict[str | None, int] = {name: label for label, name in enumerate(class_names)}
    return np.array([label_of[name] for name in names], np.int64) if set(names) <= label_of.keys() else None
