"""The wide network computes what the reference implementation's does, from the same weights."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.conftest import GOLDEN, GoldenValues
from trainables.models.wide_resnet import resnet32_wide

# The reference's variables of a layer, in the order in which they are listed, and what they are called here.
NORM_VARIABLES = ("bias", "weight", "running_mean", "running_var")
DENSE_VARIABLES = ("weight", "bias")


@pytest.fixture(scope="module")
def reference() -> GoldenValues:
    return dict(np.load(GOLDEN / "resnet32_reference.npz"))


def reference_value(name: str, shape: tuple[int, ...]) -> Tensor:
    """A variable's value by the rule that the reference was run with."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("DW"):
        fan = np.prod(shape[:-1])
        value = random.standard_normal(shape) * np.sqrt(2 / fan)
    elif name.endswith(("gamma", "moving_variance")):
        value = 1 + 0.2 * random.uniform(-1, 1, shape)
    else:
        value = 0.1 * random.standard_normal(shape)
    tensor = torch.tensor(value.astype(np.float32))
    return tensor.permute(3, 2, 0, 1) if len(shape) == 4 else tensor.t() if len(shape) == 2 else tensor


@pytest.fixture
def network(reference: GoldenValues) -> nn.Module:
    """With the reference's weights: both list their layers in the order in which they compute."""
    network = resnet32_wide(num_classes=10, in_channels=3)
    slots = []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            slots += [f"{name}.{variable}" for variable in NORM_VARIABLES]
        elif isinstance(layer, nn.Linear):
            slots += [f"{name}.{variable}" for variable in DENSE_VARIABLES]
        elif isinstance(layer, nn.Conv2d):
            slots.append(f"{name}.weight")
    shapes = [tuple(map(int, str(shape).strip("[]").split(","))) for shape in reference["variable_shapes"]]
    values = map(reference_value, map(str, reference["variable_names"]), shapes)
    missing, unexpected = network.load_state_dict(dict(zip(slots, values, strict=True)), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_logits_are_the_reference_s(network: nn.Module, reference: GoldenValues, mode: str) -> None:
    network.train(mode == "train")

    with torch.no_grad():
        logits = network(torch.tensor(reference["images"]).permute(0, 3, 1, 2))

    expected = torch.tensor(reference[f"logits_{mode}"])
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("side", [8, 15, 28, 33])
def test_images_of_any_side_fit(side: int) -> None:
    with torch.device("meta"):
        assert resnet32_wide(5, 1)(torch.zeros(2, 1, side, side)).shape == (2, 5)
