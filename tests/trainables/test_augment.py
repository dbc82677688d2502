"""Augmentation: each image of a batch gets what torchvision would give it alone, and no step waits for the device."""

from __future__ import annotations

import colorsys
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms.v2 import functional as torchvision_functional

from tests.trainables.conftest import GOLDEN
from trainables.augment import (
    AUGMENTATIONS,
    CROP_PADDING,
    CROP_RATIO,
    CROP_SCALE,
    ERASED_SCALE,
    ColourJitter,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    colour_jitter,
    crop,
    crop_padding,
    cutout,
    draw_colour_jitter,
    draw_crop,
    draw_cutout,
    draw_erasing,
    draw_flip,
    draw_rectangles,
    erase,
    flip,
    resized_crop,
)
from trainables.settings import AugmentationName

BATCH = 16
seeds = st.integers(0, 2**31 - 1)


def random_images(seed: int, channels: int = 3, height: int = 9, width: int = 8) -> Tensor:
    """Random pixels, and one image each of greys, black, white and few colours, where hue is delicate."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(BATCH, channels, height, width, generator=generator)
    images[0] = images[0, :1]
    images[1], images[2] = 0, 1
    images[3] = images[3].round()
    return images


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_table_holds_exactly_the_names_the_settings_allow() -> None:
    assert set(AUGMENTATIONS) == set(get_args(AugmentationName))


@given(seed=seeds)
def test_cropping_is_torchvisions_padding_and_cropping(seed: int) -> None:
    images = random_images(seed)
    corners = draw_crop(images, generator_of(seed))

    for image, cropped, (top, left) in zip(images, crop(images, corners), corners.tolist(), strict=True):
        padded = torchvision_functional.pad(image, [CROP_PADDING])
        assert torch.equal(cropped, torchvision_functional.crop(padded, top, left, 9, 8))


def test_larger_images_are_padded_in_proportion_to_their_size() -> None:
    paddings = {side: crop_padding(torch.zeros(1, 3, side, side + 9)) for side in (8, 28, 32, 48, 64, 224)}

    assert paddings == {8: 2, 28: 2, 32: 2, 48: 3, 64: 4, 224: 14}
    assert draw_crop(torch.zeros(500, 3, 64, 64), generator_of(0)).max() == 8


@pytest.mark.parametrize("draw_scale", [CROP_SCALE, ERASED_SCALE])
@given(seed=seeds)
def test_rectangles_lie_within_the_image_and_have_the_size_and_ratio_asked_for(
    draw_scale: tuple[float, float], seed: int
) -> None:
    images = random_images(seed, height=40, width=50)
    rectangles, is_found = draw_rectangles(images, draw_scale, CROP_RATIO, generator_of(seed))

    for top, left, height, width in zip(*(part.tolist() for part in rectangles), strict=True):
        assert 0 <= top <= top + height <= 40
        assert 0 <= left <= left + width <= 50
    part = (rectangles.height * rectangles.width / (40 * 50))[is_found]
    assert draw_scale[0] - 0.03 <= part.min() <= part.max() <= draw_scale[1] + 0.03
    assert is_found.any()


@given(seed=seeds)
def test_a_resized_crop_is_torchvisions(seed: int) -> None:
    images = random_images(seed, height=20, width=30)
    rectangles, _ = draw_rectangles(images, CROP_SCALE, CROP_RATIO, generator_of(seed))

    for image, cropped, rectangle in zip(
        images, resized_crop(images, rectangles), zip(*rectangles, strict=True), strict=True
    ):
        expected = torchvision_functional.resized_crop(image, *map(int, rectangle), [20, 30])
        torch.testing.assert_close(cropped, expected, atol=2e-6, rtol=0)


@given(seed=seeds)
def test_erasing_is_torchvisions_of_half_of_the_images(seed: int) -> None:
    images = random_images(seed, height=20, width=30)
    rectangles = draw_erasing(images, generator_of(seed))

    holes = torch.stack(rectangles, dim=1).tolist()
    for image, erased, hole in zip(images, erase(images, rectangles), holes, strict=True):
        assert torch.equal(erased, torchvision_functional.erase(image, *hole, torch.tensor(0.0)))
    many = draw_erasing(torch.zeros(4000, 1, 20, 30), generator_of(seed))
    assert (many.height > 0).float().mean().item() == pytest.approx(0.5, abs=0.04)


@given(seed=seeds)
def test_flipping_is_torchvisions_horizontal_flip(seed: int) -> None:
    images = random_images(seed)
    is_flipped = draw_flip(images, generator_of(seed))

    for image, flipped, should_flip in zip(images, flip(images, is_flipped), is_flipped.tolist(), strict=True):
        expected = torchvision_functional.horizontal_flip(image) if should_flip else image
        assert torch.equal(flipped, expected)


@given(seed=seeds)
def test_cutout_is_torchvisions_erasing_of_a_square_clipped_at_the_border(seed: int) -> None:
    images = random_images(seed)
    middles = draw_cutout(images, generator_of(seed))
    side = 9 // 2

    for image, holed, (row, column) in zip(images, cutout(images, middles), middles.tolist(), strict=True):
        top, left = row - side // 2, column - side // 2
        height = min(top + side, 9) - max(top, 0)
        width = min(left + side, 8) - max(left, 0)
        erased = torchvision_functional.erase(image, max(top, 0), max(left, 0), height, width, torch.tensor(0.0))
        assert torch.equal(holed, erased)


@pytest.mark.parametrize("limit", [0.2, 0.5])
@given(seed=seeds)
def test_adjusting_the_hue_is_torchvisions(limit: float, seed: int) -> None:
    images = random_images(seed)
    turns = limit * (2 * torch.rand(BATCH, generator=generator_of(seed)) - 1)

    for image, adjusted, turn in zip(images, adjust_hue(images, turns), turns.tolist(), strict=True):
        torch.testing.assert_close(adjusted, torchvision_functional.adjust_hue(image, turn), atol=2e-6, rtol=0)


@given(seed=seeds)
def test_adjusting_the_saturation_scales_it_in_hsv_and_keeps_the_value(seed: int) -> None:
    images = random_images(seed, height=3, width=3)
    factors = 0.5 + torch.rand(BATCH, generator=generator_of(seed))

    for image, adjusted, factor in zip(images, adjust_saturation(images, factors), factors.tolist(), strict=True):
        for pixel, ours in zip(image.flatten(1).T.tolist(), adjusted.flatten(1).T.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            expected = colorsys.hsv_to_rgb(hue, min(1.0, saturation * factor), value)
            assert ours == pytest.approx(expected, abs=2e-6)


@given(seed=seeds)
def test_adjusting_the_contrast_moves_each_channel_about_its_own_mean(seed: int) -> None:
    images = random_images(seed)
    factors = 0.5 + torch.rand(BATCH, generator=generator_of(seed))
    channels = images.double().numpy()
    means = channels.mean(axis=(2, 3), keepdims=True)

    expected = means + factors.double().numpy()[:, None, None, None] * (channels - means)

    np.testing.assert_allclose(adjust_contrast(images, factors), expected, atol=2e-6)


def test_colour_jitter_is_the_references_on_values_that_tensorflow_computed() -> None:
    """Both orders; greys, black, white, pure colours, and images that leave [0, 1] on the way."""
    golden = np.load(GOLDEN / "colour_jitter_reference.npz")
    images = torch.tensor(golden["images"]).permute(0, 3, 1, 2)
    contrast, is_first = torch.tensor(golden["contrast"]), torch.tensor(golden["contrast_is_first"])

    jittered = colour_jitter(
        images,
        ColourJitter(
            brightness=torch.tensor(golden["brightness"]),
            contrast_first=torch.where(is_first, contrast, 1),
            saturation=torch.tensor(golden["saturation"]),
            hue=torch.tensor(golden["hue"]),
            contrast_last=torch.where(is_first, 1, contrast),
        ),
    )

    assert ((images + torch.tensor(golden["brightness"]).view(-1, 1, 1, 1)) < 0).any()
    np.testing.assert_allclose(jittered.permute(0, 2, 3, 1), golden["jittered"], atol=2e-6)


@given(seed=seeds)
def test_colour_jitter_is_drawn_from_the_references_ranges_in_one_of_its_two_orders(seed: int) -> None:
    images = random_images(seed)
    jitter = draw_colour_jitter(images, generator_of(seed))

    assert abs(jitter.brightness).max() <= 32 / 255
    assert abs(jitter.hue).max() <= 0.2
    for first, saturation, last in zip(jitter.contrast_first, jitter.saturation, jitter.contrast_last, strict=True):
        assert 1 in (first, last)
        assert 0.5 <= min(first, last, saturation) <= max(first, last, saturation) <= 1.5
    jittered = colour_jitter(images, jitter)
    assert 0 <= jittered.min() <= jittered.max() <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
@settings(max_examples=20)
@given(seed=seeds, size=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_shape_and_range_are_kept_and_equal_generators_give_equal_images(
    name: AugmentationName, channels: int, seed: int, size: tuple[int, int]
) -> None:
    images = random_images(seed, channels, *size)
    before = images.clone()

    augmented, again = (AUGMENTATIONS[name](images, generator_of(seed)) for _ in range(2))

    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert augmented.min() >= 0
    assert augmented.max() <= 1 + 1e-6
    assert torch.equal(augmented, again)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"none"}))
def test_images_of_a_batch_are_changed_each_in_its_own_way(name: AugmentationName) -> None:
    images = random_images(0, height=16, width=16)[4:5].repeat(64, 1, 1, 1)

    augmented = AUGMENTATIONS[name](images, generator_of(0))

    assert len(torch.unique(augmented.flatten(1), dim=0)) > 20


def test_every_crop_and_both_sides_are_as_likely() -> None:
    images = torch.zeros(10_000, 1, 8, 8)

    corners = draw_crop(images, generator_of(0))
    counts = torch.bincount(corners[:, 0] * 5 + corners[:, 1], minlength=25)

    assert counts.tolist() == pytest.approx([400] * 25, abs=80)  # four standard errors
    assert draw_flip(images, generator_of(0)).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_augmentation_waits_for_the_device(name: AugmentationName) -> None:
    """Fake tensors have shapes but no values: reading one on the host raises."""
    generator = generator_of(0)
    with FakeTensorMode():
        augmented = AUGMENTATIONS[name](torch.rand(BATCH, 3, 32, 32), generator)

    assert augmented.shape == (BATCH, 3, 32, 32)
