"""Label noise: names → functions that turn clean labels into noisy ones.

Pure NumPy on whole arrays. Which generator is used is the caller's business (`trainables.datasets`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.settings import NoiseKind


@dataclass(frozen=True)
class CleanData:
    """What a noise function may look at.

    Attributes:
        images: [N, H, W, C] uint8.
        labels: [N] int64 in [0, K), believed clean.
        class_names: the K class names, in label order.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


NoiseFunction = Callable[[CleanData, float, np.random.Generator], NDArray[np.int64]]


def symmetric_exclusive(clean: CleanData, rate: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """With probability `rate`, replace a label by one of the K − 1 others, each as likely.

    The realised noise rate is `rate` in expectation.
    """
    class_count = len(clean.class_names)
    is_flipped = generator.random(clean.labels.shape) < rate
    offsets = generator.integers(1, class_count, size=clean.labels.shape)
    return np.where(is_flipped, (clean.labels + offsets) % class_count, clean.labels)


def symmetric_inclusive(clean: CleanData, rate: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """With probability `rate`, replace a label by one of all K classes, the true one included.

    The realised noise rate is `rate · (K − 1) / K` in expectation: nominal 80 % is 72 % for ten classes.
    """
    is_redrawn = generator.random(clean.labels.shape) < rate
    drawn = generator.integers(0, len(clean.class_names), size=clean.labels.shape)
    return np.where(is_redrawn, drawn, clean.labels)


NOISE_KINDS: dict[NoiseKind, NoiseFunction] = {
    "symmetric_exclusive": symmetric_exclusive,
    "symmetric_inclusive": symmetric_inclusive,
}
