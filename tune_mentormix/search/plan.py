"""What a search is asked to do, checked: settings, space and data, of a new search or of one on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainables.data import Dataset, load_dataset
from trainables.errors import DatasetError, NetworkError
from trainables.settings import TrialSettings
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.search_space import SearchSpace, resolve_space
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError, how_to_install
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.export.read import read_exported
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving, rung_epochs

EPOCHS_AFTER_BURN_IN = 0.15  # of a trial: what it trains with weights before the first rung (docs/search-policy.md)


@dataclass(frozen=True)
class SearchRequest:
    """A search whose settings, space and data were checked."""

    settings: SearchSettings
    space: SearchSpace
    dataset: Dataset

    def first_rung(self) -> int:
        """As set, or a little after the longest burn-in: until then a rung would reward fast learners only."""
        if self.settings.grace_period is not None:
            return self.settings.grace_period
        after = self.space.highest("burn_in", self.settings.trial) / 100 + EPOCHS_AFTER_BURN_IN
        return max(1, round(self.settings.epochs * after))

    def control_settings(self) -> dict[str, dict[str, Any]]:
        """All settings of a trial of each control, by name."""
        common = self.settings.common_trial_settings() | self.space.fixed
        controls = control_configs(self.dataset.noise_rate, len(self.dataset.class_names))
        return {name: TrialSettings(**(common | values)).model_dump() for name, values in controls.items()}

    def early_stopping(self) -> AsyncSuccessiveHalving:
        """ASHA as the settings ask for it, before any report; without rungs if every trial runs to its end."""
        settings, factor = self.settings, self.settings.reduction_factor
        if settings.scheduler == "none":
            return AsyncSuccessiveHalving()
        return AsyncSuccessiveHalving(rung_epochs(self.first_rung(), factor, settings.epochs), factor)


def check_request(settings: SearchSettings) -> SearchRequest:
    """Reads the space and what to start from, which are written out in the request's settings, and the data.

    Raises:
        RequestError: if they do not fit together, or the data or the network cannot be had.
    """
    _check_trackers(settings)
    written_out, space = read_space(settings)
    return SearchRequest(written_out, space, _load(settings))


def stored_request(experiment: Experiment, settings: SearchSettings) -> SearchRequest:
    """An experiment's request read back, with its data. Raises RequestError if these changed since it began."""
    request = check_request(settings)
    if request.dataset.fingerprint != experiment.provenance.dataset.fingerprint:
        name = experiment.name
        raise RequestError(f"the data of {name} changed since the search began: nothing would be comparable")
    return request


def _check_trackers(settings: SearchSettings) -> None:
    missing = next((name for name in settings.tracker if find_spec(name) is None), None)
    if missing:
        raise RequestError(f"tracker {missing} is not installed: {how_to_install(missing)} (--tracker)")


def _load(settings: SearchSettings) -> Dataset:
    from trainables.models import check_network  # imports torch

    try:
        check_network(settings.network, settings.common_trial_settings().get("pretrained", False))
        return load_dataset(settings.data_settings())
    except (DatasetError, NetworkError) as error:
        raise RequestError(str(error)) from error


def read_space(settings: SearchSettings) -> tuple[SearchSettings, SearchSpace]:
    """Reads the space and what to start from.

    Returns:
        The settings that hold both, and the space.

    Raises:
        RequestError: if there is no such space or start, or they do not fit together.
    """
    resolved, space = resolve_space(settings)
    if settings.start_from and not settings.first_trials:
        resolved = resolved.model_copy(update={"first_trials": first_trials(settings.start_from, space)})
    return resolved, space


MOST_TRIALS = 5  # of an earlier experiment


def first_trials(path: Path, space: SearchSpace) -> list[dict[str, Any]]:
    """The values to begin with, best first; each lies in the space.

    Args:
        path: an exported `best_config.yaml` or its folder, or the folder of an experiment.
        space: of the new search.

    Raises:
        RequestError: if there is nothing of that kind, or nothing in it lies in the space.
    """
    if (path / SEARCH_FILE).is_file():
        configs = [trial.config for trial in read_experiment(path.parent, path.name).ranked_trials()]
    else:
        configs = [read_exported(path).config.model_dump()]
    found: list[dict[str, Any]] = []
    for config in configs:
        values = space.values_inside(config)
        if values is not None and values not in found:
            found.append(values)
    if not found:
        searched = ", ".join(space.distributions)
        raise RequestError(f"nothing in {path} lies in this search's space of {searched} (--start-from)")
    return found[:MOST_TRIALS]
