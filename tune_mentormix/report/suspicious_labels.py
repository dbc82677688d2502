"""The labels that are probably wrong, as pictures: as a section of the report, and as a page of their own.

The section has images that the networks were not trained on, since it is made without a network. The page shows a
whole table of labels.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from trainables.settings import DataSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import templates_of
from tune_mentormix.report.thumbnails import thumbnail
from tune_mentormix.results.suspicious_labels import LabelTable, held_out_predictions, images_of, write_file
from tune_mentormix.storage.paths import StorageError

MAX_SHOWN = 60  # images in the report
MAX_ON_PAGE = 400  # images, the most suspicious; as many are shared by the classes, so that each has some
MAX_PAIRS = 10  # of classes that are confused
MAX_BYTES = 1_000_000_000  # of images that a report reads: it should not need the memory of a search
CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


@dataclass(frozen=True)
class SuspiciousImage:
    """One image with both labels."""

    name: str
    given: str
    suggested: str
    score: float
    rank: int
    out_of_fold: bool
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
    except StorageError as error:
        return f"What the networks answered about the images is not readable here: {error}"
    if len(table.names):
        return _section(table)
    if experiment.labels_kind == "clean":
        return "The validation labels are clean, so no image was held out whose label may be wrong"
    return "No probabilities of held-out images are left"


def _would_download(data: DataSettings) -> str | None:
    """Returns why the images cannot be read without a download, which a report should not start."""
    if data.dataset not in CIFAR_FOLDERS:
        return None
    folder: Path = data.data_dir or data.cache_dir.expanduser()
    missing = not (folder / CIFAR_FOLDERS[data.dataset]).is_dir()
    return f"The images cannot be read here: {data.dataset} is not in {folder}" if missing else None


def _section(table: LabelTable) -> SuspiciousLabels:
    shown: dict[str, list[SuspiciousImage]] = {}
    for row in range(min(MAX_SHOWN, table.disagreements())):
        image = _image(table, row)
        shown.setdefault(image.given, []).append(image)
    order = {name: number for number, name in enumerate(table.class_names)}
    return SuspiciousLabels(
        images=len(table.images.names),
        scored=len(table.names),
        disagreements=table.disagreements(),
        wrong=table.estimated_wrong(),
        source=table.source,
        shown=dict(sorted(shown.items(), key=lambda item: order[item[0]])),
        confused=table.confused()[:MAX_PAIRS],
    )


def write_labels_page(table: LabelTable, name: str, out: Path, csv: Path | None = None) -> None:
    """Writes one HTML page of the most suspicious labels of `name`, a search or an export.

    `csv` is the file of all rows, to which the page links by its relative path. Raises RequestError if the page
    cannot be written.
    """
    shown = [_image(table, row) for row in _rows_on_page(table)]
    counts = Counter(image.given for image in shown)
    environment = templates_of("tune_mentormix.report")
    assert environment.loader
    page = environment.get_template("labels_page.html").render(
        style=Markup(environment.loader.get_source(environment, "style.css")[0]),
        name=name,
        table=table,
        held_out=int(table.out_of_fold.sum()),
        wrong=table.estimated_wrong(),
        confused=table.confused()[:MAX_PAIRS],
        shown=shown,
        classes=[(number, given, counts[given]) for number, given in enumerate(table.class_names) if counts[given]],
        numbers={given: number for number, given in enumerate(table.class_names)},
        csv=csv,
        csv_link=csv and quote(Path(os.path.relpath(csv, out.parent)).as_posix()),
    )
    write_file(out, page.lstrip(), "--page")


def _rows_on_page(table: LabelTable) -> list[int]:
    """Returns the rows of the most suspicious images, and of the most suspicious of each given class, in order."""
    of_class: Counter[int] = Counter()
    share, rows = MAX_ON_PAGE // len(table.class_names), []
    for row in range(table.disagreements()):
        given = int(table.given[row])
        if row < MAX_ON_PAGE or of_class[given] < share:
            rows.append(row)
        of_class[given] += 1
    return rows


def _image(table: LabelTable, row: int) -> SuspiciousImage:
    return SuspiciousImage(
        name=table.names[row],
        given=table.class_names[table.given[row]],
        suggested=table.class_names[table.suggested[row]],
        score=float(table.scores[row]),
        rank=row + 1,
        out_of_fold=bool(table.out_of_fold[row]),
        src=thumbnail(table.images.image(int(table.positions[row]))),
    )
