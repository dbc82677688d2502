"""MentorMix as one would write it first: the loop that `step_time.py` compares with.

The same algorithm and the same network, out of the usual parts: torchvision's transforms in a DataLoader, NumPy for
the percentile, `torch.distributions` for partners and mixing coefficients, an average of the weights parameter by
parameter, and the loss read after every step for the log.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Beta, Categorical
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainables.settings import TrialSettings


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images [N, H, W, 3] uint8 in memory, made PIL images and transformed one at a time, as torchvision does it."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.images = images
        self.labels = labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=2),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class StraightforwardLoop:
    """Trains a network after burn-in, with the mentor `threshold` and the hard rule of mixing."""

    def __init__(
        self, settings: TrialSettings, network: nn.Module, loader: DataLoader[tuple[Tensor, int]], num_classes: int
    ) -> None:
        """Take over `network`, which lies on the device to train on."""
        self.settings = settings
        self.network = network
        self.num_classes = num_classes
        self.device = next(network.parameters()).device
        self.batches = self._endless(loader)
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=settings.learning_rate, momentum=0.9, weight_decay=settings.weight_decay
        )
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999))  # type: ignore[no-untyped-call]
        self.loss_average = 0.0
        self.last_loss = 0.0

    def step(self) -> None:
        """One batch."""
        images, labels = next(self.batches)
        images, labels = images.to(self.device), labels.to(self.device)

        with torch.no_grad():
            losses = cross_entropy(self.network(images), labels, reduction="none")
        percentile = np.percentile(losses.cpu().numpy(), 100 * self.settings.loss_p_percentile)
        self.loss_average = 0.5 * self.loss_average + 0.5 * float(percentile)
        weights = (losses <= self.loss_average).float()

        partner_index = Categorical(weights.softmax(dim=0)).sample(labels.shape)  # type: ignore[no-untyped-call]
        beta = Beta(self.settings.mixup_alpha, self.settings.mixup_alpha)
        coefficients = beta.sample(labels.shape).to(self.device)
        coefficients = torch.maximum(coefficients, 1 - coefficients)
        coefficients = torch.where(weights >= 0.5, coefficients, 1 - coefficients)
        image_coefficients = coefficients.view(-1, 1, 1, 1)
        mixed = image_coefficients * images + (1 - image_coefficients) * images[partner_index]
        targets = one_hot(labels, self.num_classes).float()
        mixed_targets = coefficients[:, None] * targets + (1 - coefficients[:, None]) * targets[partner_index]

        loss = cross_entropy(self.network(mixed), mixed_targets)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.last_loss = loss.item()

    @staticmethod
    def _endless(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader
