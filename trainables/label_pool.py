"""The images that training and validation share: which they are, their labels, and their clean labels if known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.errors import DatasetError
from trainables.label_files import LabelFile, read_label_file
from trainables.noise import NOISE_KINDS, CleanData
from trainables.settings import DataSettings
from trainables.sources import Images, Labels, Source
from trainables.splits import stratified_choice


@dataclass(frozen=True)
class LabelPool:
    """Labels of P images of a source.

    Attributes:
        positions: [P] int64, ascending: where the images are in their source.
        labels: [P] int64 in [0, K), as given.
        clean_labels: [P] int64 where known.
        class_names: the K class names, in label order.
    """

    positions: Labels
    labels: Labels
    clean_labels: Labels | None
    class_names: tuple[str, ...]


def labelled_pool(source: Source, settings: DataSettings) -> LabelPool:
    """The source's own labels, or those of the label file; then its own, if it has any, are the clean ones.

    Raises:
        DatasetError: if the label file cannot be read, or does not fit the source.
    """
    if settings.labels_file is not None:
        file = read_label_file(settings.labels_file, settings.labels_key, source.class_names)
        return _pool_of_file(file, source, settings.labels_file)
    assert source.labels is not None  # a source without labels asks for a label file itself
    assert source.class_names is not None
    return LabelPool(np.arange(len(source.labels)), source.labels, source.clean_labels, source.class_names)


def limited(pool: LabelPool, count: int | None, generator: np.random.Generator) -> LabelPool:
    """At most `count` images, every class keeping its share; None: all."""
    if count is None or count >= len(pool.labels):
        return pool
    chosen = stratified_choice(pool.labels, count, generator)
    return replace(
        pool,
        positions=pool.positions[chosen],
        labels=pool.labels[chosen],
        clean_labels=None if pool.clean_labels is None else pool.clean_labels[chosen],
    )


def with_noise(pool: LabelPool, images: Images, settings: DataSettings, generator: np.random.Generator) -> LabelPool:
    """The labels with synthetic noise, if the settings ask for it; what they were before are then the clean labels.

    Args:
        pool: its labels are taken to be clean.
        images: [P, H, W, C] uint8.
        settings: kind and rate.
        generator: decides which labels change.

    Raises:
        DatasetError: if the labels are known to be noisy already, or the noise kind does not fit the classes.
    """
    if settings.noise == 0:
        return pool
    if pool.clean_labels is not None and not np.array_equal(pool.labels, pool.clean_labels):
        raise DatasetError(f"noise must be 0 for labels that are noisy already, got {settings.noise}")
    clean = CleanData(images, pool.labels, pool.class_names, settings.noise_map)
    noisy_labels = NOISE_KINDS[settings.noise_kind](clean, settings.noise, generator)
    return replace(pool, labels=noisy_labels, clean_labels=pool.labels)


def _pool_of_file(file: LabelFile, source: Source, path: Path) -> LabelPool:
    known_labels = source.clean_labels if source.clean_labels is not None else source.labels
    if file.image_names is not None:
        positions, order = _positions_of(file.image_names, source, path)
        clean_labels = None if known_labels is None else known_labels[positions]
        return LabelPool(positions, file.labels[order], clean_labels, file.class_names)

    if len(file.labels) != source.image_count:
        raise DatasetError(f"labels_file {path} has {len(file.labels)} labels for {source.image_count} images")
    clean_labels = known_labels if known_labels is not None else file.clean_labels
    if (
        file.clean_labels is not None
        and known_labels is not None
        and not np.array_equal(file.clean_labels, known_labels)
    ):
        raise DatasetError(
            f"labels_file {path} is for other images or another order: its clean_label is not the dataset's labels"
        )
    return LabelPool(np.arange(source.image_count), file.labels, clean_labels, file.class_names)


def _positions_of(image_names: tuple[str, ...], source: Source, path: Path) -> tuple[Labels, Labels]:
    """Where the named images are in the source, ascending, and the order of the names that makes it so."""
    if source.image_names is None:
        raise DatasetError(f"labels_file {path} names images, but those of this dataset have no names, only an order")
    position_of = {name: position for position, name in enumerate(source.image_names)}
    missing = [name for name in image_names if name not in position_of]
    if missing:
        raise DatasetError(
            f"labels_file {path} names {len(missing)} images that the dataset does not have, first {missing[0]!r} "
            f"(its own are named like {source.image_names[0]!r})"
        )
    positions = np.asarray([position_of[name] for name in image_names], dtype=np.int64)
    order = np.argsort(positions)
    return positions[order], order
