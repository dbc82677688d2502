"""What a search sent to the service may be: only what the server's own configuration allows.

It names its settings and nothing else: no storage, no cluster, no environment, no command. Paths must be among those
configured, spaces are written out or of the package, and trials, epochs, concurrency, time and resources are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces import shipped_spaces
from tune_mentormix.config.settings import RESUMABLE, SearchSettings, with_noise
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.service.submission import ALLOWED
from tune_mentormix.storage.yaml_files import YamlDocument


class NotAllowedError(RequestError):
    """What was asked for is wrong, or not allowed here."""


def admit(submitted: Mapping[str, Any], server: ServerSettings) -> SearchSettings:
    """The search that was asked for, bounded by what the server allows.

    Raises:
        NotAllowedError: one line that names the setting and what is allowed.
    """
    for key in submitted:
        if key not in ALLOWED:
            known = f"{key} is the server's to set" if key in SearchSettings.model_fields else f"unknown key {key!r}"
            raise NotAllowedError(f"{known}; a search may name {', '.join(sorted(ALLOWED))}")
    if not submitted.get("name"):
        raise NotAllowedError("name must be given")
    _check_space(submitted.get("space", "default"))
    return _bounded(with_noise(dict(submitted)), server)


def admit_changes(experiment: Experiment, changes: Mapping[str, Any], server: ServerSettings) -> dict[str, Any]:
    """What a resume changes, with the bounds that the server sets. Raises NotAllowedError as `admit` does."""
    for key in changes:
        if key not in RESUMABLE:
            raise NotAllowedError(f"{key} cannot change in a resume; these may: {', '.join(RESUMABLE)}")
    given = {key: value for key, value in changes.items() if value is not None}
    stored = experiment.settings.model_dump(mode="json", warnings=False)
    asked = {"num_samples": experiment.num_samples or stored["num_samples"]}
    settings = _bounded(stored | asked | given, server)
    chosen = {key: getattr(settings, key) for key in (*given, "gpus_per_trial", "max_concurrent", "time_budget")}
    return {key: value for key, value in chosen.items() if value is not None}


def _bounded(values: dict[str, Any], server: ServerSettings) -> SearchSettings:
    try:
        settings = SearchSettings.model_validate(values | {"storage": server.storage, "address": None})
    except ValidationError as error:
        raise NotAllowedError(describe(error.errors()[0], SearchSettings)) from error
    _check_data(settings, server)
    _check_at_most("num_samples", settings.num_samples, server.max_trials)
    _check_at_most("epochs", settings.epochs, server.max_epochs)
    _check_at_most("max_restarts", settings.max_restarts, server.max_restarts)
    _check_at_most("cpus_per_trial", settings.cpus_per_trial, server.max_cpus_per_trial)
    _check_at_most("gpus_per_trial", settings.gpus(), server.max_gpus_per_trial)
    _check_at_most("max_concurrent", settings.max_concurrent or 1, server.max_concurrent)
    _check_at_most("time_budget", settings.time_budget or 1, server.max_time)
    bounds = {
        "max_concurrent": settings.max_concurrent or server.max_concurrent,
        "time_budget": settings.time_budget or server.max_time,
    }
    if settings.gpus_per_trial is None and server.max_gpus_per_trial < 1:
        bounds["gpus_per_trial"] = server.max_gpus_per_trial  # else it would get a whole one
    return settings.model_copy(update=bounds)


def _check_data(settings: SearchSettings, server: ServerSettings) -> None:
    if settings.dataset not in server.datasets:
        raise NotAllowedError(f"dataset must be one of {_listed(server.datasets)}, got {settings.dataset}")
    _check_among("data_dir", settings.data_dir, server.datasets[settings.dataset])
    _check_among("labels_file", settings.labels_file, server.files)
    _check_among("clean_validation", settings.clean_validation, server.files)
    default = SearchSettings.model_fields["cache_dir"].default
    if settings.start_from or settings.tracker or settings.cache_dir != default:  # of a search begun elsewhere
        raise NotAllowedError("start_from, tracker and cache_dir cannot be set through the service")


def _check_among(key: str, path: Path | None, allowed: list[Path]) -> None:
    """Equal as written: a path with `..` in it is none of those configured."""
    if path is not None and path not in allowed:
        raise NotAllowedError(f"{key} must be one of {_listed(allowed)}")


def _check_at_most(key: str, value: float, most: float) -> None:
    if value > most:
        raise NotAllowedError(f"{key} must be at most {most:g} here")


def _check_space(space: Any) -> None:
    """A space of the package by its name, or written out; never a path."""
    if isinstance(space, dict):
        from tune_mentormix.config.search_space import parse_space  # imports Optuna

        try:
            parse_space(YamlDocument(space, "space"))
        except RequestError as error:
            raise NotAllowedError(str(error)) from error
    elif not isinstance(space, str) or space not in shipped_spaces():
        raise NotAllowedError(f"space must be one of {_listed(shipped_spaces())}, or written out")


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "none, by the server's configuration"
