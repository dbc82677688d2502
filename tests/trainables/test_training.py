"""A trial trains as it should: it learns, repeats itself exactly, measures what it claims, and fails clearly."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from trainables.data import Dataset
from trainables.data.streaming import in_memory
from trainables.device import DeviceDataset
from trainables.errors import TrainingDiverged
from trainables.settings import TrialSettings
from trainables.training import Trainer

REPORTED = {
    "val_accuracy",
    "val_loss",
    "balanced_accuracy",
    "macro_f1",
    "top5_accuracy",
    "train_loss",
    "mean_weight",
    "epoch",
    "epoch_seconds",
    "images_per_second",
    "selected_clean_fraction",
}
TIMES = {"epoch_seconds", "images_per_second"}


def trained(data: DeviceDataset, **settings: object) -> Trainer:
    trainer = Trainer(TrialSettings.model_validate(settings), data)
    for _ in range(trainer.settings.epochs):
        trainer.train_epoch()
    return trainer


def timeless(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMES}


def test_mentormix_beats_plain_training_on_noisy_labels(data: DeviceDataset) -> None:
    plain = trained(data, mentor="uniform", mixup_alpha=0, epochs=20)
    mentormix = trained(data, mixup_alpha=2, loss_p_percentile=0.5, epochs=20)

    assert mentormix.metrics["val_accuracy"] >= plain.metrics["val_accuracy"] + 0.05
    assert mentormix.metrics["selected_clean_fraction"] >= 0.9  # of 0.6 that are clean


def test_a_report_holds_every_metric_and_they_are_plain_numbers(data: DeviceDataset) -> None:
    metrics = Trainer(TrialSettings(epochs=3), data).train_epoch()

    assert set(metrics) == REPORTED
    assert all(type(value) in (int, float) and math.isfinite(value) for value in metrics.values())
    assert metrics["epoch"] == 1


def test_without_clean_labels_nothing_is_reported_of_them(noisy_digits: Dataset) -> None:
    labels_unknown = dataclasses.replace(noisy_digits, train_clean_labels=None, validation_clean_labels=None)

    metrics = Trainer(TrialSettings(epochs=3), DeviceDataset(labels_unknown, "cpu")).train_epoch()

    assert set(metrics) == REPORTED - {"selected_clean_fraction"}


def test_with_verified_labels_the_accuracy_on_the_noisy_ones_stands_beside(noisy_digits: Dataset) -> None:
    clean, noisy = noisy_digits.validation_clean_labels, noisy_digits.validation_given_labels
    assert clean is not None
    verified = dataclasses.replace(noisy_digits, validation_labels=clean, validation_noisy_labels=noisy)
    trainer = Trainer(TrialSettings(epochs=3), DeviceDataset(verified, "cpu"))

    metrics = trainer.train_epoch()

    assert set(metrics) == REPORTED | {"noisy_val_accuracy"}
    on_noisy = Trainer(TrialSettings(epochs=3), DeviceDataset(noisy_digits, "cpu")).train_epoch()
    assert metrics["noisy_val_accuracy"] == pytest.approx(on_noisy["val_accuracy"])
    assert metrics["val_accuracy"] != metrics["noisy_val_accuracy"]


def test_equal_settings_give_equal_trials_and_another_seed_another(data: DeviceDataset) -> None:
    one, same, other = (trained(data, epochs=2, burn_in=0, seed=seed) for seed in (5, 5, 6))

    assert timeless(one.metrics) == timeless(same.metrics)
    assert all(torch.equal(value, same.weights()[name]) for name, value in one.weights().items())
    assert one.metrics["train_loss"] != other.metrics["train_loss"]


def test_trials_leave_the_data_as_they_were(noisy_digits: Dataset) -> None:
    data = DeviceDataset(noisy_digits, "cpu")
    trained(data, epochs=1, burn_in=0, second_reweight=True)

    np.testing.assert_array_equal(data.train_images, noisy_digits.train_images)
    np.testing.assert_array_equal(data.train_labels, noisy_digits.train_labels)


def test_read_only_arrays_are_copied_without_a_warning(
    noisy_digits: Dataset, recwarn: pytest.WarningsRecorder
) -> None:
    read_only = dataclasses.replace(noisy_digits, train_images=in_memory(noisy_digits.train_images).copy())
    in_memory(read_only.train_images).flags.writeable = False

    data = DeviceDataset(read_only, "cpu")
    assert isinstance(data.train_images, torch.Tensor)
    data.train_images += 1

    assert not recwarn.list
    np.testing.assert_array_equal(read_only.train_images, noisy_digits.train_images)


def test_burn_in_weights_all_alike_and_then_the_mentor_takes_over(data: DeviceDataset) -> None:
    trainer = Trainer(TrialSettings(epochs=8, burn_in=51), data)  # half of training, and the one percent before

    mean_weights = [trainer.train_epoch()["mean_weight"] for _ in range(8)]

    assert mean_weights[:4] == [1, 1, 1, 1]
    assert all(0.1 < weight < 0.95 for weight in mean_weights[4:])


def test_the_uniform_mentor_is_plain_mixup_whatever_burn_in_and_percentile_say(data: DeviceDataset) -> None:
    one = trained(data, mentor="uniform", epochs=2, burn_in=0, loss_p_percentile=0.1)
    other = trained(data, mentor="uniform", epochs=2, burn_in=90, loss_p_percentile=0.9, second_reweight=True)

    assert timeless(one.metrics) == timeless(other.metrics)
    assert one.metrics["mean_weight"] == 1


def test_without_mixing_or_second_reweight_every_mentor_trains_plainly(data: DeviceDataset) -> None:
    losses = {
        trained(data, mentor=mentor, mixup_alpha=0, epochs=2, burn_in=0).metrics["train_loss"]
        for mentor in ("uniform", "threshold", "mentornet_pd")
    }

    assert len(losses) == 1


def test_evaluation_counts_what_the_averaged_weights_classify(data: DeviceDataset) -> None:
    trainer = trained(data, epochs=3)
    assert isinstance(data.validation_images, torch.Tensor)
    images = data.validation_images.permute(0, 3, 1, 2) / 127.5 - 1
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}

    evaluation = trainer.evaluate(data.validation_images, data.validation_labels)

    assert all(torch.equal(value, before[name]) for name, value in trainer.network.state_dict().items())
    trainer.network.load_state_dict(trainer.weights())
    trainer.network.eval()
    with torch.no_grad():
        logits = trainer.network(images)
    assert evaluation.accuracy == (logits.argmax(dim=1) == data.validation_labels).double().mean().item()
    expected_loss = torch.nn.functional.cross_entropy(logits, data.validation_labels)
    assert evaluation.loss == pytest.approx(expected_loss.item(), rel=1e-5)
    assert torch.equal(evaluation.correct, logits.argmax(dim=1) == data.validation_labels)
    assert torch.allclose(evaluation.probabilities.float(), logits.softmax(dim=1), atol=1e-3)
    assert evaluation.probabilities.dtype == torch.float16


def test_the_evaluation_of_the_last_epoch_is_kept_and_a_resumed_trial_has_it_too(data: DeviceDataset) -> None:
    settings = TrialSettings(epochs=3)
    trainer, resumed = Trainer(settings, data), Trainer(settings, data)
    before = trainer.validation
    accuracy = trainer.train_epoch()["val_accuracy"]

    resumed.load_state_dict(trainer.state_dict())

    assert before is None
    assert trainer.validation is not None
    assert resumed.validation is not None
    assert trainer.validation.accuracy == accuracy == trainer.validation.correct.double().mean().item()
    assert resumed.validation[:2] == trainer.validation[:2]
    assert torch.equal(resumed.validation.probabilities, trainer.validation.probabilities)


def test_without_a_weight_average_evaluation_uses_the_trained_weights(data: DeviceDataset) -> None:
    trainer = trained(data, epochs=1, ema=0)

    assert all(torch.equal(value, trainer.network.state_dict()[name]) for name, value in trainer.weights().items())


def test_weight_decay_shrinks_kernels_only(data: DeviceDataset) -> None:
    plain, decayed = (
        Trainer(TrialSettings(learning_rate=0.1, weight_decay=decay, ema=0, epochs=1), data) for decay in (0.0, 0.5)
    )
    start = {name: weight.clone() for name, weight in plain.weights().items()}

    for trainer in (plain, decayed):
        trainer.train_step(0, torch.arange(128))

    for name, weight in decayed.network.named_parameters():
        shrinkage = 0.1 * 0.5 * start[name] if weight.dim() > 1 else torch.zeros_like(start[name])
        torch.testing.assert_close(plain.weights()[name] - weight.detach(), shrinkage, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_no_number_ends_the_trial_and_names_the_epoch(data: DeviceDataset) -> None:
    trainer = Trainer(TrialSettings(learning_rate=1e30, epochs=3), data)

    with pytest.raises(TrainingDiverged, match=r"^train_loss is (nan|inf) in epoch 1$"):
        trainer.train_epoch()


def test_a_batch_larger_than_the_training_set_is_refused(data: DeviceDataset) -> None:
    with pytest.raises(ValueError, match=r"^batch_size must be at most .* 1150, got 1151$"):
        Trainer(TrialSettings(batch_size=1151), data)

    assert trained(data, batch_size=1150, epochs=1).epoch == 1


def test_without_validation_images_nothing_is_validated_and_training_is_the_same(noisy_digits: Dataset) -> None:
    unvalidated = dataclasses.replace(
        noisy_digits,
        validation_images=noisy_digits.validation_images[:0],
        validation_labels=noisy_digits.validation_labels[:0],
    )
    validated = trained(DeviceDataset(noisy_digits, "cpu"), epochs=3)
    trainer = trained(DeviceDataset(unvalidated, "cpu"), epochs=3)

    assert set(trainer.metrics) == REPORTED - {
        "val_accuracy",
        "val_loss",
        "balanced_accuracy",
        "macro_f1",
        "top5_accuracy",
    }
    assert trainer.best.weights == {}
    assert trainer.metrics["train_loss"] == validated.metrics["train_loss"]
