"""How many trials share a GPU where that is left to be measured: the largest that the space can propose is tried out.

It is decided before the experiment is created, and `search.yaml` holds the number, so a resume keeps it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import ray
from optuna.distributions import CategoricalDistribution
from ray.exceptions import RayError

from trainables.memory_probe import MemoryUse, measure_memory
from trainables.settings import TrialSettings
from tune_mentormix.cluster import most_per_gpu
from tune_mentormix.console import print_packing
from tune_mentormix.errors import RequestError
from tune_mentormix.request import SearchRequest
from tune_mentormix.settings import SearchSettings

MARGIN = 0.15  # of the GPU, left free: the measured steps are a few, and memory falls into pieces
MOST_TRIALS = 16  # on one GPU, however small they are: they share its time too
# Numbers of which more takes more memory, and choices on which it depends; all others leave it as it is.
_SIZES = ("batch_size", "mixup_alpha", "ema")
_KINDS = ("second_reweight", "mentor", "augmentation", "precision")


def decide_packing(request: SearchRequest) -> tuple[SearchSettings, dict[str, Any]]:
    """Measures how many trials fit a GPU if `trials_per_gpu` is auto; leaves settings that are decided as they are.

    Returns:
        The settings with a number of trials, and what was measured, for the provenance: nothing where nothing was.

    Raises:
        RequestError: if there is no GPU to measure on, or the measuring fails.
    """
    settings = request.settings
    if settings.trials_per_gpu != "auto":
        return settings, {}
    use = _measure(request)
    trials = packed(use.peak, use.total, MARGIN, min(MOST_TRIALS, most_per_gpu(settings)))
    print_packing(trials, use.peak, use.total, use.device)
    measured = {"trials_per_gpu": trials, "peak_bytes": use.peak, "total_bytes": use.total, "margin": MARGIN}
    decided = settings.model_copy(update={"trials_per_gpu": trials})
    return decided, {"packing": measured | {"device": use.device}}


def packed(peak: int, total: int, margin: float, most: int) -> int:
    """How many trials share a GPU; at least 1, also where even that is tight.

    Args:
        peak: bytes that the largest trial takes.
        total: bytes of the GPU.
        margin: share of the GPU to leave free, in [0, 1).
        most: what else allows no more, such as CPU cores.
    """
    return max(1, min(int(total * (1 - margin)) // peak, most))


def largest_configs(request: SearchRequest) -> list[dict[str, Any]]:
    """The few configurations one of which needs the most memory of all that the search can propose."""
    space, shared = request.space, request.settings.common_trial_settings()
    defaults = TrialSettings(**(shared | space.fixed)).model_dump()
    largest = defaults | {name: space.highest(name, shared) for name in _SIZES}
    kinds = {name: _choices(request, name) for name in _KINDS}
    searched = [largest | dict(zip(kinds, chosen, strict=True)) for chosen in product(*kinds.values())]
    control = request.control_settings()["published"]  # not of the space; the other controls are less of the same
    train_images = len(request.dataset.train_images)
    return [
        config | {"burn_in": 0.0, "batch_size": min(int(config["batch_size"]), train_images)}
        for config in (*searched, control)
    ]


def _choices(request: SearchRequest, name: str) -> tuple[Any, ...]:
    distribution = request.space.distributions.get(name)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    shared = request.settings.common_trial_settings() | request.space.fixed
    return (shared.get(name, TrialSettings.model_fields[name].default),)


def _measure(request: SearchRequest) -> MemoryUse:
    """In a task with a whole GPU, whose process ends with it: it would keep its CUDA context."""
    settings = request.settings
    measure = ray.remote(num_cpus=settings.cpus_per_trial, num_gpus=1, max_calls=1, max_retries=0)(measure_memory)
    try:
        use: MemoryUse | None = ray.get(
            measure.remote(largest_configs(request), ray.put(request.dataset), settings.threads())
        )
    except RayError as error:
        reason = " ".join(str(error).split())[-300:]
        raise RequestError(f"trials_per_gpu auto could not be measured, give a number: {reason}") from error
    if use is None:
        raise RequestError(
            "trials_per_gpu auto needs a GPU to measure on, and torch finds none: give a number (--trials-per-gpu)"
        )
    return use
