"""The published settings by noise rate, and the controls that a search trains to the end.

Source: the reference implementation's table for CIFAR-10 and CIFAR-100 (Jiang et al. 2020); burn-in is 10 in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

# noise rate: (mixup_alpha, loss_p_percentile, second_reweight)
_FEW_CLASSES = {0.2: (2.0, 0.8, False), 0.4: (8.0, 0.6, False), 0.6: (8.0, 0.6, True), 0.8: (4.0, 0.2, True)}
_MANY_CLASSES = {0.2: (2.0, 0.7, False), 0.4: (8.0, 0.5, False), 0.6: (4.0, 0.3, True), 0.8: (8.0, 0.1, True)}
_CLASSES_OF_CIFAR100 = 100
ASSUMED_NOISE = 0.4  # of which the row trains first: the noise rate is not known

ControlName = Literal["published", "mixup", "plain"]
BASELINES = ("mixup", "plain")  # no MentorMix: to compare with, never the answer


def published_setting(noise: float, num_classes: int) -> dict[str, Any]:
    """Returns the published hyperparameters of the nearest noise rate; CIFAR-100's for as many classes."""
    table = _MANY_CLASSES if num_classes >= _CLASSES_OF_CIFAR100 else _FEW_CLASSES
    alpha, percentile, second = table[min(table, key=lambda rate: abs(rate - noise))]
    return {"mixup_alpha": alpha, "loss_p_percentile": percentile, "burn_in": 10.0, "second_reweight": second}


def published_row(config: Mapping[str, Any]) -> float | None:
    """Returns the noise rate for which a configuration's values were published; None for other values."""
    values = tuple(config.get(key) for key in ("mixup_alpha", "loss_p_percentile", "second_reweight"))
    rows = [*_FEW_CLASSES.items(), *_MANY_CLASSES.items()]  # no row of one table is in the other
    return next((rate for rate, row in rows if row == values), None)


def control_configs(
    names: Iterable[ControlName], num_classes: int, noise: float = ASSUMED_NOISE
) -> dict[str, dict[str, Any]]:
    """Returns what each of these controls sets, in this order; all else stays as in the search."""
    published = published_setting(noise, num_classes)
    mixup = published | {"mentor": "uniform", "second_reweight": False}
    if published["second_reweight"]:  # the published runs had no weight decay there
        published |= {"decay_under_second_reweight": False}
    controls = {"published": published, "mixup": mixup, "plain": mixup | {"mixup_alpha": 0.0}}
    return {name: controls[name] for name in names}
