"""Stratified, seeded choices: every class keeps its fraction, and totals are exact."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray


def stratified_choice(labels: NDArray[np.int64], count: int, generator: Generator) -> NDArray[np.int64]:
    """Chooses `count` of the N images so that every class keeps its fraction of them, to the nearest image.

    Returns their positions, ascending. `labels` [N] may be any integers.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = sizes * count / len(labels)
    counts = np.floor(quotas).astype(np.int64)
    largest_remainders = np.argsort(counts - quotas, kind="stable")[: count - counts.sum()]
    counts[largest_remainders] += 1

    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:class_count]
        for label, class_count in zip(classes, counts, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def stratified_split(
    labels: NDArray[np.int64], fraction: float, generator: Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Holds out `fraction` (0 … 1) of the images, the same of every class.

    Returns the positions of the kept and of the held-out images, each ascending; together they are 0 … N − 1.
    """
    held_out = stratified_choice(labels, round(fraction * len(labels)), generator)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def stratified_folds(labels: NDArray[np.int64], count: int, generator: Generator) -> list[NDArray[np.int64]]:
    """Partitions N images into `count` folds of equal size, each with the same of every class, to the nearest image.

    Returns the positions of each fold, ascending.
    """
    by_class = [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    dealt = np.concatenate(by_class)
    return [np.sort(dealt[first::count]) for first in range(count)]
