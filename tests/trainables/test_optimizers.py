"""A loss changes the weights as the settings say; one that overflows in fp16 changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.device import DeviceDataset
from trainables.errors import NetworkError
from trainables.models import build_network
from trainables.optimizers import TrialOptimizer
from trainables.settings import TrialSettings
from trainables.training import Trainer

FP16 = TrialSettings(precision="fp16", epochs=2)


OPTIMIZERS = ["sgd", "adamw"]


def linear_network() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clipping", [0.0, 0.5])
def test_a_step_that_overflows_is_left_out_even_the_first_and_the_next_is_as_if_it_had_not_been(
    name: str, clipping: float
) -> None:
    overflowed, smooth = linear_network(), linear_network()
    settings = TrialSettings.model_validate(
        {"precision": "fp16", "epochs": 2, "optimizer": name, "gradient_clipping": clipping}
    )
    optimizers = [TrialOptimizer(settings, network, steps=10) for network in (overflowed, smooth)]
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


def stepped(network: torch.nn.Module, **settings: object) -> list[torch.Tensor]:
    """Changes a network by one step of the loss Σ w², and returns its weights before that."""
    before = [weight.detach().clone() for weight in network.parameters()]
    values = {"weight_decay": 0.0, "learning_rate": 0.1, "epochs": 10}
    optimizer = TrialOptimizer(TrialSettings.model_validate(values | settings), network, steps=100)
    optimizer.schedule(0)
    optimizer.step(sum((weight.square().sum() for weight in network.parameters()), torch.zeros(())))
    return before


def test_adamw_is_torch_s_with_the_momentum_as_its_first_beta() -> None:
    network, theirs = linear_network(), linear_network()
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.1, betas=(0.8, 0.999), weight_decay=0.0)
    torch.autograd.backward([weight.square().sum() for weight in theirs.parameters()])
    reference.step()

    stepped(network, optimizer="adamw", momentum=0.8)

    assert torch.equal(network.weight, theirs.weight)


def test_the_head_has_its_own_learning_rate() -> None:
    network = build_network(TrialSettings(), num_classes=3, in_channels=1)
    names = [name for name, _ in network.named_parameters()]

    before = stepped(network, head_lr_factor=3.0)

    for name, old, new in zip(names, before, network.parameters(), strict=True):
        factor = 3 if name.startswith("14.") else 1
        torch.testing.assert_close(old - new.detach(), factor * 0.1 * 2 * old)


def test_a_norm_above_the_limit_is_scaled_to_it_and_one_below_stays() -> None:
    network, free = linear_network(), linear_network()

    for limit, each in ((0.5, network), (1e6, free)):
        before = stepped(each, gradient_clipping=limit)
        steps = [old - new.detach() for old, new in zip(before, each.parameters(), strict=True)]
        changed = torch.cat([step.flatten() for step in steps])
        norm = torch.cat([old.flatten() for old in before]).norm() * 2 * 0.1
        torch.testing.assert_close(changed.norm(), torch.minimum(norm, torch.tensor(0.1 * limit)), rtol=1e-4, atol=0)


def test_the_backbone_is_frozen_for_its_epochs_and_then_trains(data: DeviceDataset) -> None:
    trainer = Trainer(TrialSettings(freeze_backbone_epochs=1, epochs=2, ema=0), data)
    start = {name: weight.detach().clone() for name, weight in trainer.network.named_parameters()}

    def changed() -> set[str]:
        return {name for name, weight in trainer.network.named_parameters() if not torch.equal(weight, start[name])}

    trainer.train_epoch()
    assert changed() == {"14.weight", "14.bias"}
    trainer.train_epoch()
    assert changed() == set(start)


def test_the_learning_rate_warms_up(data: DeviceDataset) -> None:
    before, warm = (Trainer(TrialSettings(warm_up_epochs=epochs, epochs=2, ema=0), data) for epochs in (0, 1))
    start = warm.network.state_dict()["0.weight"].clone()

    for trainer in (before, warm):
        trainer.train_step(0, torch.arange(128))

    steps = [start - trainer.network.state_dict()["0.weight"] for trainer in (before, warm)]
    torch.testing.assert_close(steps[1], steps[0] / (1150 // 128), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_trial_that_fine_tunes_resumes_to_the_same_weights(
    optimizer: str, data: DeviceDataset, tmp_path: Path
) -> None:
    values = {"freeze_backbone_epochs": 2, "head_lr_factor": 5.0, "gradient_clipping": 1.0, "label_smoothing": 0.1}
    settings = TrialSettings.model_validate(
        values | {"optimizer": optimizer, "learning_rate": 0.001, "warm_up_epochs": 1.5, "epochs": 4}
    )
    trainer, resumed = Trainer(settings, data), Trainer(settings, data)
    trainer.train_epoch()
    save_checkpoint(trainer, tmp_path)
    load_checkpoint(resumed, tmp_path)

    for each in (trainer, resumed):
        while each.epoch < settings.epochs:
            each.train_epoch()

    assert all(torch.equal(weight, resumed.weights()[name]) for name, weight in trainer.weights().items())


def test_a_network_without_a_layer_as_head_is_refused_where_one_is_needed() -> None:
    network = torch.nn.ParameterList([torch.zeros(3)])
    TrialOptimizer(TrialSettings(), network, steps=60)
    with pytest.raises(NetworkError, match="has no dense layer or convolution as its head"):
        TrialOptimizer(TrialSettings(head_lr_factor=2), network, steps=60)
