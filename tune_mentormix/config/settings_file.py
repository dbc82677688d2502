"""Reading settings from a file, from options and from KEY=VALUE, and their JSON schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.errors import shorten
from trainables.settings import TrialSettings
from tune_mentormix.config.settings import (
    DEMONSTRATION,
    FORMAT,
    KEYS_PAGE,
    RECORD_KEYS,
    SEARCH_WIDE,
    SearchSettings,
    option_name,
)
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.yaml_files import YamlDocument, parse_yaml, read_yaml

# Keys of a trial's settings that may stand beside those of the search.
TRIAL_ONLY = TrialSettings.model_fields.keys() - SearchSettings.model_fields.keys()


def settings_schema() -> dict[str, Any]:
    """Returns the JSON schema of a settings file; an experiment's `search.yaml` fits it too."""
    of_trials = TrialSettings.model_json_schema()["properties"]
    trial = {name: schema for name, schema in of_trials.items() if name not in SEARCH_WIDE}
    schema = SearchSettings.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    properties["trial"] |= {"properties": trial, "additionalProperties": False}
    record = {"format": {"type": "integer", "maximum": FORMAT}, "provenance": {"type": "object"}}
    alone = {name: part for name, part in trial.items() if name in TRIAL_ONLY}
    return schema | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a tune-mentormix search",
        "description": "Settings of one search; docs/search.md lists them.",
        "properties": properties | alone | record,
    }


def read_settings(config: Path | None, options: dict[str, Any], assignments: Sequence[str] = ()) -> SearchSettings:
    """Merges a settings file with the command's options, which win. Raises RequestError if a setting is wrong.

    Args:
        config: YAML with settings of the search or of its trials; an experiment's own `search.yaml` will do.
        options: by settings key; None means not given.
        assignments: `KEY=VALUE` of any setting of the search or of its trials, the value as YAML.
    """
    document = read_yaml(config) if config else YamlDocument({}, "the options")
    refuse_newer(document)
    given = {key: value for key, value in options.items() if value is not None}
    values = {key: value for key, value in document.values.items() if key not in RECORD_KEYS} | given
    places = {key: option_name(key) for key in given}
    of_trials = {key: values.pop(key) for key in list(values) if key in TRIAL_ONLY}
    for key, value in map(_parse_assignment, assignments):
        if key in TRIAL_ONLY:
            of_trials[key], places[key] = value, "--set"
        else:
            values[key], places[key] = value, "--set"
    if of_trials:
        shared = values.get("trial") or {}
        values["trial"] = shared | of_trials if isinstance(shared, dict) else shared
    try:
        settings = SearchSettings.model_validate(with_demonstration(values))
    except ValidationError as error:
        first = error.errors()[0]
        key, inner = str(first["loc"][0]) if first["loc"] else "", first.get("ctx", {}).get("key", "")
        message = describe(first, SearchSettings, TRIAL_ONLY)
        if key == "trial" and inner in of_trials:  # it stands beside the settings of the search
            key, message = inner, message.removeprefix("trial: ")
        page = f"; all keys: {KEYS_PAGE}" if first["type"] == "extra_forbidden" else ""
        raise RequestError(f"{message} ({places.get(key) or document.place(key, inner)}){page}") from error
    settings.model_fields_set.intersection_update(values)  # what the demonstration adds was not asked for
    return settings


def with_demonstration(values: dict[str, Any]) -> dict[str, Any]:
    """Adds `DEMONSTRATION` to settings of the digits; real data keep the labels they came with."""
    demonstrates = "labels_file" not in values and values.get("dataset", "digits") == "digits"
    return DEMONSTRATION | values if demonstrates else values


def _parse_assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"--set takes KEY=VALUE, got {text!r}")
    return key, parse_yaml(f"value: {value}", f"--set {key}").values["value"]


def refuse_newer(document: YamlDocument) -> None:
    """Raises RequestError if a newer version of the project wrote this document."""
    written = document.values.get("format", FORMAT)
    if type(written) is not int or written < 1:
        place = document.place("format")
        raise RequestError(f"format must be a whole number of at least 1, got {shorten(written)} ({place})")
    if written > FORMAT:
        raise RequestError(
            f"{document.source} has format {written!r}, this version reads up to {FORMAT}: upgrade tune-mentormix"
        )
