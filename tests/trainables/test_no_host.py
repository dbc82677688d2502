"""No step of any trial waits for the host: each runs where no tensor has a value that could be read.

On the CPU that shows what reads a value. Copies between host and GPU show on a fake GPU only; see
`tests.support.fake_cuda`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tests.support.fake_cuda import CUDA, Recorder, fake_cuda
from trainables.augment import AUGMENTATIONS
from trainables.data import Dataset
from trainables.device import DeviceDataset
from trainables.mentors import MENTORS
from trainables.models import NETWORKS
from trainables.settings import AugmentationName, MentorName, MixingRule, OptimizerName, Precision, TrialSettings
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


def steps_on_fake_cuda(monkeypatch: pytest.MonkeyPatch, dataset: Dataset, **settings: Any) -> Recorder:
    """Records a step in burn-in, two after it (one for each phase of a mentor), and nothing of what precedes them."""
    with fake_cuda(monkeypatch) as recorder:
        trainer = Trainer(
            TrialSettings.model_validate({"epochs": 10, "burn_in": 50} | settings), DeviceDataset(dataset, CUDA)
        )
        batch_index = torch.arange(trainer.settings.batch_size, device=CUDA)
        recorder.calls.clear()
        recorder.waits.clear()
        steps = trainer.settings.epochs * (len(dataset.train_labels) // trainer.settings.batch_size)
        for step in (0, int(0.6 * steps), steps - 1):
            assert trainer.train_step(step, batch_index).device.type == "cuda"
    return recorder


@pytest.mark.parametrize("mentor", MENTORS)
@pytest.mark.parametrize("mixing", ["hard", "interpolated"])
@pytest.mark.parametrize(("second_reweight", "mixup_alpha"), [(False, 0.0), (True, 2.0)])
def test_on_a_gpu_no_rule_of_mentormix_copies_from_the_host_or_reads_there(
    monkeypatch: pytest.MonkeyPatch,
    noisy_digits: Dataset,
    mentor: MentorName,
    mixing: MixingRule,
    second_reweight: bool,
    mixup_alpha: float,
) -> None:
    settings = {"mentor": mentor, "mixing": mixing, "second_reweight": second_reweight, "mixup_alpha": mixup_alpha}
    assert steps_on_fake_cuda(monkeypatch, noisy_digits, **settings).waits == []


@pytest.mark.parametrize("network", [*NETWORKS, "torchvision/mobilenet_v3_small"])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_on_a_gpu_no_network_copies_from_the_host_or_reads_there(
    monkeypatch: pytest.MonkeyPatch, coloured_digits: Dataset, network: str, precision: Precision
) -> None:
    settings = {"network": network, "precision": precision, "second_reweight": True}
    assert steps_on_fake_cuda(monkeypatch, coloured_digits, **settings).waits == []


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("lr_schedule", ["steps", "cosine"])
def test_on_a_gpu_no_augmentation_and_no_schedule_copies_from_the_host_or_reads_there(
    monkeypatch: pytest.MonkeyPatch, coloured_digits: Dataset, augmentation: AugmentationName, lr_schedule: str
) -> None:
    settings = {"augmentation": augmentation, "lr_schedule": lr_schedule}
    assert steps_on_fake_cuda(monkeypatch, coloured_digits, **settings).waits == []


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu_no_way_to_fine_tune_copies_from_the_host_or_reads_there(
    monkeypatch: pytest.MonkeyPatch, noisy_digits: Dataset, optimizer: OptimizerName, precision: Precision
) -> None:
    schedule = {"warm_up_epochs": 2, "freeze_backbone_epochs": 2, "head_lr_factor": 5.0}
    rest = {"gradient_clipping": 1.0, "label_smoothing": 0.1, "optimizer": optimizer, "precision": precision}
    assert steps_on_fake_cuda(monkeypatch, noisy_digits, **schedule, **rest).waits == []


def test_on_a_gpu_an_epoch_is_read_once_and_its_evaluation_once(
    monkeypatch: pytest.MonkeyPatch, noisy_digits: Dataset
) -> None:
    """Fake tensors have no values, so the first read ends each; all of its steps and batches came before."""
    with fake_cuda(monkeypatch) as recorder:
        data = DeviceDataset(noisy_digits, CUDA)
        trainer = Trainer(TrialSettings(epochs=10, mentor="uniform"), data)  # one pass a step
        train_size, validation_size = len(data.train_labels), len(data.validation_labels)
        for work, passes in (
            (trainer.train_epoch, train_size // 128),
            (lambda: trainer.evaluate(data.validation_images, data.validation_labels), -(-validation_size // 250)),
        ):
            recorder.calls.clear()
            recorder.waits.clear()
            with pytest.raises(DataDependentOutputException):
                work()
            assert recorder.waits == ["_local_scalar_dense reads values on the host"]
            assert [name for name, _ in recorder.calls].count("addmm") == passes


def test_the_steps_of_a_phase_differ_in_no_python_number_but_those_written_to_the_device_first(
    monkeypatch: pytest.MonkeyPatch, noisy_digits: Dataset
) -> None:
    """So a step captured in a CUDA graph may be replayed: percent, learning rate and decay are tensors to it."""
    with fake_cuda(monkeypatch) as recorder:
        settings = TrialSettings(epochs=10, burn_in=50, second_reweight=True, augmentation="cutout")
        trainer = Trainer(settings, DeviceDataset(noisy_digits, CUDA))
        batch_index = torch.arange(128, device=CUDA)
        calls = []
        for step in (0, 5, 10, 45, 60, 79):  # of 80; the first makes the momentum buffers too
            recorder.calls.clear()
            trainer.train_step(step, batch_index)
            calls.append([call for call in recorder.calls if call[0] != "fill_"])
    _, burn_in, later_burn_in, weighted, *later_weighted = calls
    assert burn_in == later_burn_in
    assert [weighted, weighted] == later_weighted
    assert len(burn_in) < len(weighted)
