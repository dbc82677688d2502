"""A dataset on the device where it is trained on: copied once, as uint8, and shared by the trials of a process."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.datasets import Dataset


class DeviceDataset:
    """The tensors of a `Dataset`, all on one device.

    Attributes:
        device: where everything lies.
        num_classes: K.
        train_images: [N, H, W, C] uint8.
        train_labels: [N] int64, as given: noisy.
        validation_images: [M, H, W, C] uint8.
        validation_labels: [M] int64.
        is_clean: [N] float32, 1 where the training label is the clean one; None where that is unknown.
    """

    def __init__(self, dataset: Dataset, device: torch.device | str) -> None:
        """Copy `dataset`, whose arrays may be read-only views, to `device`."""
        self.device = torch.device(device)
        self.num_classes = len(dataset.class_names)
        self.train_images = self._copy(dataset.train_images)
        self.train_labels = self._copy(dataset.train_labels)
        self.validation_images = self._copy(dataset.validation_images)
        self.validation_labels = self._copy(dataset.validation_labels)
        self.is_clean: Tensor | None = None
        if dataset.train_clean_labels is not None:
            self.is_clean = (self.train_labels == self._copy(dataset.train_clean_labels)).float()

    @property
    def in_channels(self) -> int:
        """C."""
        return self.train_images.shape[3]

    def _copy(self, array: NDArray[np.uint8] | NDArray[np.int64]) -> Tensor:
        return torch.tensor(array, device=self.device)
