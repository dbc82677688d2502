"""Stratified, seeded splits of a labelled set into two parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_split(
    labels: NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out `fraction` of every class.

    Args:
        labels: [N], any integers.
        fraction: share to hold out, in (0, 1); per class rounded to the nearest image.
        generator: decides which images of a class are held out.

    Returns:
        Indices of the kept and of the held-out images, each ascending; together they are 0 … N − 1.
    """
    is_held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = round(fraction * len(members))
        is_held_out[generator.permutation(members)[:count]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
