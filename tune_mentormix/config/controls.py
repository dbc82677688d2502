"""The published settings by noise rate, and the controls that every search trains to the end.

Source: the reference implementation's table for CIFAR-10 and CIFAR-100 (Jiang et al. 2020); burn-in is 10 in all.
"""

from __future__ import annotations

from typing import Any

# noise rate: (mixup_alpha, loss_p_percentile, second_reweight)
_FEW_CLASSES = {0.2: (2.0, 0.8, False), 0.4: (8.0, 0.6, False), 0.6: (8.0, 0.6, True), 0.8: (4.0, 0.2, True)}
_MANY_CLASSES = {0.2: (2.0, 0.7, False), 0.4: (8.0, 0.5, False), 0.6: (4.0, 0.3, True), 0.8: (8.0, 0.1, True)}
_CLASSES_OF_CIFAR100 = 100
_ASSUMED_NOISE = 0.4  # where the noise rate is not known

CONTROLS = ("published", "mixup", "plain")
BASELINES = ("mixup", "plain")  # no MentorMix: to compare with, never the answer


def published_setting(noise: float | None, num_classes: int) -> dict[str, Any]:
    """Returns the published hyperparameters of the nearest noise rate; CIFAR-100's for as many classes."""
    table = _MANY_CLASSES if num_classes >= _CLASSES_OF_CIFAR100 else _FEW_CLASSES
    nearest = min(table, key=lambda rate: abs(rate - (_ASSUMED_NOISE if noise is None else noise)))
    alpha, percentile, second = table[nearest]
    return {"mixup_alpha": alpha, "loss_p_percentile": percentile, "burn_in": 10.0, "second_reweight": second}


def control_configs(noise: float | None, num_classes: int) -> dict[str, dict[str, Any]]:
    """Returns what each control sets, in the order of `CONTROLS`; all else stays as in the search."""
    published = published_setting(noise, num_classes)
    mixup = published | {"mentor": "uniform", "second_reweight": False}
    if published["second_reweight"]:  # the published runs had no weight decay there
        published |= {"decay_under_second_reweight": False}
    return {"published": published, "mixup": mixup, "plain": mixup | {"mixup_alpha": 0.0}}
