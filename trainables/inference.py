"""Trained networks in use: a classifier from a model file, and the final accuracy of a trial from its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.batches import batches_in_order
from trainables.checkpoint import load_checkpoint, local_copy
from trainables.data import Dataset
from trainables.data.sources import Labels
from trainables.data.streaming import AnyImages, ImagesOnDisk
from trainables.device import autocast, channels_last, configure_backends, find_device, images_on
from trainables.errors import MissingPackageError, ModelFileError, NetworkError
from trainables.model_file import ModelFile, read_model
from trainables.models import build_network
from trainables.settings import DeviceName, TrialSettings
from trainables.training import EVALUATION_BATCH, begin_training, normalize, to_float


class Classifier(nn.Module):
    """A network with the preprocessing of its training: uint8 images → probabilities, as the trainer evaluates it."""

    def __init__(self, model: ModelFile, threads: int, device: DeviceName = "auto") -> None:
        """Builds the network on `device`; raises ModelFileError if weights do not fit, and DeviceError.

        Sets torch's backends and CPU threads for the whole process; another number of threads than in training may
        round differently.
        """
        super().__init__()
        self.description = description = model.description
        self.device = find_device(device)
        configure_backends(self.device, model.description.precision)
        torch.set_num_threads(threads)
        settings = TrialSettings(network=description.network)
        try:
            network = build_network(settings, len(description.class_names), description.input_shape[2])
        except (NetworkError, MissingPackageError) as error:
            raise ModelFileError(str(error)) from error
        _check_fit(model.weights, network.state_dict())
        network.load_state_dict(model.weights)
        self.network = channels_last(network.to(self.device))
        self.eval()
        self._autocast = autocast(description.precision, self.device)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images [B, H, W, C] uint8 to probabilities [B, K] float32."""
        with self._autocast:
            logits: Tensor = self.network(normalize(to_float(images)))
        return logits.float().softmax(dim=1)

    @torch.no_grad()
    def classify(self, images: AnyImages) -> NDArray[np.float32]:
        """Maps images [N, H, W, C] uint8 to probabilities [N, K], in batches, each of which is sent to the device."""
        at_hand = images if isinstance(images, ImagesOnDisk) else torch.from_numpy(images)
        batches = batches_in_order(at_hand, EVALUATION_BATCH, self.device, torch.get_num_threads())
        probabilities = [self(batch.to(self.device)).cpu() for batch in batches]
        return np.asarray(torch.cat(probabilities).numpy(), dtype=np.float32)


def load_classifier(path: Path, threads: int, device: DeviceName = "auto") -> Classifier:
    """Reads a model file and builds its classifier; raises ModelFileError with the path, DeviceError as it does."""
    model = read_model(path)
    try:
        return Classifier(model, threads, device)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def final_accuracy(
    config: dict[str, Any],
    dataset: Dataset,
    checkpoint: str | None,
    images: AnyImages,
    labels: Labels,
    threads: int,
    fold: int = 0,
    device: DeviceName = "auto",
) -> float:
    """Measures the accuracy, 0 … 1, of the weights a trial ends with, averaged as they are for validation.

    `config` are the fields of `TrialSettings`, `fold` the one of the dataset that the trial held out, `checkpoint` is
    the folder or URI of the trial's newest checkpoint, if it has one. Epochs that it lacks, because the driver died
    between the last report and the last checkpoint, are trained again: on a CPU they end in the same weights. Raises
    CheckpointError if it does not fit the trial.
    """
    trainer = begin_training(TrialSettings(**config), dataset.fold(fold), threads, device)
    if checkpoint is not None:
        with local_copy(checkpoint) as folder:
            load_checkpoint(trainer, folder)
    while trainer.epoch < trainer.settings.epochs:
        trainer.train_epoch()
    place = trainer.data.device
    return trainer.evaluate(images_on(place, images), torch.tensor(labels, device=place)).accuracy


def _check_fit(weights: dict[str, Tensor], network: dict[str, Tensor]) -> None:
    """Raises ModelFileError if weights are missing, unknown, not finite, or of another shape or type."""
    missing, foreign = sorted(network.keys() - weights.keys()), sorted(weights.keys() - network.keys())
    if missing or foreign:
        problem = f"{missing[0]} is missing" if missing else f"{foreign[0]} is none of its"
        raise ModelFileError(f"the weights are not those of the network: {problem}")
    for name, weight in weights.items():
        kind, expected = _kind(weight), _kind(network[name])
        if kind != expected:
            raise ModelFileError(f"the weights are not those of the network: {name} is {kind}, not {expected}")
        if not weight.isfinite().all():
            raise ModelFileError(f"the weights are damaged: {name} holds values that are not finite")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
