"""Admission control: which settings a submitted search may have, as a JSON schema, as a form, and as checks.

A search names its settings and nothing else: no storage, cluster, environment or command. Paths must be among those
configured, spaces are written out or built-in, and trials, epochs, concurrency, time and resources are bounded.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from search_spaces import shipped_spaces
from trainables.errors import shorten
from trainables.settings import MAX_COUNT, Settings
from tune_mentormix.config.settings import (
    NAME_PATTERN,
    NO_RAY_GPU,
    RESUMABLE,
    SearchSettings,
)
from tune_mentormix.config.settings_file import settings_schema, with_demonstration
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.confirmation import MAX_SEEDS, MIN_SEEDS, SEEDS, TOP_K
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.storage.yaml_files import YamlDocument

MAIN = ("name", "dataset", "data_dir", "network", "epochs", "num_samples", "space", "max_concurrent", "time_budget")
MORE = (
    *("noise", "noise_kind", "noise_map", "labels_file", "labels_key", "image_size", "images_in"),
    *("image_column", "label_column", "max_images"),
    *("validation_fraction", "validation_labels", "clean_validation", "verified", "data_seed"),
    *("preset", "metric", "sampler", "scheduler", "grace_period", "reduction_factor", "seed"),
    *("cpus_per_trial", "gpus_per_trial", "device", "epoch_budget", "patience", "until_gain", "trial_timeout"),
    *("checkpoint_every", "max_restarts", "wait_for_nodes"),
)
ALLOWED = (*MAIN, *MORE, "trial")
CONFIRMATION_CHANGES = (
    "time_budget",
    "cpus_per_trial",
    "gpus_per_trial",
    "device",
    "max_concurrent",
    "wait_for_nodes",
)
FILES = ("labels_file", "clean_validation", "verified")  # which name one of the files that the server allows
UPPER_BOUNDS = {  # setting → server setting
    "num_samples": "max_trials",
    "epochs": "max_epochs",
    "max_restarts": "max_restarts",
    "cpus_per_trial": "max_cpus_per_trial",
    "gpus_per_trial": "max_gpus_per_trial",
    "max_concurrent": "max_concurrent",
    "time_budget": "max_time",
}
PLACEHOLDERS = {  # where the value that holds is no default of the settings
    "max_concurrent": "as many as allowed",
    "time_budget": "as long as allowed; 30m, 2h, …",
    "gpus_per_trial": "1 where there are any",
    "noise": "0.4 for digits, else 0",
    "trial_timeout": "none; 30m, 2h, …",
    "grace_period": "just above the longest burn-in",
    "checkpoint_every": "ten times in a trial",
}
TRIAL = "trial."  # before the names of what all trials share


class ConfirmationOptions(Settings):
    """The options of a confirmation; one that is not set is as in its earlier run, or as the command's default."""

    top_k: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = None
    """How many of the best configurations."""
    seeds: Annotated[int, Field(ge=MIN_SEEDS, le=MAX_SEEDS)] | None = None
    """How many fresh seeds, the same for all."""
    ablate: bool = False
    """Then train the winner with one hyperparameter at a time set back to its published value."""


CONFIRMATION_OPTIONS = tuple(ConfirmationOptions.model_fields)


class NotAllowedError(RequestError):
    """A setting is wrong, or not allowed here; the message names it and what is allowed."""


@dataclass(frozen=True)
class FormField:
    """One input of a form."""

    name: str
    kind: Literal["select", "number", "text", "json"]
    options: tuple[str, ...] = ()  # of a select
    placeholder: str = ""  # what holds where nothing is entered
    min: float | None = None
    max: float | None = None
    step: str = "any"


def admit(submitted: Mapping[str, Any], owner: str, server: ServerSettings) -> SearchSettings:
    """Returns the search that its owner asks for, bounded by what the server allows. Raises NotAllowedError."""
    for key in submitted:
        if key not in ALLOWED:
            known = f"{key} is the server's to set" if key in SearchSettings.model_fields else f"unknown key {key!r}"
            raise NotAllowedError(f"{known}; a search may name {', '.join(sorted(ALLOWED))}")
    if not submitted.get("name"):
        raise NotAllowedError("name must be given")
    _check_space(submitted.get("space", "default"))
    for key in ("trial", "space"):
        if isinstance(submitted.get(key), Mapping) and "weights" in submitted[key]:
            raise NotAllowedError("weights cannot be set through the service")
    settings = _bounded(with_demonstration(dict(submitted)) | {"owner": owner}, server)
    _refuse_plugins(settings)
    return settings


def admit_changes(
    experiment: Experiment, changes: Mapping[str, Any], server: ServerSettings
) -> tuple[SearchSettings, dict[str, Any]]:
    """Returns the settings of a resumed search, and which of them change, as allowed. Raises NotAllowedError."""
    for key in changes:
        if key not in RESUMABLE:
            raise NotAllowedError(f"{key} cannot change in a resume; these may: {', '.join(RESUMABLE)}")
    return _admit_run(experiment, changes, server)


def _admit_run(
    experiment: Experiment, changes: Mapping[str, Any], server: ServerSettings
) -> tuple[SearchSettings, dict[str, Any]]:
    _refuse_plugins(experiment.settings)
    given = {key: value for key, value in changes.items() if value is not None}
    stored = experiment.settings.model_dump(mode="json", warnings=False)
    settings = _bounded(stored | {"name": experiment.name, "num_samples": experiment.num_samples} | given, server)
    chosen = {key: getattr(settings, key) for key in (*given, "gpus_per_trial", "max_concurrent", "time_budget")}
    return settings, {key: value for key, value in chosen.items() if value is not None}


def admit_confirmation(
    experiment: Experiment, asked: Mapping[str, Any], server: ServerSettings
) -> tuple[SearchSettings, dict[str, Any], dict[str, Any]]:
    """Returns the settings that a confirmation runs with, its options, and which settings change, as allowed.

    Raises NotAllowedError, also if it would train more often than a search may.
    """
    changes = {key: value for key, value in asked.items() if key not in CONFIRMATION_OPTIONS}
    for key in changes:
        if key not in CONFIRMATION_CHANGES:
            allowed = ", ".join((*CONFIRMATION_OPTIONS, *CONFIRMATION_CHANGES))
            raise NotAllowedError(f"{key} cannot be set for a confirmation; these may: {allowed}")
    try:
        options = ConfirmationOptions.model_validate({key: asked[key] for key in asked.keys() - changes.keys()})
    except ValidationError as error:
        raise NotAllowedError(describe(error.errors()[0], ConfirmationOptions)) from error
    trainings = ((options.top_k or TOP_K) + len(experiment.settings.controls)) * (options.seeds or SEEDS)
    if trainings > server.max_trials:
        raise NotAllowedError(
            f"{trainings} trainings are more than the {server.max_trials} allowed here: set top_k or seeds lower"
        )
    settings, changes = _admit_run(experiment, changes, server)
    return settings, options.model_dump(exclude_defaults=True), changes


def admit_making(
    experiment: Experiment, asked: Mapping[str, Any], server: ServerSettings
) -> tuple[SearchSettings, dict[str, Any]]:
    """Returns the settings with which files of a search are made, and which change. Raises NotAllowedError."""
    for key in asked:
        if key not in CONFIRMATION_CHANGES:
            raise NotAllowedError(f"{key} cannot be set for this; these may: {', '.join(CONFIRMATION_CHANGES)}")
    settings, changes = _admit_run(experiment, asked, server)
    return settings.model_copy(update={"num_samples": 1}), changes


def search_schema(names: Iterable[str]) -> dict[str, Any]:
    """Returns the JSON schema of these settings; `name` is required if it is among them."""
    chosen = {name: _setting_schemas()[name] for name in names}
    required = {"required": ["name"]} if "name" in chosen else {}
    return {"type": "object", "properties": chosen, "additionalProperties": False} | required


@functools.cache
def _setting_schemas() -> dict[str, Any]:
    """Returns the JSON schema of each setting by name, which none of its users changes; it takes long to make."""
    name = {"type": "string", "pattern": f"^{NAME_PATTERN}$", "title": "Name"}
    properties: dict[str, Any] = settings_schema()["properties"]
    return properties | {"name": name}


def submit_form(server: ServerSettings) -> dict[str, list[FormField]]:
    """Returns the fields of a new search by the heading of their group."""
    properties = search_schema(ALLOWED)["properties"]
    of_trials = properties["trial"]["properties"].items()
    properties |= {TRIAL + name: schema for name, schema in of_trials if name != "weights"}
    fields = {name: _field(name, schema, server) for name, schema in properties.items()}
    return {
        "The search": [fields[name] for name in MAIN],
        "Data, samplers, resources": [fields[name] for name in MORE],
        "What all trials share": [field for name, field in fields.items() if name.startswith(TRIAL)],
    }


def resume_form(server: ServerSettings) -> list[FormField]:
    """Returns the fields of what may change in a resume."""
    fields = [_field(name, schema, server) for name, schema in search_schema(RESUMABLE)["properties"].items()]
    return [replace(field, placeholder="as before") for field in fields]


def confirm_form(server: ServerSettings) -> list[FormField]:
    """Returns the fields of a confirmation."""
    properties = ConfirmationOptions.model_json_schema()["properties"]
    properties |= search_schema(CONFIRMATION_CHANGES)["properties"]
    fields = [_field(name, schema, server) for name, schema in properties.items()]
    shown = {"top_k": str(TOP_K), "seeds": str(SEEDS), "ablate": "false"}
    return [replace(field, placeholder=shown.get(field.name, "as in the search")) for field in fields]


def form_settings(form: dict[str, str]) -> dict[str, Any]:
    """Returns what was entered as settings; empty fields are not set. Raises NotAllowedError for wrong JSON."""
    entered = {name: _value(name, text.strip()) for name, text in form.items() if text.strip()}
    trial = {name.removeprefix(TRIAL): value for name, value in entered.items() if name.startswith(TRIAL)}
    settings = {name: value for name, value in entered.items() if not name.startswith(TRIAL)}
    return settings | ({"trial": trial} if trial else {})


def _bounded(values: dict[str, Any], server: ServerSettings) -> SearchSettings:
    try:
        settings = SearchSettings.model_validate(values | {"storage": server.storage, "address": None})
    except ValidationError as error:
        raise NotAllowedError(describe(error.errors()[0], SearchSettings)) from error
    _check_data(settings, server)
    for key, bound in UPPER_BOUNDS.items():
        value = settings.gpus() if key == "gpus_per_trial" else getattr(settings, key) or 0
        if value > getattr(server, bound):
            raise NotAllowedError(f"{key} must be at most {getattr(server, bound):g} here, got {value:g}")
    imposed: dict[str, Any] = {
        "max_concurrent": settings.max_concurrent or server.max_concurrent,
        "time_budget": settings.time_budget or server.max_time,
        "wait_for_nodes": min(settings.wait_for_nodes, server.max_time),
    }
    if settings.device == "cuda" and server.max_gpus_per_trial == 0:
        raise NotAllowedError("device must be auto or cpu here, got cuda")
    if settings.gpus_per_trial is None and server.max_gpus_per_trial < 1 and settings.device not in NO_RAY_GPU:
        imposed["gpus_per_trial"] = server.max_gpus_per_trial  # else it would get a whole one
    return settings.model_copy(update=imposed)


def _check_data(settings: SearchSettings, server: ServerSettings) -> None:
    if settings.dataset not in server.datasets:
        raise NotAllowedError(f"dataset must be one of {_listed(server.datasets)}, got {settings.dataset}")
    allowed = dict.fromkeys(FILES, server.files) | {"data_dir": server.datasets[settings.dataset]}
    for key, paths in allowed.items():
        path = getattr(settings, key)
        if path is not None and path not in paths:  # as written: one with `..` in it is none of those configured
            raise NotAllowedError(f"{key} must be one of {_listed(paths)} here, got {path}")
    default = SearchSettings.model_fields["cache_dir"].default
    if settings.start_from or settings.tracker or settings.cache_dir != default:  # of a search started elsewhere
        raise NotAllowedError("start_from, tracker and cache_dir cannot be set through the service")


def _refuse_plugins(settings: SearchSettings) -> None:
    for name, kind in settings.plugins().items():
        raise NotAllowedError(f"{kind} {name} is a plug-in: the service runs no code but its own")


def _check_space(space: Any) -> None:
    """Allows a built-in space by its name, or one that is written out; never a path."""
    if isinstance(space, dict):
        from tune_mentormix.config.search_space import parse_space  # imports Optuna

        try:
            parse_space(YamlDocument(space, "space"))
        except RequestError as error:
            raise NotAllowedError(str(error)) from error
    elif not isinstance(space, str) or space not in shipped_spaces():
        raise NotAllowedError(
            f"space must be one of {_listed(shipped_spaces())}, or written out, got {shorten(space)}"
        )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "none, by the server's configuration"


def _field(name: str, schema: dict[str, Any], server: ServerSettings) -> FormField:
    """Makes an input from a setting's schema, with what the server allows."""
    parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    default = schema.get("default")
    shown = PLACEHOLDERS.get(name, "" if default is None else json.dumps(default).strip('"'))
    types = {part.get("type") for part in parts}
    choices: dict[str, Iterable[object]] = {
        "dataset": server.datasets,
        "data_dir": [path for paths in server.datasets.values() for path in paths],
        **dict.fromkeys(FILES, server.files),
    }
    if types == {"boolean"}:
        choices[name] = ("true", "false")
    options = choices.get(name, [option for part in parts for option in part.get("enum", ())])
    if name in choices or options:
        return FormField(name, "select", tuple(map(str, options)), shown)
    if name == "space":
        return FormField(name, "text", tuple(shipped_spaces()), shown)
    if types <= {"integer", "number"}:
        low = parts[0].get("minimum", parts[0].get("exclusiveMinimum"))
        high = parts[0].get("maximum", parts[0].get("exclusiveMaximum"))
        if name in UPPER_BOUNDS:
            high = getattr(server, UPPER_BOUNDS[name])
        return FormField(name, "number", (), shown, low, high, "1" if "integer" in types else "any")
    if types == {"object"}:
        return FormField(name, "json", (), shown or "JSON")
    return FormField(name, "text", (), shown)


def _value(name: str, text: str) -> Any:
    """Returns the text, from which pydantic reads numbers; an object or a list is written as JSON."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAllowedError(f"{name} is not JSON: {error}") from error
