"""Twelve families of timm and torchvision train and resume like the project's own networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.data import Dataset
from trainables.device import DeviceDataset
from trainables.settings import TrialSettings
from trainables.training import Trainer

pytest.importorskip("timm")
FAMILIES = [
    *("timm/convnext_atto", "timm/efficientnet_lite0", "timm/ghostnet_050", "timm/mobilenetv3_small_050"),
    *("timm/regnetx_002", "timm/resnet10t", "timm/vit_tiny_patch16_224", "timm/test_mambaout"),
    *("torchvision/mnasnet0_5", "torchvision/mobilenet_v3_small", "torchvision/shufflenet_v2_x0_5"),
    "torchvision/squeezenet1_1",
]
BATCH, STEPS = 4, 2


@pytest.fixture(scope="module")
def few_images(noisy_digits: Dataset) -> DeviceDataset:
    """Images for two steps in colour, of 32×32 pixels."""
    images = np.tile(noisy_digits.train_images[: STEPS * BATCH], (1, 4, 4, 3))
    few = dataclasses.replace(
        noisy_digits,
        train_images=images,
        train_labels=noisy_digits.train_labels[: STEPS * BATCH],
        train_clean_labels=None,
        validation_images=images[:BATCH],
        validation_labels=noisy_digits.train_labels[:BATCH],
        validation_clean_labels=None,
    )
    return DeviceDataset(few, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("network", FAMILIES)
def test_a_network_of_every_family_trains_and_resumes_to_the_same_weights(
    network: str, few_images: DeviceDataset, tmp_path: Path
) -> None:
    settings = TrialSettings(network=network, epochs=2, batch_size=BATCH, burn_in=0, learning_rate=0.01)
    trainer = Trainer(settings, few_images)
    before = {name: weight.detach().clone() for name, weight in trainer.network.named_parameters()}
    trainer.train_epoch()
    save_checkpoint(trainer, tmp_path)
    trainer.train_epoch()

    resumed = Trainer(settings, few_images)
    load_checkpoint(resumed, tmp_path)
    resumed.train_epoch()

    after = trainer.network.state_dict()
    assert any(not torch.equal(after[name], weight) for name, weight in before.items())
    assert all(torch.equal(weight, after[name]) for name, weight in resumed.network.state_dict().items())
