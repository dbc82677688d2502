"""The weight average follows what is trained, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.weights import ModelEMA


def test_an_average_moves_from_the_first_weights_towards_the_present_ones() -> None:
    network = nn.Linear(3, 2)
    first = network.weight.detach().clone()
    average = ModelEMA(network)

    with torch.no_grad():
        network.weight += 1
    average.update(torch.tensor(0.25))
    with torch.no_grad():
        network.weight += 1
    average.update(torch.tensor(0.5))

    torch.testing.assert_close(average.weights["weight"], first + 0.5 * 0.25 + 0.5 * 2)
    torch.testing.assert_close(network.weight.detach(), first + 2)


def test_an_average_of_weight_1_is_the_present_weights() -> None:
    network = nn.Linear(3, 2)
    average = ModelEMA(network)

    with torch.no_grad():
        network.weight += 1
    average.update(torch.tensor(1.0))

    assert torch.equal(average.weights["weight"], network.weight)


def test_what_is_not_trained_is_not_averaged() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    network[0].requires_grad_(requires_grad=False)

    assert set(ModelEMA(network).weights) == {"1.weight", "1.bias"}


def test_averages_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="another network"):
        ModelEMA(nn.Linear(3, 2)).load(ModelEMA(nn.Linear(2, 3)).weights)
