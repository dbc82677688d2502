"""No step of any trial waits for the host: each runs where no tensor has a value that could be read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.data import Dataset
from trainables.device import DeviceDataset
from trainables.mentors import MENTORS
from trainables.models import NETWORKS
from trainables.settings import MentorName, MixingRule, TrialSettings
from trainables.training import Trainer


def step_without_values(dataset: Dataset, settings: TrialSettings) -> None:
    """A step in burn-in and one after it: an .item(), a boolean mask or a shape that depends on data would raise."""
    with FakeTensorMode():
        trainer = Trainer(settings, DeviceDataset(dataset, "cpu"))
        batch_index = torch.arange(settings.batch_size)
        last_step = settings.epochs * (len(dataset.train_labels) // settings.batch_size) - 1
        for step in (0, last_step):
            assert trainer.train_step(step, batch_index).shape == (3,)


@pytest.fixture(scope="module")
def coloured_digits(noisy_digits: Dataset) -> Dataset:
    """Images of 32×32 pixels and three channels."""
    images = noisy_digits.train_images[:256]
    return dataclasses.replace(
        noisy_digits,
        train_images=np.tile(images, (1, 4, 4, 3)),
        train_labels=noisy_digits.train_labels[:256],
        train_clean_labels=None,
    )


@pytest.mark.parametrize("mentor", MENTORS)
@pytest.mark.parametrize("mixing", ["hard", "interpolated"])
@pytest.mark.parametrize("second_reweight", [False, True])
@pytest.mark.parametrize("mixup_alpha", [0.0, 2.0])
def test_no_rule_of_mentormix_waits_for_the_host(
    noisy_digits: Dataset, mentor: MentorName, mixing: MixingRule, second_reweight: bool, mixup_alpha: float
) -> None:
    settings = TrialSettings(
        mentor=mentor, mixing=mixing, second_reweight=second_reweight, mixup_alpha=mixup_alpha, epochs=10, burn_in=50
    )
    step_without_values(noisy_digits, settings)


@pytest.mark.parametrize("network", [*NETWORKS, "torchvision/mobilenet_v3_small"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_network_waits_for_the_host(coloured_digits: Dataset, network: str, precision: str) -> None:
    settings = {"network": network, "precision": precision, "augmentation": "reference", "second_reweight": True}
    step_without_values(coloured_digits, TrialSettings.model_validate(settings))
