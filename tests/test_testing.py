"""The contract tests that users run on their own plug-ins."""

from __future__ import annotations

import pytest

from tests.support.own_plugins import GOOD, TinyNet
from trainables.models.resnet import small_cnn
from tune_mentormix.testing import PluginError, check_network


@pytest.mark.parametrize("network", [GOOD, TinyNet, small_cnn])
def test_good_networks_pass(network: str) -> None:
    check_network(network, num_classes=10, in_channels=3, size=(16, 12))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong_shape", "must return logits"),
        ("shared", "must be a new network at each call"),
        ("other_weights", "has other weights for the same seed"),
        ("RaisesLater", "raised IndexError: too many birds"),
    ],
)
def test_networks_that_break_the_protocol_do_not(name: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        check_network(f"tests.support.own_plugins:{name}")
