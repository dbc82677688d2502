"""How many trials share a GPU, and what the search tries out to know; nothing here needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables.settings import TrialSettings
from tune_mentormix.packing import largest_configs, packed
from tune_mentormix.request import check_request
from tune_mentormix.settings import SearchSettings

GIB = 2**30


@pytest.mark.parametrize(
    ("peak", "total", "margin", "most", "trials"),
    [
        (10 * GIB, 80 * GIB, 0.0, 100, 8),
        (10 * GIB, 80 * GIB, 0.15, 100, 6),  # 68 are left
        (17 * GIB, 80 * GIB, 0.15, 100, 4),  # exactly
        (70 * GIB, 80 * GIB, 0.15, 100, 1),  # tight, but it is all there is
        (80 * GIB, 80 * GIB, 0.15, 100, 1),
        (GIB // 2, 80 * GIB, 0.15, 16, 16),
        (10 * GIB, 80 * GIB, 0.15, 2, 2),
        (10 * GIB, 80 * GIB, 0.15, 0, 1),
    ],
)
def test_trials_share_a_gpu_as_far_as_memory_and_cpus_allow(
    peak: int, total: int, margin: float, most: int, trials: int
) -> None:
    assert packed(peak, total, margin, most) == trials


def configs_of(make: Callable[..., SearchSettings], storage: Path, **options: object) -> list[dict[str, Any]]:
    return largest_configs(check_request(make(storage, **options)))


def test_the_largest_batch_is_tried_out_with_everything_that_may_need_more(
    small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    space = {
        "batch_size": {"choices": [32, 64, 16]},
        "mixup_alpha": {"low": 0, "high": 4},
        "second_reweight": {"choices": [False, True]},
        "mentor": {"choices": ["uniform", "mentornet_pd"]},
    }
    *searched, _control = configs_of(small_settings, tmp_path, space=space)
    assert {config["batch_size"] for config in searched} == {64}
    assert all(config["mixup_alpha"] == 4 and config["burn_in"] == 0 for config in searched)
    assert {(config["second_reweight"], config["mentor"]) for config in searched} == {
        (second, mentor) for second in (False, True) for mentor in ("uniform", "mentornet_pd")
    }


def test_the_controls_are_tried_out_too_as_their_batch_may_be_none_of_the_space(
    small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    configs = configs_of(small_settings, tmp_path, space={"batch_size": {"choices": [16, 32]}})
    assert max(config["batch_size"] for config in configs) == TrialSettings().batch_size


def test_a_batch_larger_than_the_training_set_is_tried_out_as_large_as_it_can_be(
    small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    configs = configs_of(small_settings, tmp_path, max_images=50, trial={"batch_size": 512})
    assert {config["batch_size"] for config in configs} == {40}
    assert all(TrialSettings(**config) for config in configs)
