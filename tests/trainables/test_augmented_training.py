"""Trials that augment their images keep every promise of those that do not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.augment import AUGMENTATIONS
from trainables.data import Dataset
from trainables.device import DeviceDataset
from trainables.settings import AugmentationName, TrialSettings
from trainables.training import Trainer


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_trial_that_augments_resumes_from_its_state_like_one_never_stopped(
    augmentation: AugmentationName, data: DeviceDataset
) -> None:
    settings = TrialSettings(augmentation=augmentation, epochs=3, burn_in=0)
    whole = Trainer(settings, data)
    whole.train_epoch()
    resumed = Trainer(settings, data)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))

    for trainer in (whole, resumed):
        trainer.train_epoch()
        trainer.train_epoch()

    assert resumed.metrics["train_loss"] == whole.metrics["train_loss"]
    assert all(torch.equal(value, resumed.weights()[name]) for name, value in whole.weights().items())


def test_augmentation_changes_what_is_trained_on_and_not_what_is_evaluated(data: DeviceDataset) -> None:
    plain, augmented = (
        Trainer(TrialSettings(augmentation=augmentation, epochs=1), data) for augmentation in ("none", "cutout")
    )

    images, labels = data.validation_images, data.validation_labels
    evaluations = plain.evaluate(images, labels), augmented.evaluate(images, labels)
    assert evaluations[0][:2] == evaluations[1][:2]
    assert torch.equal(evaluations[0].probabilities, evaluations[1].probabilities)
    assert plain.train_epoch()["train_loss"] != augmented.train_epoch()["train_loss"]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_step_that_augments_reads_no_tensor_on_the_host(
    augmentation: AugmentationName, noisy_digits: Dataset
) -> None:
    with FakeTensorMode():
        trainer = Trainer(TrialSettings(augmentation=augmentation, epochs=10), DeviceDataset(noisy_digits, "cpu"))
        assert trainer.train_step(79, torch.arange(128)).shape == (3,)
