"""A network read back from its file classifies as the trainer that trained it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.checkpoint import read_weights, save_checkpoint
from trainables.data import Dataset
from trainables.device import DeviceDataset
from trainables.inference import Classifier, load_classifier
from trainables.metrics import measure
from trainables.model_file import ModelDescription, ModelFile, write_model
from trainables.onnx_export import TOLERANCE, write_onnx
from trainables.settings import TrialSettings
from trainables.training import Trainer

EPOCHS = 2


@pytest.fixture(scope="module")
def trainer(data: DeviceDataset) -> Trainer:
    trainer = Trainer(TrialSettings(epochs=EPOCHS), data)
    for _ in range(EPOCHS):
        trainer.train_epoch()
    return trainer


@pytest.fixture(scope="module")
def model(trainer: Trainer, noisy_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """What a checkpoint of the trainer holds."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(trainer, folder)
    description = ModelDescription(
        network="small_cnn",
        class_names=noisy_digits.class_names,
        input_shape=(8, 8, 1),
        precision=trainer.settings.precision,
        epoch=EPOCHS,
    )
    return ModelFile(description, read_weights(folder).weights)


def test_the_accuracy_is_the_trainers_to_the_last_digit(
    model: ModelFile, trainer: Trainer, noisy_digits: Dataset, tmp_path: Path
) -> None:
    write_model(tmp_path / "model.safetensors", model)
    classifier = load_classifier(tmp_path / "model.safetensors", 1)

    probabilities = classifier.classify(noisy_digits.validation_images)

    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert measure(probabilities, noisy_digits.validation_labels).accuracy == trainer.metrics["val_accuracy"]


def test_images_are_classified_one_by_one_as_in_a_batch(model: ModelFile, noisy_digits: Dataset) -> None:
    classifier = Classifier(model, 1)
    images = noisy_digits.validation_images[:3]

    one_by_one = np.concatenate([classifier.classify(images[i : i + 1]) for i in range(3)])

    np.testing.assert_allclose(one_by_one, classifier.classify(images), atol=1e-5)


def test_an_onnx_file_takes_any_number_of_images_and_predicts_what_pytorch_predicts(
    model: ModelFile, noisy_digits: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"

    assert write_onnx(path, model) <= TOLERANCE

    session = runtime.InferenceSession(path)
    (probabilities,) = session.run(None, {"images": noisy_digits.validation_images})
    expected = Classifier(model, 1).classify(noisy_digits.validation_images)
    np.testing.assert_allclose(probabilities, expected, atol=TOLERANCE)
    assert session.get_modelmeta().custom_metadata_map["class_names"].startswith('["0", "1"')
