"""A loss changes the weights as the settings say; one that overflows in fp16 changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.device import DeviceDataset
from trainables.optimizers import TrialOptimizer
from trainables.settings import TrialSettings
from trainables.training import Trainer

FP16 = TrialSettings(precision="fp16", epochs=2)


def linear_network() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3)


def test_a_step_that_overflows_is_left_out_even_the_first_and_the_next_is_as_if_it_had_not_been() -> None:
    overflowed, smooth = linear_network(), linear_network()
    optimizers = [TrialOptimizer(FP16, network, steps=10) for network in (overflowed, smooth)]
    for optimizer in optimizers:
        optimizer.schedule(0)

    optimizers[0].step((overflowed.weight * float("inf")).sum())

    assert torch.equal(overflowed.weight, smooth.weight)
    for network, optimizer in zip((overflowed, smooth), optimizers, strict=True):
        for _ in range(2):  # the second uses the momentum of the first
            optimizer.step(network.weight.square().sum() + network.bias.square().sum())
    assert torch.equal(overflowed.weight, smooth.weight)
    assert torch.equal(overflowed.bias, smooth.bias)
    scales = [optimizer.state_dict()["scaler"]["scale"] for optimizer in optimizers]
    assert scales[0] == scales[1] / 2


def test_scaling_the_loss_does_not_change_what_is_trained(data: DeviceDataset) -> None:
    scaled, plain = (Trainer(TrialSettings(precision=precision, epochs=2), data) for precision in ("fp16", "fp32"))

    losses = [trainer.train_epoch()["train_loss"] for trainer in (scaled, plain)]

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # the fused optimizer rounds differently


def test_a_checkpoint_holds_the_scale_of_the_loss(data: DeviceDataset, tmp_path: Path) -> None:
    trainer, resumed = Trainer(FP16, data), Trainer(FP16, data)
    state = trainer.state_dict()
    trainer.load_state_dict(state | {"scaler": state["scaler"] | {"scale": 1024.0}})
    trainer.train_epoch()
    save_checkpoint(trainer, tmp_path)

    load_checkpoint(resumed, tmp_path)

    assert resumed.state_dict()["scaler"] == trainer.state_dict()["scaler"]
    assert resumed.state_dict()["scaler"]["scale"] == 1024
    losses = [each.train_epoch()["train_loss"] for each in (trainer, resumed)]
    assert losses[0] == losses[1]


def test_a_checkpoint_without_a_scale_is_of_an_earlier_version_and_continues(data: DeviceDataset) -> None:
    trainer, resumed = (Trainer(TrialSettings(epochs=2), data) for _ in range(2))
    trainer.train_epoch()
    state = copy.deepcopy(trainer.state_dict())  # which shares memory with the trainer
    del state["scaler"]

    resumed.load_state_dict(state)

    losses = [each.train_epoch()["train_loss"] for each in (trainer, resumed)]
    assert losses[0] == losses[1]
