"""The fields of the submit form, made from the settings' own JSON schema and the server's configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from search_spaces import shipped_spaces
from tune_mentormix.config.settings import RESUMABLE
from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.service.policy import NotAllowedError
from tune_mentormix.service.submission import MAIN, MORE, search_schema, trial_schema

Kind = Literal["select", "number", "text", "json"]
PLACEHOLDERS = {  # where what holds is no default of the settings
    "max_concurrent": "as many as allowed",
    "time_budget": "as long as allowed; 30m, 2h, …",
    "gpus_per_trial": "1 where there are any",
    "noise": "0.4 for digits, else 0",
    "trial_timeout": "none; 30m, 2h, …",
    "grace_period": "just above the longest burn-in",
    "checkpoint_every": "ten times in a trial",
}
TRIAL = "trial."  # before the names of what all trials share


@dataclass(frozen=True)
class Field:
    """One input."""

    name: str
    kind: Kind
    options: tuple[str, ...] = ()  # of a select
    placeholder: str = ""  # what holds where nothing is entered
    least: float | None = None
    most: float | None = None
    step: str = "any"
    required: bool = False

    @property
    def label(self) -> str:
        """As a person reads it."""
        return self.name.removeprefix(TRIAL)


@dataclass(frozen=True)
class Group:
    """Fields under one heading; only the first is open."""

    title: str
    fields: list[Field]


def submit_form(server: ServerSettings) -> list[Group]:
    """All fields of a new search."""
    properties = search_schema((*MAIN, *MORE))["properties"] | {
        TRIAL + name: schema for name, schema in trial_schema().items()
    }
    fields = {name: _bounded(_field(name, schema), server) for name, schema in properties.items()}
    return [
        Group("The search", [fields[name] for name in MAIN]),
        Group("Data, samplers, resources", [fields[name] for name in MORE]),
        Group("What all trials share", [field for name, field in fields.items() if name.startswith(TRIAL)]),
    ]


def resume_form(server: ServerSettings) -> list[Field]:
    """What may change when a search goes on."""
    properties = search_schema(RESUMABLE)["properties"]
    return [_bounded(_field(name, properties[name]), server, fresh=False) for name in RESUMABLE]


def settings_of(form: dict[str, str]) -> dict[str, Any]:
    """What was entered, as settings; empty fields are not set.

    Raises:
        NotAllowedError: if a field that takes JSON holds something else.
    """
    settings: dict[str, Any] = {}
    trial: dict[str, Any] = {}
    for name, text in form.items():
        if text.strip():
            place, key = (trial, name.removeprefix(TRIAL)) if name.startswith(TRIAL) else (settings, name)
            place[key] = _value(name, text.strip())
    return settings | ({"trial": trial} if trial else {})


def _value(name: str, text: str) -> Any:
    """Pydantic reads numbers from text; what is written as an object is one."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAllowedError(f"{name} is not JSON: {error}") from error


def _field(name: str, schema: dict[str, Any]) -> Field:
    parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    default = schema.get("default")
    shown = PLACEHOLDERS.get(name, "" if default is None else json.dumps(default).strip('"'))
    types = {part.get("type") for part in parts}
    options = tuple(str(option) for part in parts for option in part.get("enum", ()))
    if options or types == {"boolean"}:
        return Field(name, "select", options or ("true", "false"), shown)
    if types <= {"integer", "number"}:
        part = parts[0]
        least, most = part.get("minimum", part.get("exclusiveMinimum")), part.get("exclusiveMaximum")
        return Field(
            name, "number", (), shown, least, part.get("maximum", most), "1" if "integer" in types else "any"
        )
    if types == {"object"}:
        return Field(name, "json", (), shown or "JSON")
    return Field(name, "text", (), shown, required=name == "name")


def _bounded(field: Field, server: ServerSettings, fresh: bool = True) -> Field:
    """With what the server allows, as far as a form can say it."""
    choices: dict[str, tuple[str, ...]] = {
        "dataset": tuple(server.datasets),
        "data_dir": tuple(str(path) for paths in server.datasets.values() for path in paths),
        "labels_file": tuple(map(str, server.files)),
        "clean_validation": tuple(map(str, server.files)),
    }
    most: dict[str, float] = {
        "num_samples": server.max_trials,
        "epochs": server.max_epochs,
        "max_concurrent": server.max_concurrent,
        "max_restarts": server.max_restarts,
        "cpus_per_trial": server.max_cpus_per_trial,
        "gpus_per_trial": server.max_gpus_per_trial,
    }
    if field.name in choices:
        return Field(field.name, "select", choices[field.name], field.placeholder)
    if field.name == "space":
        return Field("space", "text", tuple(shipped_spaces()), "default")
    placeholder = field.placeholder if fresh else "as before"
    return replace(field, placeholder=placeholder, most=most.get(field.name, field.most))
