"""Presets by name: the rules of MentorMix as one source states them, as settings of a trial.

A preset says how a step is computed, not what a search is for: mixup alpha, percentile, burn-in and second reweight
depend on the noise, network and epochs on the budget. `docs/method.md` gives each difference with its source.
"""

from __future__ import annotations

from typing import Any

_COMMON: dict[str, Any] = {
    "partner_temperature": 1.0,
    "learning_rate": 0.1,
    "lr_schedule": "steps",
    "weight_decay": 2e-4,
    "batch_size": 128,
    "ema": 0.05,  # 0.9999, the reference's decay, is a twentieth of its 200,000 steps
    "augmentation": "reference",
}

PRESETS: dict[str, dict[str, Any]] = {
    "reference": _COMMON
    | {
        "mentor": "mentornet_pd",
        "mixing": "hard",
        "decay_under_second_reweight": False,
    },
    "paper": _COMMON
    | {
        "mentor": "threshold",
        "mixing": "interpolated",
        "decay_under_second_reweight": True,
    },
}
"""Name → keys of `TrialSettings`; what a search space or an option sets as well wins."""
