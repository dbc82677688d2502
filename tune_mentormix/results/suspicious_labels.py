"""Which labels are wrong: every training image with its given label and what networks make of it.

The probabilities of runs that held an image out come from their checkpoints, so that reading them needs no torch;
`export.predictions` fills in the others with one pass over the images. The files for people, for cleanlab and for the
next search are written here.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data import Dataset, ImageNames, load_named_dataset
from trainables.data.labels import GIVEN_COLUMN, IMAGE_COLUMN, LABEL_COLUMN
from trainables.data.streaming import AnyImages
from trainables.errors import DatasetError, one_line
from trainables.files import write_atomically
from trainables.settings import DataSettings
from tune_mentormix.config.settings import with_storage
from tune_mentormix.config.validation import with_moved_files
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import example_weights, validation_probabilities
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.confirmation import read_confirmation
from tune_mentormix.results.label_quality import estimate_noise, label_scores, own_probabilities
from tune_mentormix.results.trial_table import data_frame

if TYPE_CHECKING:
    import pandas as pd

Fix = Literal["replace", "drop"]
COLUMNS = (IMAGE_COLUMN, GIVEN_COLUMN, "suggested", "p_given", "score", "rank", "out_of_fold")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # of cells that a spreadsheet takes for a formula


@dataclass(frozen=True)
class TrainingImages:
    """The images that a dataset trains on in some fold, in one order: those of training, then those of validation."""

    parts: tuple[AnyImages, ...]  # [N, H, W, C] each; without `validation` where that is separate and clean
    names: tuple[str, ...]  # paths below data_dir, or positions
    given: NDArray[np.int64]  # [N], as they were labelled
    clean: NDArray[np.int64] | None  # [N] where known; to measure with
    dataset: Dataset

    @classmethod
    def of(cls, dataset: Dataset, names: ImageNames, is_validation_separate: bool) -> TrainingImages:
        """Returns the images of a dataset; validation images with clean labels of their own are not among them."""
        train, given, clean = dataset.train_images, dataset.train_labels, dataset.train_clean_labels
        if is_validation_separate:
            return cls((train,), names.train, given, clean, dataset)
        clean = None
        if dataset.train_clean_labels is not None and dataset.validation_clean_labels is not None:
            clean = np.concatenate([dataset.train_clean_labels, dataset.validation_clean_labels])
        given = np.concatenate([given, dataset.validation_given_labels])
        return cls((train, dataset.validation_images), names.train + names.validation, given, clean, dataset)

    def image(self, position: int) -> NDArray[np.uint8]:
        """Returns one image [H, W, C]."""
        part, first = self.parts[0], len(self.parts[0])
        if position >= first:
            part, position = self.parts[1], position - first
        image: NDArray[np.uint8] = part[position]
        return image

    def held_out(self, trial: Trial) -> NDArray[np.int64]:
        """Returns the positions of the images that a trial validates on; none where those are separate."""
        positions = self.dataset.held_out_positions(trial.fold or 0)
        return positions[positions < len(self.names)]

    def trained_on(self, trial: Trial) -> NDArray[np.int64]:
        """Returns the positions of the images that a trial trains on, in its order."""
        return np.setdiff1d(np.arange(len(self.names)), self.held_out(trial))


def load_training_images(data: DataSettings, fingerprint: str, whose: str) -> TrainingImages:
    """Loads the images that `whose` network was trained on. Raises RequestError if they are missing or changed."""
    try:
        dataset, names = load_named_dataset(data)
    except DatasetError as error:
        raise RequestError(f"{error} (has it moved? --data-dir, --labels-file)") from error
    if fingerprint and dataset.fingerprint != fingerprint:
        raise RequestError(
            f"the images or labels are not those that {whose} was trained on (their fingerprints differ): "
            "give those (--data-dir, --labels-file), or search again"
        )
    return TrainingImages.of(dataset, names, data.has_separate_validation)


def images_of(experiment: Experiment, moved: Mapping[str, Path | None] | None = None) -> TrainingImages:
    """Loads the images of a search; its files may have moved. Raises RequestError if they are missing or changed."""
    data = with_moved_files(experiment.settings.data_settings(), moved or {})
    return load_training_images(data, experiment.provenance.dataset.fingerprint, experiment.name)


@dataclass(frozen=True)
class Predictions:
    """What networks make of each training image."""

    probabilities: NDArray[np.float32]  # [N, K]; 0 where not known
    is_known: NDArray[np.bool_]  # [N]
    out_of_fold: NDArray[np.bool_]  # [N] whether by networks that were not trained on the image
    source: str  # which networks, in words
    weights: NDArray[np.float32] | None = None
    """[N] the mean that the mentor gave each image, in networks that were trained on it; NaN where not known."""


def held_out_predictions(experiment: Experiment, images: TrainingImages) -> Predictions:
    """Returns what the runs of the confirmation's winner computed for the images, whether held out or trained on.

    It is averaged over these runs; before there is a winner, over those of the leader. Without a confirmation it is
    what the best trial computed. Raises RequestError if no trial ran to its end.
    """
    return average_held_out(*best_runs(experiment), images)


def best_runs(experiment: Experiment) -> tuple[Experiment, list[Trial], str]:
    """Returns the finished runs of the confirmation's winner (or leader), else the best trial that ran to its end.

    With them come the experiment that they belong to, and what they are in words. Raises RequestError without any.
    """
    confirmation = read_confirmation(experiment)
    leader = (confirmation.winner() or next(iter(confirmation.ranking()), None)) if confirmation else None
    if confirmation and leader:
        runs = [run for run in confirmation.runs_of(leader).values() if run.state == "finished"]
        return confirmation.runs, runs, f"{len(runs)} confirmation runs of {leader.in_a_sentence}"
    ranked = experiment.ranked_trials()
    if not ranked:
        status = with_storage(f"status {experiment.name}", experiment.path.parent)
        raise RequestError(
            f"{experiment.name} has no trial that ran to the end yet, so nothing is known of its labels: see {status}"
        )
    return experiment, ranked[:1], f"trial {ranked[0].number}"


def average_held_out(
    experiment: Experiment, runs: Sequence[Trial], source: str, images: TrainingImages
) -> Predictions:
    """Averages the probabilities for images that runs of an experiment held out, and the weights of the others."""
    weight_sums, weight_counts = np.zeros((2, len(images.names)), dtype=np.float32)
    total = np.zeros((len(images.names), len(images.dataset.class_names)), dtype=np.float32)
    count = np.zeros(len(images.names), dtype=np.int64)
    for run in runs:
        held_out, probabilities = images.held_out(run), validation_probabilities(experiment, run)
        if probabilities is not None and probabilities.shape == (len(held_out), total.shape[1]):
            total[held_out] += probabilities
            count[held_out] += 1
        trained_on, weights = images.trained_on(run), example_weights(experiment, run)
        if weights is not None and weights.shape == trained_on.shape:
            is_weighted = np.isfinite(weights)
            weight_sums[trained_on] += np.where(is_weighted, weights, 0)
            weight_counts[trained_on] += is_weighted
    total /= np.maximum(count, 1)[:, None]
    mean_weights = np.where(weight_counts > 0, weight_sums / np.maximum(weight_counts, 1), np.float32(np.nan))
    return Predictions(total, count > 0, count > 0, source, mean_weights)


@dataclass(frozen=True)
class Correction:
    """What a file of corrected labels changed."""

    images: int  # in the file
    replaced: int
    dropped: int
    in_sample: int  # of those replaced or dropped, scored by networks that were trained on them
    text: str  # of the file

    def write(self, path: Path) -> None:
        """Writes the label file. Raises RequestError if that is impossible."""
        write_file(path, self.text, "--write")


@dataclass(frozen=True)
class LabelTable:
    """The training images with a prediction, the most suspicious label first."""

    images: TrainingImages
    positions: NDArray[np.int64]  # [N] in `images`
    names: tuple[str, ...]  # N
    class_names: tuple[str, ...]  # K
    given: NDArray[np.int64]  # [N]
    suggested: NDArray[np.int64]  # [N] the most probable class
    p_given: NDArray[np.floating]  # [N]
    scores: NDArray[np.float32]  # [N] in [0, 1]
    probabilities: NDArray[np.float32]  # [N, K]
    out_of_fold: NDArray[np.bool_]  # [N]
    source: str  # which networks, in words

    @classmethod
    def of(cls, images: TrainingImages, predictions: Predictions) -> LabelTable:
        """Scores the labels and orders them; images that are equally suspicious stay in their order."""
        known = np.flatnonzero(predictions.is_known)
        weights = None if predictions.weights is None else predictions.weights[known]
        scores = label_scores(images.given[known], predictions.probabilities[known], weights)
        order = np.argsort(-scores, kind="stable")
        positions = known[order]
        probabilities, given = predictions.probabilities[positions], images.given[positions]
        return cls(
            images=images,
            positions=positions,
            names=tuple(images.names[position] for position in positions),
            class_names=images.dataset.class_names,
            given=given,
            suggested=probabilities.argmax(axis=1),
            p_given=own_probabilities(given, probabilities),
            scores=scores[order],
            probabilities=probabilities,
            out_of_fold=predictions.out_of_fold[positions],
            source=predictions.source,
        )

    def rows(self, count: int | None = None) -> list[tuple[str, str, str, str, str, int, str]]:
        """Returns the rows of `labels.csv`, or the first of them, in the order of `COLUMNS`."""
        shown = range(len(self.names) if count is None else min(count, len(self.names)))
        return [
            (
                self.names[row],
                self.class_names[self.given[row]],
                self.class_names[self.suggested[row]],
                f"{self.p_given[row]:.6g}",
                f"{self.scores[row]:.6g}",
                row + 1,
                str(bool(self.out_of_fold[row])).lower(),
            )
            for row in shown
        ]

    def frame(self) -> pd.DataFrame:
        """Returns the rows of `labels.csv` as a data frame, the most suspicious first. Needs pandas."""
        names = np.asarray(self.class_names)
        ranks = range(1, len(self.names) + 1)
        cells = (self.names, names[self.given], names[self.suggested], self.p_given, self.scores, ranks)
        return data_frame(COLUMNS, list(zip(*cells, self.out_of_fold, strict=True)))

    def disagreements(self) -> int:
        """Counts the images for which another class is more probable than the given one."""
        return int((self.given != self.suggested).sum())

    def estimated_wrong(self) -> float | None:
        """Estimates the fraction of labels that are wrong from those scored out of fold; None without any."""
        if not self.out_of_fold.any():
            return None
        noise = estimate_noise(self.given[self.out_of_fold], self.probabilities[self.out_of_fold])
        return noise.rate if noise else None

    def confused(self) -> list[tuple[str, str, int]]:
        """Returns which given class the networks take for which other one, and for how many images, most first."""
        differ = self.given != self.suggested
        pairs = Counter(zip(self.given[differ].tolist(), self.suggested[differ].tolist(), strict=True))
        names = self.class_names
        return [(names[given], names[suggested], count) for (given, suggested), count in pairs.most_common()]

    def formula_like(self) -> int:
        """Counts the images whose name, or a class of theirs, a spreadsheet takes for a formula."""
        return sum(any(cell.startswith(FORMULA_STARTS) for cell in row[:3]) for row in self.rows())

    def worst(self, count: int | None, above: float | None) -> int:
        """Returns how many rows are the worst `count`, or have a score above the threshold; one of them is given."""
        if count is not None and above is not None:
            raise RequestError("--worst and --above are two ways to choose the labels: give one of them")
        if count is not None:
            if not 1 <= count <= len(self.names):
                raise RequestError(
                    f"worst must be in [1, {len(self.names)}], the images scored, got {count} (--worst)"
                )
            return count
        if above is None or not 0 <= above < 1:
            raise RequestError(f"above must be a score in [0, 1), got {above} (--above)")
        return int((self.scores > above).sum())

    def correct(self, fix: Fix, count: int | None = None, above: float | None = None) -> Correction:
        """Returns a label file in which the worst labels are replaced by the suggested ones, or their images dropped.

        Its rows are in the order of this table. A column `given` tells the reader of label files that the labels
        before were not the true ones; it is left out where those are known. Raises RequestError if a class would be
        left without images.
        """
        worst = self.worst(count, above)
        labels = self.given.copy()
        labels[:worst] = self.suggested[:worst]
        first = worst if fix == "drop" else 0
        emptied = set(self.given.tolist()) - set(labels[first:].tolist())
        if emptied:
            raise RequestError(
                f"class {self.class_names[min(emptied)]!r} would be left without images: {fix} fewer labels "
                "(--worst, --above)"
            )
        columns = [IMAGE_COLUMN, LABEL_COLUMN] + ([GIVEN_COLUMN] if self.images.clean is None else [])
        rows = [
            (self.names[row], self.class_names[labels[row]], self.class_names[self.given[row]])[: len(columns)]
            for row in range(first, len(labels))
        ]
        changed = self.given[:worst] != self.suggested[:worst]
        touched = ~self.out_of_fold[:worst] if fix == "drop" else changed & ~self.out_of_fold[:worst]
        return Correction(
            images=len(rows),
            replaced=0 if fix == "drop" else int(changed.sum()),
            dropped=first,
            in_sample=int(touched.sum()),
            text=csv_text(columns, rows),
        )

    def write_csv(self, path: Path) -> None:
        """Writes all rows as CSV. Raises RequestError if that is impossible."""
        write_file(path, csv_text(COLUMNS, self.rows()), "--out")

    def write_probabilities(self, path: Path) -> None:
        """Writes the probabilities [N, K] float32 in the order of the rows. Raises RequestError if impossible."""
        content = io.BytesIO()
        np.save(content, self.probabilities)
        write_file(path, content.getvalue(), "--pred-probs")


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a CSV file whose cells read back as they are.

    A name that begins as a formula does stays unchanged: any mark before it would make it the name of another image.
    """
    has_return = any("\r" in str(cell) for row in rows for cell in row)  # which the writer would not quote
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def write_file(path: Path, content: bytes | str, option: str) -> None:
    """Writes a file as a whole. Raises RequestError if that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {one_line(error)} ({option})") from error
