"""The contract tests that users run on their own plug-ins."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import own_plugins
from tests.support.own_plugins import GOOD, TinyNet
from trainables.models.resnet import small_cnn
from tune_mentormix.testing import (
    PluginError,
    check_augmentation,
    check_dataset,
    check_mentor,
    check_metric,
    check_network,
)


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


def test_good_mentors_augmentations_and_datasets_pass() -> None:
    check_mentor("tests.support.own_plugins:half")
    check_mentor(own_plugins.half)
    check_augmentation("tests.support.own_plugins:darker", in_channels=1, size=(8, 6))
    check_dataset("tests.support.own_plugins:stripes")


@pytest.mark.parametrize(
    ("check", "name", "said"),
    [
        (check_mentor, "mentor_of_one", r"must return a weight for each of 32 losses, got \[1\]"),
        (check_mentor, "mentor_of_bools", "must return weights of the losses' type float32, got torch.bool"),
        (check_mentor, "mentor_of_nan", r"must return weights in \[0, 1\]"),
        (check_mentor, "mentor_that_raises", "raised KeyError: 'mentor'"),
        (check_augmentation, "smaller", r"must return images \[1, 3, 32, 32\] as they came, got \[1, 3, 31, 32\]"),
        (check_augmentation, "brighter", r"must return pixels in \[0, 1\]"),
        (check_augmentation, "doubled", "must return images of type float32, got torch.float64"),
        (check_augmentation, "from_elsewhere", "draws random numbers from elsewhere than its generator"),
        (check_dataset, "no_labels", "must return a mapping with images and labels, got images"),
        (check_dataset, "floats", r"must be uint8 of shape .*, got float64 of shape \[4, 6, 6, 1\]"),
        (check_dataset, "too_few", r"has images and labels of different numbers: \[3, 4\]"),
        (check_dataset, "unreadable", "raised FileNotFoundError: No such file or directory"),
        (check_metric, "half", "raised TypeError"),
    ],
)
def test_whatever_is_wrong_with_one_is_one_line_with_its_name(
    check: Callable[[str], None], name: str, said: str
) -> None:
    with pytest.raises(PluginError, match=said) as caught:
        check(f"tests.support.own_plugins:{name}")
    assert f"tests.support.own_plugins:{name} " in str(caught.value)
    assert "\n" not in str(caught.value)
