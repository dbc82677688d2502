"""Predictions for all training images: out of fold where runs held them out, else one pass with trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from trainables.checkpoint import local_copy, read_weights
from trainables.errors import CheckpointError, ModelFileError
from trainables.inference import Classifier, load_classifier
from trainables.model_file import ModelDescription, ModelFile
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import newest_checkpoint
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.plugins import allow_plugins_of
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.export.evaluate import check_classes
from tune_mentormix.export.manifest import MODEL_FILE
from tune_mentormix.export.read import ExportedFolder
from tune_mentormix.results.suspicious_labels import (
    LabelTable,
    Predictions,
    TrainingImages,
    best_runs,
    held_out_predictions,
    images_of,
    load_training_images,
)

IMAGES_AT_ONCE = 4_096  # copied out of the data for the network


def suspicious_labels(
    found: Experiment | ExportedFolder, moved: Mapping[str, Path | None] | None = None
) -> LabelTable:
    """Scores the label of every training image of a search, or of the one whose best was exported into a folder.

    After a confirmation each score is of networks that were not trained on the image. Without one, for folds that no
    run held out and by exported weights, one pass classifies the images with weights that were trained on most of
    them. `moved` are the present places of a search's files, as in `with_moved_files`. Raises RequestError if no
    trial ran to its end, or data or weights are missing, changed, or do not fit each other.
    """
    return _by_export(found) if isinstance(found, ExportedFolder) else _by_search(found, moved or {})


def _by_search(experiment: Experiment, moved: Mapping[str, Path | None]) -> LabelTable:
    runs, finished, _ = best_runs(experiment)  # refused before the data are loaded
    allow_plugins_of(experiment)
    images = images_of(experiment, moved)
    predictions = held_out_predictions(experiment, images)
    if not predictions.is_known.all():
        try:
            classifier = _classifier(runs, finished[0], images, experiment.settings.threads())
        except (CheckpointError, ModelFileError, ValidationError) as error:
            raise RequestError(
                f"the weights of {experiment.name} cannot be used to classify its training images: {error}"
            ) from error
        predictions = _complete(predictions, images, classifier, images.held_out(finished[0]))
    return LabelTable.of(images, predictions)


def by_weights(experiment: Experiment, trial: Trial, images: TrainingImages) -> Predictions:
    """Classifies all training images with the weights of a trial's newest checkpoint, in one pass.

    Raises CheckpointError if there is none.
    """
    classifier = _classifier(experiment, trial, images, experiment.settings.threads())
    return _complete(_unknown(images, f"trial {trial.number}"), images, classifier, images.held_out(trial))


def _unknown(images: TrainingImages, source: str) -> Predictions:
    count, classes = len(images.names), len(images.dataset.class_names)
    none = np.zeros(count, dtype=np.bool_)
    return Predictions(np.zeros((count, classes), np.float32), none, none, source)


def _by_export(exported: ExportedFolder) -> LabelTable:
    """Scores the label of every training image by exported weights, in one pass.

    Out of fold are only the validation images, and none if the weights were trained on all images.
    """
    config = exported.config
    images = load_training_images(config.data, config.fingerprint, str(exported.path))
    try:
        classifier = load_classifier(exported.path / MODEL_FILE, config.threads)
        check_classes(classifier, images.dataset)
    except ModelFileError as error:
        raise RequestError(str(error)) from error
    unknown = _unknown(images, f"the weights in {exported.path}")
    is_split = exported.model.trained_on == "training split"
    held_out = images.held_out(Trial(0, {})) if is_split else np.zeros(0, dtype=np.int64)
    return LabelTable.of(images, _complete(unknown, images, classifier, held_out))


def _classifier(experiment: Experiment, trial: Trial, images: TrainingImages, threads: int) -> Classifier:
    """Returns the network of a trial as its newest checkpoint holds it; raises CheckpointError if there is none."""
    folder = newest_checkpoint(experiment, trial)
    if folder is None:
        raise CheckpointError(f"trial {trial.number} has no whole checkpoint")
    with local_copy(folder) as local:
        trained = read_weights(local)
    height, width, channels = images.parts[0].shape[1:]
    description = ModelDescription(
        network=trial.config["network"],
        class_names=images.dataset.class_names,
        input_shape=(height, width, channels),
        precision=trial.config["precision"],
        epoch=trained.epoch,
    )
    return Classifier(ModelFile(description, trained.weights), threads)


def _complete(
    known: Predictions, images: TrainingImages, classifier: Classifier, held_out: NDArray[np.int64]
) -> Predictions:
    """Classifies the images without a prediction, in one pass; `held_out` are those the network did not train on."""
    probabilities, first = known.probabilities.copy(), 0
    for part in images.parts:
        missing = np.flatnonzero(~known.is_known[first : first + len(part)])
        for start in range(0, len(missing), IMAGES_AT_ONCE):
            chunk = missing[start : start + IMAGES_AT_ONCE]
            probabilities[first + chunk] = classifier.classify(part[chunk])
        first += len(part)
    is_held_out = np.isin(np.arange(len(images.names)), held_out)
    return Predictions(
        probabilities,
        np.ones_like(known.is_known),
        known.out_of_fold | (is_held_out & ~known.is_known),
        known.source,
        known.weights,
    )
