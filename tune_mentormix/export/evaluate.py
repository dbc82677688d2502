"""Evaluates exported weights on a split of their data, or applies them to image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from trainables.data import Dataset, load_test_split
from trainables.data.image_folder import IMAGE_SUFFIXES, read_image
from trainables.errors import DatasetError, DeviceError, ModelFileError
from trainables.inference import Classifier, load_classifier
from trainables.metrics import CALIBRATION_BINS, Measurement, measure, wilson_interval
from trainables.settings import DeviceName
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.schemas import CleanEstimate
from tune_mentormix.export.manifest import MODEL_FILE
from tune_mentormix.export.read import ExportedFolder, load_exported_data
from tune_mentormix.results.clean_terms import clean_estimate_of_predictions
from tune_mentormix.results.evaluation_log import record_evaluation, record_results
from tune_mentormix.storage.arrays import as_images
from tune_mentormix.storage.listing import sizes_below

EvaluationSplit = Literal["validation", "test"]


@dataclass(frozen=True)
class ExportEvaluation:
    """The measurement of exported weights on one split."""

    folder: str
    epoch: int  # after which the weights were taken
    split: EvaluationSplit
    labels: str  # noisy or clean
    class_names: tuple[str, ...]
    measurement: Measurement
    recorded_accuracy: float | None  # in training, on the same images and labels; None: it was on other ones
    clean_estimate: CleanEstimate | None = None  # what the accuracy is on clean labels, where these are noisy

    def as_json(self) -> dict[str, Any]:
        """Returns what `evaluate --json` shows."""
        measured_on = {"split": self.split, "labels": self.labels}
        return {
            "folder": self.folder,
            "epoch": self.epoch,
            **measured_on,
            "images": self.measurement.images,
            "accuracy": measured_on | self.accuracy_with_interval(self.measurement.correct, self.measurement.images),
            "metrics": [
                measured_on | {"metric": name, "value": value}
                for name, value in self.measurement.other_metrics.items()
            ],
            "clean_estimate": self.clean_estimate,
            "recorded_accuracy": self.recorded_accuracy,
            "per_class": [
                measured_on | {"class": name, "images": images, **self.accuracy_with_interval(correct, images)}
                for name, correct, images in self.by_class()
            ],
            "confusion": measured_on | {"rows": "label", "counts": self.measurement.confusion.tolist()},
            "calibration_error": measured_on
            | {"expected": self.measurement.calibration_error, "bins": CALIBRATION_BINS},
        }

    def by_class(self) -> list[tuple[str, int, int]]:
        """Returns for each class its name, its correctly classified images, and all its images."""
        counts = self.measurement.confusion
        return [(name, int(counts[n, n]), int(counts[n].sum())) for n, name in enumerate(self.class_names)]

    @staticmethod
    def accuracy_with_interval(correct: int, images: int) -> dict[str, Any]:
        """Returns the accuracy, None without images, with its Wilson interval."""
        return {"value": correct / images if images else None, "interval_95": list(wilson_interval(correct, images))}


def evaluate_export(
    exported: ExportedFolder, split: EvaluationSplit, device: DeviceName = "auto"
) -> ExportEvaluation:
    """Evaluates the weights of an exported folder; on the test split, its log is written before anything is measured.

    Raises RequestError if the weights do not fit or were trained on that split, the data are others than the
    search's, or there is no such split or device.
    """
    if split == "validation" and exported.model.trained_on == "all images":
        raise RequestError(
            f"the weights in {exported.path} were trained on all images, those of the validation split too: no "
            "validation accuracy exists for them; --split test measures them on the test set"
        )
    try:
        classifier = load_classifier(exported.path / MODEL_FILE, exported.config.threads, device)
        dataset = load_exported_data(exported.config)
        check_classes(classifier, dataset)
        if split == "validation":
            images, labels = dataset.validation_images, dataset.validation_labels
            kind, recorded = dataset.validation_labels_kind, exported.model.val_accuracy
        else:
            (images, labels), kind, recorded = load_test_split(exported.config.data), "clean", None
            about = {"trained_on": dataset.fingerprint, "model_sha256": exported.model_sha256}
            seeds = {"model": [exported.config.config.seed]}
            evaluation = record_evaluation(exported.path, seeds, images=len(labels), **about)
        probabilities = classifier.classify(images)
        measurement = measure(probabilities, labels)
    except (DatasetError, DeviceError, ModelFileError) as error:
        raise RequestError(str(error)) from error
    if split == "test":
        accuracy = {str(exported.config.config.seed): measurement.accuracy}
        record_results(exported.path, evaluation, {"model": accuracy})
    names, epoch = dataset.class_names, classifier.description.epoch
    is_noisy = kind == "noisy"
    clean = clean_estimate_of_predictions(exported.config.data, labels, probabilities) if is_noisy else None
    return ExportEvaluation(str(exported.path), epoch, split, kind, names, measurement, recorded, clean)


def check_classes(classifier: Classifier, dataset: Dataset) -> None:
    """Raises ModelFileError if the weights are for other classes, or images of another shape, than the data have."""
    model, images = classifier.description, dataset.train_images.shape[1:]
    if model.class_names != dataset.class_names:
        own, data = model.class_names, dataset.class_names
        differing = next((f"{a}, not {b}" for a, b in zip(own, data, strict=False) if a != b), "")
        found = f"such as {differing}" if differing else f"{len(own)}, not {len(data)}"
        raise ModelFileError(f"the weights are for other classes than the data have, {found}: give their own data")
    if model.input_shape != images:
        shapes = f"of shape {list(model.input_shape)}, the data's are {list(images)}"
        raise ModelFileError(f"the weights are for images {shapes}: give their own data")


class Prediction(BaseModel):
    """The most probable classes of one image."""

    image: str
    label: str
    probability: float  # of that label
    top: list[tuple[str, float]]  # the most probable labels with their probabilities, `label` first


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Returns files, and for a folder the sorted image files below it.

    Raises RequestError if it has none, or a folder below it cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        below = [path]
        if path.is_dir():
            below = [path / name for name in sizes_below(path) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if not below:
            raise RequestError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        found += sorted(below)
    return found


PREDICTION_BATCH = 256  # images that are in memory at the same time


def predict_images(
    exported: ExportedFolder, paths: Sequence[Path], top_k: int = 1, device: DeviceName = "auto"
) -> Iterator[Prediction]:
    """Classifies image files in batches, in their order; each prediction has the `top_k` most probable labels.

    Images are converted to RGB or grey, resized to cover the network's input, and cropped to its centre.
    Raises RequestError at once if the weights do not fit their network or have fewer classes than `top_k`, and while
    it is iterated over if a file is no image.
    """
    classifier = load_exported_classifier(exported, device)
    classes = len(classifier.description.class_names)
    if not 1 <= top_k <= classes:
        raise RequestError(
            f"top_k must be a whole number in [1, {classes}], the number of classes, got {top_k} (--top-k)"
        )
    return _predictions(classifier, paths, top_k)


def _predictions(classifier: Classifier, paths: Sequence[Path], top_k: int) -> Iterator[Prediction]:
    names = classifier.description.class_names
    for batch in _batches(paths):
        for path, row in zip(batch, classify_files(classifier, batch), strict=True):
            best = np.argsort(-row, kind="stable")[:top_k]
            top = [(names[index], float(row[index])) for index in best]
            yield Prediction(image=str(path), label=top[0][0], probability=top[0][1], top=top)


def load_exported_classifier(exported: ExportedFolder, device: DeviceName = "auto") -> Classifier:
    """Loads exported weights. Raises RequestError if they do not fit their network, or there is no such device."""
    try:
        return load_classifier(exported.path / MODEL_FILE, exported.config.threads, device)
    except (DeviceError, ModelFileError) as error:
        raise RequestError(str(error)) from error


def classify_files(classifier: Classifier, paths: Sequence[Path]) -> NDArray[np.float32]:
    """Returns the probabilities [N, K] of image files, fitted to the network's input; RequestError if one is none."""
    height, width, channels = classifier.description.input_shape
    try:
        found = [
            classifier.classify(np.stack([read_image(path, (height, width), channels) for path in batch]))
            for batch in _batches(paths)
        ]
    except DatasetError as error:
        raise RequestError(str(error)) from error
    return np.concatenate(found)


def classify_arrays(classifier: Classifier, images: Any) -> NDArray[np.float32]:
    """Returns the probabilities [N, K] of images that `as_images` takes. Raises RequestError if they do not fit."""
    converted, expected = as_images(images), classifier.description.input_shape
    if converted.shape[1:] != expected:
        raise RequestError(
            f"images must have the shape of those the network was trained on, {list(expected)}, got "
            f"{list(converted.shape[1:])}"
        )
    return classifier.classify(converted)


def _batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    return (paths[start : start + PREDICTION_BATCH] for start in range(0, len(paths), PREDICTION_BATCH))
