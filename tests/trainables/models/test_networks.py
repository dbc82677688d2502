"""Every network in the table builds, classifies, and can hold its running statistics still."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainables.models import NETWORKS, RunningStatistics, parameter_groups
from trainables.settings import OwnNetwork, TrialSettings


def test_the_table_holds_exactly_the_names_the_settings_allow() -> None:
    assert set(NETWORKS) == set(get_args(OwnNetwork))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("small_cnn", 0.132), ("resnet32", 0.46), ("resnet32_wide", 29.4), ("resnet18_cifar", 11.2)],
)
def test_networks_are_of_the_size_they_are_known_for(name: OwnNetwork, millions: float) -> None:
    with torch.device("meta"):
        network = NETWORKS[name](10, 3)

    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(millions * 1e6, rel=0.02)


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match=r"unknown name 'resnt32'; did you mean 'resnet32'\?"):
        TrialSettings(network="resnt32")


def test_only_networks_of_libraries_can_be_pretrained() -> None:
    with pytest.raises(ValidationError, match=r"pretrained is for networks torchvision/NAME, timm/NAME only, got"):
        TrialSettings(network="resnet32", pretrained=True)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 32, 32)])
def test_images_become_logits_and_every_weight_gets_a_gradient(
    name: OwnNetwork, image_shape: tuple[int, int, int]
) -> None:
    network = NETWORKS[name](7, image_shape[0])

    logits = network(torch.randn(4, *image_shape))
    logits.square().sum().backward()

    assert logits.shape == (4, 7)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_held_statistics_neither_move_nor_change_what_the_network_computes(name: OwnNetwork) -> None:
    network = NETWORKS[name](7, 1)
    images = 3 * torch.randn(16, 1, 8, 8) + 1
    before = {buffer_name: buffer.clone() for buffer_name, buffer in network.named_buffers()}

    with RunningStatistics(network).frozen():
        held = network(images)

    assert before
    assert all(torch.equal(buffer, before[buffer_name]) for buffer_name, buffer in network.named_buffers())
    assert torch.equal(held, network(images))
    assert not all(torch.equal(buffer, before[buffer_name]) for buffer_name, buffer in network.named_buffers())


def test_statistics_are_recorded_again_after_an_error_in_the_pass() -> None:
    network = nn.BatchNorm2d(2)

    with pytest.raises(ValueError, match="4D"), RunningStatistics(network).frozen():
        network(torch.zeros(2))

    assert network.track_running_stats


@pytest.mark.parametrize("name", NETWORKS)
def test_weight_decay_is_for_kernels_of_convolutions_and_dense_layers_alone(name: OwnNetwork) -> None:
    network = NETWORKS[name](7, 3)
    expected = {id(module.weight) for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)}

    decay, no_decay = parameter_groups(network, weight_decay=0.1)

    assert {id(kernel) for kernel in decay["params"]} == expected
    assert len(decay["params"]) + len(no_decay["params"]) == len(list(network.parameters()))
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.1, 0.0)
