"""Label noise: names → functions that turn clean labels into noisy ones, in NumPy on whole arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.random import Generator

from trainables.data.sources import LabelledImages, Labels
from trainables.errors import DatasetError
from trainables.settings import DataSettings, NoiseKind

NoiseMap = Mapping[str, str] | None

CIFAR10_CONFUSIONS = {"truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse"}
_INSTANCE_RATE_SPREAD = 0.1  # standard deviation of an image's own flip rate (Xia et al. 2020)
_IMAGES_AT_ONCE = 1024  # bounds the float64 copy of the pixels to some megabytes


class NoiseFunction(Protocol):
    """The signature of every kind of noise."""

    def __call__(
        self, clean: LabelledImages, rate: float, generator: Generator, noise_map: NoiseMap = None, /
    ) -> Labels:
        """Returns noisy labels [N]; only `asymmetric` uses `noise_map`, class name → the name it is mistaken for."""


def add_noise(data: LabelledImages, settings: DataSettings, generator: Generator) -> LabelledImages:
    """Adds the noise that the settings ask for; the labels before it become the clean ones.

    Raises DatasetError if the labels are known to be noisy already, or the noise kind does not fit the classes.
    """
    if settings.noise == 0:
        return data
    if data.clean_labels is not None and not data.is_clean:
        raise DatasetError(f"noise must be 0 for labels that are noisy already, got {settings.noise}")
    noisy_labels = NOISE_KINDS[settings.noise_kind](data, settings.noise, generator, settings.noise_map)
    return replace(data, labels=noisy_labels, clean_labels=data.labels)


def symmetric_exclusive(clean: LabelledImages, rate: float, generator: Generator, _: NoiseMap = None) -> Labels:
    """Replaces a label, with probability `rate`, by one of the K − 1 others, each as likely.

    The realised noise rate is `rate` in expectation.
    """
    class_count = len(clean.class_names)
    is_flipped = generator.random(clean.labels.shape) < rate
    offsets = generator.integers(1, class_count, size=clean.labels.shape)
    return np.where(is_flipped, (clean.labels + offsets) % class_count, clean.labels)


def symmetric_inclusive(clean: LabelledImages, rate: float, generator: Generator, _: NoiseMap = None) -> Labels:
    """Replaces a label, with probability `rate`, by one of all K classes, the true one included.

    The realised noise rate is `rate · (K − 1) / K` in expectation: nominal 80 % is 72 % for ten classes.
    """
    is_redrawn = generator.random(clean.labels.shape) < rate
    drawn = generator.integers(0, len(clean.class_names), size=clean.labels.shape)
    return np.where(is_redrawn, drawn, clean.labels)


def asymmetric(clean: LabelledImages, rate: float, generator: Generator, noise_map: NoiseMap = None) -> Labels:
    """Replaces the label of a confusable class, with probability `rate`, by the class it is mistaken for.

    Classes that `noise_map` does not name stay clean: with CIFAR-10's own map (Patrini et al. 2017), which is
    the default, five of ten classes are noisy and the realised rate is half of `rate`.
    """
    confusions = CIFAR10_CONFUSIONS if noise_map is None else noise_map
    class_names = list(clean.class_names)
    unknown = [name for pair in confusions.items() for name in pair if name not in class_names]
    if unknown:
        setting = "noise_map" if noise_map is not None else "noise_map must be set: the default, CIFAR-10's,"
        raise DatasetError(f"{setting} names class {unknown[0]!r}, but the classes are {', '.join(class_names)}")

    mistaken_for = np.arange(len(class_names))
    for name, other in confusions.items():
        mistaken_for[class_names.index(name)] = class_names.index(other)
    is_flipped = generator.random(clean.labels.shape) < rate
    return np.where(is_flipped, mistaken_for[clean.labels], clean.labels)


def pair_flip(clean: LabelledImages, rate: float, generator: Generator, noise_map: NoiseMap = None) -> Labels:
    """Replaces class i, with probability `rate`, by class i + 1, the last by the first."""
    is_flipped = generator.random(clean.labels.shape) < rate
    return np.where(is_flipped, (clean.labels + 1) % len(clean.class_names), clean.labels)


def instance_dependent(clean: LabelledImages, rate: float, generator: Generator, _: NoiseMap = None) -> Labels:
    """Noise that depends on the image (Xia et al. 2020, part-dependent label noise).

    Image x of class y keeps its label with probability 1 − q, q ~ TruncNormal(rate, 0.1, [0, 1]); else the label
    is drawn from softmax(x W_y) without class y, W_y ~ N(0, 1) of shape [H·W·C, K], pixels in [0, 1].

    Takes time in proportion to K² · H · W · C: half a second for CIFAR-100.
    """
    class_count = len(clean.class_names)
    pixel_count = int(np.prod(clean.images.shape[1:]))
    own_rates = generator.normal(rate, _INSTANCE_RATE_SPREAD, len(clean.labels))
    # What falls outside is drawn again. `scipy.stats.truncnorm` draws other numbers: no labels may change with it.
    while (is_outside := (own_rates < 0) | (own_rates > 1)).any():
        own_rates[is_outside] = generator.normal(rate, _INSTANCE_RATE_SPREAD, int(is_outside.sum()))
    is_flipped = generator.random(clean.labels.shape) < own_rates

    noisy = clean.labels.copy()
    for label in range(class_count):
        projection = generator.standard_normal((pixel_count, class_count))  # W_y: [H·W·C, K]
        flipped = np.flatnonzero(is_flipped & (clean.labels == label))
        for start in range(0, len(flipped), _IMAGES_AT_ONCE):
            index = flipped[start : start + _IMAGES_AT_ONCE]
            # float64: in float32 the rounding of another BLAS could change a label, and the fingerprint with it
            pixels = clean.images[index].reshape(len(index), pixel_count).astype(np.float64) / 255
            # Gumbel-max: the largest of scores plus Gumbel noise is a draw from their softmax
            scores = pixels @ projection + generator.gumbel(size=(len(index), class_count))
            scores[:, label] = -np.inf
            noisy[index] = scores.argmax(axis=1)
    return noisy


NOISE_KINDS: dict[NoiseKind, NoiseFunction] = {
    "symmetric_exclusive": symmetric_exclusive,
    "symmetric_inclusive": symmetric_inclusive,
    "asymmetric": asymmetric,
    "pair_flip": pair_flip,
    "instance_dependent": instance_dependent,
}
