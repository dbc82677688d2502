"""What a search is asked to do, checked: settings, space and data, of a new search or of one on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from trainables.datasets import Dataset, load_dataset
from trainables.errors import DatasetError, NetworkError
from trainables.networks import check_network
from trainables.settings import TrialSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment import SEARCH_FILE, Experiment
from tune_mentormix.messages import describe
from tune_mentormix.published import control_configs
from tune_mentormix.schedulers import RULES, StoppingRule
from tune_mentormix.settings import BUDGETS, RECORD_KEYS, SearchSettings, changed
from tune_mentormix.space import SearchSpace, check_grid, load_space, parse_space
from tune_mentormix.start_from import first_trials
from tune_mentormix.yaml_files import YamlDocument

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

    def rungs(self) -> StoppingRule:
        """The rule that stops trials early, before it saw any."""
        settings = self.settings
        return RULES[settings.scheduler](self.first_rung(), settings.reduction_factor, settings.epochs)


def check_request(settings: SearchSettings) -> SearchRequest:
    """Reads the space and what to start from, which are written out in the request's settings, and the data.

    Raises:
        RequestError: if they do not fit together, or the data or the network cannot be had.
    """
    _check_trackers(settings)
    space = settings.space
    document = load_space(space) if isinstance(space, str) else YamlDocument(space, "space")
    parsed = _parse_space(document, settings)
    first = settings.first_trials
    if settings.start_from and not first:
        first = first_trials(settings.start_from, parsed)
    written_out = settings.model_copy(update={"space": document.values, "first_trials": first})
    return SearchRequest(written_out, parsed, _load(settings))


def stored_settings(
    experiment: Experiment, changes: dict[str, Any] | None = None, leave_out: Sequence[str] = RECORD_KEYS
) -> SearchSettings:
    """The settings an experiment was started with, and what this run changes; None changes nothing.

    Args:
        experiment: the search.
        changes: by settings key.
        leave_out: keys of `search.yaml` that are not settings of this run.

    Raises:
        RequestError: one line that names the setting, its value and what is allowed.
    """
    stored = {key: value for key, value in experiment.settings.items() if key not in leave_out}
    given = {key: value for key, value in (changes or {}).items() if value is not None}
    try:
        return SearchSettings.model_validate(changed(stored, given))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        place = f"--{key.replace('_', '-')}" if key in given else SEARCH_FILE
        raise RequestError(f"{describe(first, SearchSettings)} ({place})") from error


def retraining_settings(experiment: Experiment, changes: dict[str, Any]) -> SearchSettings:
    """As `stored_settings`, for training on the search's configurations: the budgets of the search do not apply."""
    return stored_settings(experiment, changes, (*RECORD_KEYS, *BUDGETS))


def stored_request(experiment: Experiment, settings: SearchSettings) -> SearchRequest:
    """An experiment's request read back, with its data. Raises RequestError if these changed since it began."""
    request = check_request(settings)
    if request.dataset.fingerprint != experiment.settings["provenance"]["dataset"]["fingerprint"]:
        name = experiment.name
        raise RequestError(f"the data of {name} changed since the search began: nothing would be comparable")
    return request


def _check_trackers(settings: SearchSettings) -> None:
    missing = next((name for name in settings.tracker if find_spec(name) is None), None)
    if missing:
        raise RequestError(f"tracker {missing} is not installed: uv sync --extra {missing} (--tracker)")


def _parse_space(document: YamlDocument, settings: SearchSettings) -> SearchSpace:
    space = parse_space(document)
    twice = sorted(settings.trial.keys() & document.values.keys())
    if twice:
        where = f"set for all trials, and by the space too ({document.source})"
        raise RequestError(f"{twice[0]} is {where}: leave one out")
    if settings.sampler == "grid":
        check_grid(space, document)
    return space


def _load(settings: SearchSettings) -> Dataset:
    try:
        check_network(settings.network, settings.common_trial_settings().get("pretrained", False))
        return load_dataset(settings.data_settings())
    except (DatasetError, NetworkError) as error:
        raise RequestError(str(error)) from error
