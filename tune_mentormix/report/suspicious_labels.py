"""The labels that are probably wrong, as pictures: those of images that the networks were not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from trainables.settings import DataSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.report.thumbnails import thumbnail
from tune_mentormix.results.suspicious_labels import LabelTable, TrainingImages, held_out_predictions, images_of

MAX_SHOWN = 60  # images
MAX_PAIRS = 10  # of classes that are confused
MAX_BYTES = 1_000_000_000  # of images that a report reads: it should not need the memory of a search
CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


@dataclass(frozen=True)
class SuspiciousImage:
    """One image with both labels."""

    name: str
    suggested: str
    score: float
    rank: int
    src: str  # a data URI


@dataclass(frozen=True)
class SuspiciousLabels:
    """The most suspicious labels by given class, and which classes are confused."""

    images: int  # of the search
    scored: int  # of them, out of fold
    disagreements: int
    wrong: float | None  # estimated fraction
    source: str  # which networks, in words
    shown: dict[str, list[SuspiciousImage]]  # by given class
    confused: list[tuple[str, str, int]]  # given, suggested, images


def suspicious_labels(experiment: Experiment) -> SuspiciousLabels | str | None:
    """Returns the section of a report; the reason why there is none, where its data cannot be read; None before.

    Before any trial ran to its end nothing is known of the labels. Runs keep their probabilities for the images they
    held out, so no network is needed.
    """
    if not experiment.ranked_trials():
        return None
    facts = experiment.provenance.dataset
    if facts.train_images * prod(facts.image_shape) > MAX_BYTES:
        return "The images are too large to be read for a report"
    if reason := _would_download(experiment.settings.data_settings()):
        return reason
    try:
        images = images_of(experiment)
        table = LabelTable.of(images, held_out_predictions(experiment, images))
    except RequestError as error:
        return f"The images cannot be read here: {error}"
    return _section(table, images) if len(table.names) else "No probabilities of held-out images are left"


def _would_download(data: DataSettings) -> str | None:
    """Returns why the images cannot be read without a download, which a report should not start."""
    if data.dataset not in CIFAR_FOLDERS:
        return None
    folder: Path = data.data_dir or data.cache_dir.expanduser()
    missing = not (folder / CIFAR_FOLDERS[data.dataset]).is_dir()
    return f"The images cannot be read here: {data.dataset} is not in {folder}" if missing else None


def _section(table: LabelTable, images: TrainingImages) -> SuspiciousLabels:
    shown: dict[str, list[SuspiciousImage]] = {}
    for row in range(min(MAX_SHOWN, table.disagreements())):
        image = SuspiciousImage(
            name=table.names[row],
            suggested=table.class_names[table.suggested[row]],
            score=float(table.scores[row]),
            rank=row + 1,
            src=thumbnail(images.image(int(table.positions[row]))),
        )
        shown.setdefault(table.class_names[table.given[row]], []).append(image)
    order = {name: number for number, name in enumerate(table.class_names)}
    return SuspiciousLabels(
        images=len(images.names),
        scored=len(table.names),
        disagreements=table.disagreements(),
        wrong=table.estimated_wrong(),
        source=table.source,
        shown=dict(sorted(shown.items(), key=lambda item: order[item[0]])),
        confused=table.confused()[:MAX_PAIRS],
    )
