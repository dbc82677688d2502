"""Exported weights measured on a named split of the data they were made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from trainables.classifier import Classifier, load_classifier
from trainables.datasets import Dataset, load_test_split
from trainables.errors import DatasetError, ModelFileError
from trainables.evaluation import CALIBRATION_BINS, Measurement, measure, wilson_interval
from tune_mentormix.errors import RequestError
from tune_mentormix.exported import ExportedFolder, load_exported_data
from tune_mentormix.exported_files import MODEL_FILE
from tune_mentormix.opening_record import record_measurement, record_opening

EvaluationSplit = Literal["validation", "test"]


@dataclass(frozen=True)
class ExportEvaluation:
    """What exported weights are worth on one split."""

    folder: str
    epoch: int  # after which the weights were taken
    split: EvaluationSplit
    labels: str  # noisy or clean
    class_names: tuple[str, ...]
    measurement: Measurement
    recorded_accuracy: float | None  # when they were trained, on the same images and labels; None: on others

    def as_json(self) -> dict[str, Any]:
        """What `evaluate --json` shows."""
        measured_on = {"split": self.split, "labels": self.labels}
        return {
            "folder": self.folder,
            "epoch": self.epoch,
            **measured_on,
            "images": self.measurement.images,
            "accuracy": measured_on | self.accuracy_with_interval(self.measurement.correct, self.measurement.images),
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
        """Each class's name, how many of its images were classified so, and how many it has."""
        counts = self.measurement.confusion
        return [(name, int(counts[n, n]), int(counts[n].sum())) for n, name in enumerate(self.class_names)]

    @staticmethod
    def accuracy_with_interval(correct: int, images: int) -> dict[str, Any]:
        """The share of correct ones, None for no images, with its Wilson interval."""
        return {"value": correct / images if images else None, "interval_95": list(wilson_interval(correct, images))}


def evaluate_export(exported: ExportedFolder, split: EvaluationSplit) -> ExportEvaluation:
    """Measures the weights of an exported folder.

    Before anything is measured on the test split, its opening is written down beside the weights.

    Raises:
        RequestError: if the weights do not fit their network or the data, the data are others than those of the
            search, or the split cannot be had.
    """
    try:
        classifier = load_classifier(exported.path / MODEL_FILE, exported.config.threads)
        dataset = load_exported_data(exported.config)
        _check_classes(classifier, dataset)
        if split == "validation":
            images, labels, kind = (
                dataset.validation_images,
                dataset.validation_labels,
                dataset.validation_labels_kind,
            )
            recorded = exported.model.val_accuracy
        else:
            (images, labels), kind, recorded = load_test_split(exported.config.data), "clean", None
            record_opening(exported)
        measurement = measure(classifier.classify(images), labels)
    except (DatasetError, ModelFileError) as error:
        raise RequestError(str(error)) from error
    if split == "test":
        record_measurement(exported, measurement)
    names = dataset.class_names
    return ExportEvaluation(
        str(exported.path), classifier.description.epoch, split, kind, names, measurement, recorded
    )


def _check_classes(classifier: Classifier, dataset: Dataset) -> None:
    model, images = classifier.description, dataset.train_images.shape[1:]
    if model.class_names != dataset.class_names:
        raise ModelFileError("the weights are for other classes than the data have")
    if model.input_shape != images:
        raise ModelFileError(f"the weights are for images of shape {list(model.input_shape)}, not {list(images)}")
