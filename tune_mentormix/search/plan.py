"""Checks what a search is asked to do: settings, space and data, of a new search or of one on the disk.

Torch and Ray are imported only once they are needed: what is wrong with a request is told before they are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from trainables.data import Dataset, load_dataset
from trainables.errors import DatasetError, MissingPackageError, NetworkError, PluginError
from trainables.metrics import TOP, try_metric
from trainables.plugins import PluginKind, allow_plugins, is_plugin, within_time
from trainables.settings import LIBRARY_PREFIXES, PRESETS, TrialSettings, metric_key
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.search_space import SearchSpace, resolve_space
from tune_mentormix.config.settings import SearchSettings, default_name, default_owner, with_storage
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError, how_to_install
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, experiment_path
from tune_mentormix.experiment.plugins import allow_recorded
from tune_mentormix.search.warm_start import changed_weights, read_start, settle_start
from tune_mentormix.storage.listing import has_file
from tune_mentormix.storage.paths import check_new

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving

AUGMENTED_IMAGES = 8  # that an augmentation is tried with
MAX_METRIC_LABELS = 1_000  # that a metric is tried with
IMBALANCE = 10  # times as many images in the largest class as in the smallest
EPOCHS_AFTER_BURN_IN = 0.15  # of a trial: what it trains with weights before the first rung (docs/search-policy.md)


@dataclass(frozen=True)
class SearchRequest:
    """A search whose settings, space and data were checked."""

    settings: SearchSettings
    space: SearchSpace
    dataset: Dataset

    def first_rung(self) -> int:
        """Returns the epoch that is set, or one after the longest burn-in: earlier, fast learners would win."""
        if self.settings.grace_period is not None:
            return self.settings.grace_period
        after = self.space.highest("burn_in", self.settings.trial) / 100 + EPOCHS_AFTER_BURN_IN
        return max(1, round(self.settings.epochs * after))

    def control_settings(self) -> dict[str, dict[str, Any]]:
        """All settings of a trial of each control, by name; `published` as it trains first."""
        common = self.settings.common_trial_settings() | self.space.fixed
        controls = control_configs(self.settings.controls, len(self.dataset.class_names))
        return {name: TrialSettings(**(common | values)).model_dump() for name, values in controls.items()}

    def early_stopping(self) -> AsyncSuccessiveHalving:
        """ASHA as the settings ask for it, before any report; without rungs if every trial runs to its end."""
        from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving, rung_epochs  # imports Ray

        settings, factor = self.settings, self.settings.reduction_factor
        if settings.scheduler == "none":
            return AsyncSuccessiveHalving()
        rungs = rung_epochs(self.first_rung(), factor, settings.epochs)
        return AsyncSuccessiveHalving(rungs, factor, metric_key(settings.metric))


def new_request(settings: SearchSettings) -> SearchRequest:
    """Checks the request of a search that is to be started, as `check_request` does, and its name and sizes.

    Raises RequestError also if the name is taken, a batch would be larger than the training set, or the warm-up or
    the frozen backbone would last for the whole of a trial.
    """
    path = experiment_path(settings.storage, settings.name or default_name(settings))
    if has_file(path / SEARCH_FILE):
        resume = with_storage(f"resume {path.name}", path.parent)
        raise RequestError(f"{path} exists already; choose another --name, or resume it: {resume}")
    check_new(path)
    request = check_request(
        settings.model_copy(update={"name": path.name, "owner": settings.owner or default_owner()})
    )
    start = settle_start(request.settings, request.space, request.dataset.fingerprint)
    request = replace(request, settings=start)
    _check_sizes(request)
    _warn_of_imbalance(request)
    return request


def _warn_of_imbalance(request: SearchRequest) -> None:
    """Warns where classes have very different numbers of images, and the metric does not weight them equally."""
    names = request.dataset.class_names
    counts = np.bincount(request.dataset.train_labels, minlength=len(names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] >= IMBALANCE * counts[least] and request.settings.metric in ("val_accuracy", "top5_accuracy"):
        logger.warning(
            "class %s has %s training images and class %s only %s: accuracy is mostly that of the large classes; "
            "balanced_accuracy or macro_f1 count all classes alike (--metric)",
            *(names[most], f"{counts[most]:,}", names[least], f"{counts[least]:,}"),
        )


def _check_sizes(request: SearchRequest) -> None:
    settings, images = request.settings, len(request.dataset.train_images)

    def largest(name: str) -> float:
        shared = request.space.highest(name, settings.common_trial_settings())
        return float(max([shared, *(trial.get(name, 0) for trial in settings.first_trials)]))

    batch = largest("batch_size")
    if batch > images:
        raise RequestError(
            f"batch_size must be at most the number of training images, {images}, got {batch:g}: "
            f"make it smaller, such as --set batch_size={max(2, images // 8)}"
        )
    for name in ("warm_up_epochs", "freeze_backbone_epochs"):
        if largest(name) >= settings.epochs:
            preset = PRESETS.get(settings.preset or "", {}).get(name)
            is_presets = preset == largest(name) and name not in {
                *settings.trial,
                *request.space.fixed,
                *request.space.distributions,
            }
            whose = f" from preset {settings.preset}: lower it with --set {name}=…, or raise --epochs"
            raise RequestError(
                f"{name} must be less than the {settings.epochs} epochs of a trial, got {largest(name):g}"
                + (whose if is_presets else "")
            )


def check_request(settings: SearchSettings, begun: Experiment | None = None) -> SearchRequest:
    """Reads search space, warm start and data; the request's settings hold the first two in full.

    `begun` is the experiment of a search that was started before. Raises RequestError if they do not fit together, or
    if the data, the network, a plug-in or a tracker is missing, or a plug-in or a weights file is another one than
    before.
    """
    missing = next((name for name in settings.tracker if find_spec(name) is None), None)
    if missing:
        raise RequestError(f"tracker {missing} is not installed: {how_to_install(missing)} (--tracker)")
    written_out, space = read_space(settings)
    plugins = written_out.plugins()
    if begun:
        allow_recorded(plugins, begun.provenance.plug_ins, begun.name)
        if changed := changed_weights(begun.provenance.weights, written_out):
            raise RequestError(
                f"weights {changed} are not those that {begun.name} began with: restore the file, or search again"
            )
    allow_plugins(plugins)
    try:
        dataset = load_dataset(settings.data_settings())
        _check_networks(written_out, space, dataset)
        _check_metric(written_out.metric, dataset)
        _check_parts_of_step(plugins, dataset)
    except (DatasetError, NetworkError, PluginError, MissingPackageError) as error:
        raise RequestError(str(error)) from error
    return SearchRequest(written_out, space, dataset)


def stored_request(experiment: Experiment, settings: SearchSettings) -> SearchRequest:
    """Reads the request of an experiment again, with its data. Raises RequestError if the data changed."""
    request = check_request(settings, experiment)
    if request.dataset.fingerprint != experiment.provenance.dataset.fingerprint:
        raise RequestError(
            f"the data of {experiment.name} changed since the search began, so nothing would be comparable: "
            "restore them, or start another search"
        )
    return request


def _check_metric(metric: str, dataset: Dataset) -> None:
    """Calls a metric of the user's own once; refuses the top five of so few classes that it tells nothing."""
    classes = len(dataset.class_names)
    if metric == "top5_accuracy" and classes <= TOP:
        raise RequestError(f"metric top5_accuracy is 1 for {classes} classes: choose another (--metric)")
    if is_plugin(metric):
        try_metric(metric, dataset.validation_labels[:MAX_METRIC_LABELS].copy(), classes)


def _check_parts_of_step(plugins: Mapping[str, PluginKind], dataset: Dataset) -> None:
    """Calls the mentors and augmentations of the user's own once, the latter with images of the dataset."""
    if not {"mentor", "augmentation"} & set(plugins.values()):
        return
    import torch

    from trainables.augment import try_augmentation
    from trainables.mentors import try_mentor
    from trainables.training import to_float

    images = to_float(torch.tensor(dataset.train_images[:AUGMENTED_IMAGES]))
    for name, kind in plugins.items():
        if kind == "mentor":
            within_time(kind, name, partial(try_mentor, name))
        elif kind == "augmentation":
            within_time(kind, name, partial(try_augmentation, name, images))


def _check_networks(settings: SearchSettings, space: SearchSpace, dataset: Dataset) -> None:
    """Checks that trials can build their network from each start that the search may give them."""
    common = settings.common_trial_settings() | space.fixed
    starts = [space.values_of(name, common.get(name)) for name in ("pretrained", "weights")]
    is_ours = not settings.network.startswith(LIBRARY_PREFIXES) and not is_plugin(settings.network)
    if is_ours and starts[1] == (None,):
        return
    from trainables.models import check_network  # imports torch

    for pretrained, weights in product(*starts):
        start = {"network": settings.network, "pretrained": pretrained or False, "weights": weights}
        try:
            trial = TrialSettings.model_validate(start)
        except ValidationError as error:
            raise RequestError(describe(error.errors()[0], TrialSettings)) from error
        height, width, channels = dataset.train_images.shape[1:]
        check_network(trial, len(dataset.class_names), channels, (height, width))


def read_space(settings: SearchSettings) -> tuple[SearchSettings, SearchSpace]:
    """Returns the space, and the settings with space and warm start written out. Raises RequestError if it cannot."""
    resolved, space = resolve_space(settings)
    return read_start(resolved, space), space
