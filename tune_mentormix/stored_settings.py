"""The settings of an experiment on the disk, with what a resume or a retraining changes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from tune_mentormix.config.settings import BUDGETS, RECORD_KEYS, SearchSettings
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment import SEARCH_FILE, Experiment
from tune_mentormix.storage.paths import Location


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
        return SearchSettings.model_validate(stored | given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        place = f"--{key.replace('_', '-')}" if key in given else SEARCH_FILE
        raise RequestError(f"{describe(first, SearchSettings)} ({place})") from error


def retraining_settings(experiment: Experiment, changes: dict[str, Any]) -> SearchSettings:
    """As `stored_settings`, for training on the search's configurations: the budgets of the search do not apply."""
    return stored_settings(experiment, changes, (*RECORD_KEYS, *BUDGETS))


def resumed_settings(experiment: Experiment, storage: Location, changes: dict[str, Any]) -> SearchSettings:
    """As `stored_settings`, for going on with the search. Raises RequestError also if it would have fewer trials."""
    given = {key: value for key, value in changes.items() if value is not None}
    asked_before = {"num_samples": experiment.num_samples or None}
    settings = stored_settings(experiment, asked_before | given | {"storage": storage})
    if settings.num_samples < len(experiment.trials):
        raise RequestError(
            f"num_samples must be at least {len(experiment.trials)}, the trials started already, "
            f"got {settings.num_samples} (--num-samples)"
        )
    return settings
