"""TrivialAugment: each image of a batch gets what torchvision would give it alone."""

from __future__ import annotations

from collections.abc import Callable
from math import atan, degrees

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from trainables.trivial_augment import OPERATIONS, Operation, apply_operation, draw_operation

BATCH, HEIGHT, WIDTH = 12, 24, 30
BILINEAR = InterpolationMode.BILINEAR


def affine(image: Tensor, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0, 0)) -> Tensor:
    moved: Tensor = functional.affine(
        image,
        angle=0.0,
        translate=list(translate),
        scale=1.0,
        shear=[degrees(atan(value)) for value in shear],
        interpolation=BILINEAR,
        center=[0.0, 0.0] if any(shear) else None,
    )
    return moved


# Operation → what torchvision does with an image, for a strength in [0, 1] and a sign
EXPECTED: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "identity": lambda image, strength, sign: image,
    "shear_x": lambda image, strength, sign: affine(image, shear=(0.99 * strength * sign, 0)),
    "shear_y": lambda image, strength, sign: affine(image, shear=(0, 0.99 * strength * sign)),
    "translate_x": lambda image, strength, sign: affine(image, translate=(int(32 * strength * sign), 0)),
    "translate_y": lambda image, strength, sign: affine(image, translate=(0, int(32 * strength * sign))),
    "rotate": lambda image, strength, sign: functional.rotate(image, 135 * strength * sign, BILINEAR),
    "brightness": lambda image, strength, sign: functional.adjust_brightness(image, 1 + 0.99 * strength * sign),
    "colour": lambda image, strength, sign: functional.adjust_saturation(image, 1 + 0.99 * strength * sign),
    "contrast": lambda image, strength, sign: functional.adjust_contrast(image, 1 + 0.99 * strength * sign),
    "sharpness": lambda image, strength, sign: functional.adjust_sharpness(image, 1 + 0.99 * strength * sign),
    "posterize": lambda image, strength, sign: functional.posterize(image, 8 - round(6 * strength)),
    "solarize": lambda image, strength, sign: functional.solarize(image, 1 - strength),
    "auto_contrast": lambda image, strength, sign: functional.autocontrast(image.clone()),
    "equalize": lambda image, strength, sign: functional.equalize(image),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_operation_is_torchvisions(name: str, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.1 + 0.7 * torch.rand(BATCH, channels, HEIGHT, WIDTH, generator=generator)
    images[0] = 0.5
    strength = torch.randint(31, (BATCH,), generator=generator) / 30
    sign = torch.tensor([-1, 1] * (BATCH // 2))
    operation = Operation(torch.full((BATCH,), OPERATIONS.index(name)), strength, sign)

    changed = apply_operation(images, operation)

    for image, ours, s, direction in zip(images, changed, strength.tolist(), sign.tolist(), strict=True):
        torch.testing.assert_close(ours, EXPECTED[name](image, s, direction), atol=1e-4, rtol=0)


def test_images_of_one_batch_get_different_operations() -> None:
    images = torch.rand(BATCH, 3, HEIGHT, WIDTH)
    number = torch.arange(BATCH) + 1
    operation = Operation(number, torch.full((BATCH,), 0.5), torch.ones(BATCH))

    changed = apply_operation(images, operation)

    for image, ours, index in zip(images, changed, number.tolist(), strict=True):
        torch.testing.assert_close(ours, EXPECTED[OPERATIONS[index]](image, 0.5, 1), atol=1e-4, rtol=0)


def test_all_operations_strengths_and_signs_are_drawn_as_often() -> None:
    drawn = draw_operation(torch.zeros(28_000, 1, 1, 1), torch.Generator().manual_seed(0))

    counts = torch.bincount(drawn.number, minlength=len(OPERATIONS))
    assert counts.tolist() == pytest.approx([2000] * len(OPERATIONS), abs=200)
    strengths = torch.bincount((30 * drawn.strength).round().long(), minlength=31)
    assert strengths.tolist() == pytest.approx([28_000 / 31] * 31, abs=150)
    assert drawn.sign.mean().item() == pytest.approx(0, abs=0.03)
