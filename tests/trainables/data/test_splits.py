"""Stratified choices: exact totals, equal fractions, nothing lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.splits import stratified_choice, stratified_folds, stratified_split

label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=200)


@given(labels=label_lists, fraction=st.floats(0.001, 0.999), seed=st.integers(0, 99))
def test_a_split_loses_no_image_and_holds_out_the_fraction_asked_for(
    labels: list[int], fraction: float, seed: int
) -> None:
    kept, held_out = stratified_split(np.asarray(labels), fraction, np.random.default_rng(seed))

    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    assert len(held_out) == round(fraction * len(labels))


@given(labels=label_lists, fraction=st.floats(0, 1), seed=st.integers(0, 99))
def test_every_class_keeps_its_fraction_to_the_nearest_image(labels: list[int], fraction: float, seed: int) -> None:
    count = int(fraction * len(labels))

    chosen = stratified_choice(np.asarray(labels), count, np.random.default_rng(seed))

    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    for label in set(labels):
        assert abs(np.sum(np.asarray(labels)[chosen] == label) - labels.count(label) * count / len(labels)) < 1


@given(labels=label_lists, count=st.integers(1, 12), seed=st.integers(0, 99))
def test_folds_partition_the_images_and_share_every_class_alike(labels: list[int], count: int, seed: int) -> None:
    folds = stratified_folds(np.asarray(labels), count, np.random.default_rng(seed))

    assert sorted(np.concatenate(folds)) == list(range(len(labels)))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    for label in set(labels):
        counts = [int(np.sum(np.asarray(labels)[fold] == label)) for fold in folds]
        assert max(counts) - min(counts) <= 1
