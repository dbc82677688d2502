"""Making an experiment's folder: by one driver only, and with nothing left behind where that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from pydantic import ValidationError

from trainables.data import Dataset
from trainables.errors import one_line
from tune_mentormix.config.settings import (
    BUDGETS,
    RECORD_KEYS,
    SCHEMA_FILE,
    SearchSettings,
    option_name,
    settings_schema,
)
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

    Args:
        experiment: that has no folder yet, with its settings.
        dataset: whose label noise is recorded.

    Raises:
        RequestError: if the name is taken, by a driver that began at the same moment, too, or the storage cannot be
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
    """Under the lease; with `search.yaml`, the last of them, the experiment is there."""
    settings = experiment.path / SEARCH_FILE
    if settings.is_file():  # an object store makes the same folder for two drivers
        raise FileExistsError(str(settings))
    try:
        write_label_noise(experiment.path / LABEL_NOISE_FILE, dataset)
        record = experiment.settings_record() | {"provenance": experiment.provenance.model_dump(mode="json")}
        write_yaml(settings, record, schema=f"../{SCHEMA_FILE}")
    except OSError:
        with suppress(OSError):
            (experiment.path / LABEL_NOISE_FILE).unlink(missing_ok=True)
        raise
    with suppress(OSError):  # a help for editors, which a search can do without
        write_schema(experiment.path.parent / SCHEMA_FILE)


def write_schema(path: Location) -> None:
    """Writes the JSON schema of settings files, unless this version wrote it already. Raises OSError."""
    text = json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"
    if not path.is_file() or path.read_text() != text:
        write_atomically(path, text)


def stored_settings(
    experiment: Experiment, changes: dict[str, Any] | None = None, leave_out: Sequence[str] = ()
) -> SearchSettings:
    """The settings an experiment was started with, as this version accepts them, and what this run changes.

    Args:
        experiment: the search.
        changes: by settings key; None changes nothing.
        leave_out: settings that do not apply to this run.

    Raises:
        RequestError: one line that names the setting, its value and what is allowed.
    """
    values = read_yaml(experiment.path / SEARCH_FILE).values
    return changed_settings({key: value for key, value in values.items() if key not in leave_out}, changes)


def changed_settings(values: dict[str, Any], changes: dict[str, Any] | None = None) -> SearchSettings:
    """As `stored_settings`, of what a `search.yaml` holds or would hold."""
    stored = {key: value for key, value in values.items() if key not in RECORD_KEYS}
    given = {key: value for key, value in (changes or {}).items() if value is not None}
    try:
        return SearchSettings.model_validate(stored | given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        place = option_name(key) if key in given else SEARCH_FILE
        raise RequestError(f"{describe(first, SearchSettings)} ({place})") from error


def retraining_settings(experiment: Experiment, changes: dict[str, Any]) -> SearchSettings:
    """As `stored_settings`, for training on the search's configurations: the budgets of the search do not apply."""
    return stored_settings(experiment, changes, BUDGETS)


def resumed_settings(experiment: Experiment, storage: Location, changes: dict[str, Any]) -> SearchSettings:
    """As `stored_settings`, for going on with the search. Raises RequestError also if it would have fewer trials."""
    given = {key: value for key, value in changes.items() if value is not None}
    asked_before = {"num_samples": experiment.num_samples or None}
    settings = stored_settings(experiment, asked_before | given | {"storage": storage})
    if settings.num_samples < len(experiment.trials):
        raise RequestError(
            f"num_samples must be at least {len(experiment.trials)}, the trials started already, "
            f"got {settings.num_samples} (--trials)"
        )
    return settings
