"""Making an experiment's folder: by one driver only, and with nothing left behind where that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from pydantic import ValidationError

from trainables.data import Dataset
from trainables.errors import one_line, shorten
from tune_mentormix.config.settings import (
    BUDGETS,
    RECORD_KEYS,
    SCHEMA_FILE,
    SearchSettings,
    option_name,
)
from tune_mentormix.config.settings_file import settings_schema
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE, write_label_noise
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location, remove_new, write_atomically
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml


@contextmanager
def hold_new_experiment(experiment: Experiment, dataset: Dataset) -> Iterator[None]:
    """Makes the experiment's folder with its first files, and holds its lease while the block runs.

    Raises RequestError if the name is taken, even by a driver that began at the same moment, or the storage cannot be
    written.
    """
    path = experiment.path
    with ExitStack() as held:
        try:
            path.mkdir(parents=True)
            try:
                held.enter_context(Lease(path).acquire())
                _write_first_files(experiment, dataset)
            except (OSError, RequestError):
                held.close()
                remove_new(path)
                raise
        except FileExistsError as error:
            raise RequestError(f"{path} exists already; choose another --name") from error
        except OSError as error:
            raise RequestError(f"storage {path.parent} cannot be written: {one_line(error)} (--storage)") from error
        yield


def _write_first_files(experiment: Experiment, dataset: Dataset) -> None:
    """Writes the files of a new experiment, under its lease; with `search.yaml`, the last, the experiment exists."""
    settings = experiment.path / SEARCH_FILE
    if settings.is_file():  # an object store makes the same folder for two drivers
        raise FileExistsError(str(settings))
    try:
        write_label_noise(experiment.path / LABEL_NOISE_FILE, dataset)
        write_yaml(settings, experiment.search_record(), schema=f"../{SCHEMA_FILE}")
    except OSError:
        with suppress(OSError):
            (experiment.path / LABEL_NOISE_FILE).unlink(missing_ok=True)
        raise
    with suppress(OSError):  # a help for editors, which a search can do without
        schema = experiment.path.parent / SCHEMA_FILE
        text = json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"
        if not schema.is_file() or schema.read_text() != text:
            write_atomically(schema, text)


def changed_settings(values: dict[str, Any], changes: dict[str, Any] | None = None) -> SearchSettings:
    """Returns the settings that a `search.yaml` holds, as this version accepts them, with changes (None: no change).

    Raises RequestError in one line that names the setting, its value and what is allowed.
    """
    stored = {key: value for key, value in values.items() if key not in RECORD_KEYS}
    given = {key: value for key, value in (changes or {}).items() if value is not None}
    try:
        return SearchSettings.model_validate(stored | given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        place = option_name(key) if key in given else SEARCH_FILE
        raise RequestError(f"{describe(first, SearchSettings)} ({place})") from error


def stored_settings(experiment: Experiment, changes: dict[str, Any] | None = None) -> SearchSettings:
    """Returns the settings an experiment was started with, changed as `changed_settings` does it."""
    return changed_settings(_stored_values(experiment), changes)


def retraining_settings(experiment: Experiment, changes: dict[str, Any]) -> SearchSettings:
    """Returns the settings for training the search's configurations again: without the budgets of the search."""
    values = _stored_values(experiment)
    return changed_settings({key: value for key, value in values.items() if key not in BUDGETS}, changes)


def _difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """Returns the innermost key at which two settings of one name differ, and its values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}, key=str):
            if before.get(key) != now.get(key):
                return _difference(f"{name}.{key}", before.get(key), now.get(key))
    return name, before, now


def _stored_values(experiment: Experiment) -> dict[str, Any]:
    """Reads `search.yaml` again. Raises RequestError if it is not what the search was started with."""
    now = experiment.settings_record()
    for key, before in experiment.started_with.items():
        if now.get(key, before) != before:
            name, old, new = _difference(key, before, now[key])
            raise RequestError(
                f"{name} is {shorten(new)} in {experiment.path / SEARCH_FILE}, but the search was started with "
                f"{shorten(old)}: set it back, or start another search"
            )
    return read_yaml(experiment.path / SEARCH_FILE).values


def resumed_settings(experiment: Experiment, storage: Location, changes: dict[str, Any]) -> SearchSettings:
    """Returns the settings for resuming the search. Raises RequestError also if it would have fewer trials."""
    given = {key: value for key, value in changes.items() if value is not None}
    asked_before = {"num_samples": experiment.num_samples or None}
    settings = stored_settings(experiment, asked_before | given | {"storage": storage})
    if settings.num_samples < len(experiment.trials):
        raise RequestError(
            f"num_samples must be at least {len(experiment.trials)}, the trials started already, "
            f"got {settings.num_samples} (--trials)"
        )
    return settings
