"""Which settings a submitted search may name, as a schema: the API's and the form's."""

from __future__ import annotations

from typing import Any

from pydantic import GetJsonSchemaHandler, JsonValue, RootModel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from trainables.settings import TrialSettings
from tune_mentormix.config.settings import NAME_PATTERN, RESUMABLE, SEARCH_WIDE, SearchSettings

MAIN = ("name", "dataset", "data_dir", "network", "epochs", "num_samples", "space", "max_concurrent", "time_budget")
MORE = (
    *("noise", "noise_kind", "noise_map", "labels_file", "labels_key", "image_size", "max_images"),
    *("validation_fraction", "validation_labels", "clean_validation", "data_seed"),
    *("preset", "sampler", "scheduler", "grace_period", "reduction_factor", "seed"),
    *("cpus_per_trial", "gpus_per_trial", "epoch_budget", "patience", "trial_timeout"),
    *("checkpoint_every", "max_restarts"),
)
ALLOWED = frozenset({*MAIN, *MORE, "trial"})
_DURATIONS = ("time_budget", "trial_timeout")
_DURATION = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?[smhd]?$"}


def search_schema(names: tuple[str, ...]) -> dict[str, Any]:
    """The JSON schema of these settings; a duration may be written as `30m`, too."""
    properties = SearchSettings.model_json_schema()["properties"]
    chosen = {name: dict(properties[name]) for name in names}
    for name in chosen.keys() & set(_DURATIONS):
        chosen[name]["anyOf"] = [*chosen[name]["anyOf"], _DURATION]
    if "name" in chosen:
        chosen["name"] = {"type": "string", "pattern": f"^{NAME_PATTERN}$", "title": "Name"}
    if "trial" in chosen:
        chosen["trial"] |= {"properties": trial_schema(), "additionalProperties": False}
    return {"type": "object", "properties": chosen, "additionalProperties": False}


def trial_schema() -> dict[str, Any]:
    """The properties of what all trials of a search may share."""
    properties = TrialSettings.model_json_schema()["properties"]
    return {name: schema for name, schema in properties.items() if name not in SEARCH_WIDE}


class Submission(RootModel[dict[str, JsonValue]]):
    """Settings of a search; `policy` checks them, and says what is wrong in words."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return search_schema((*MAIN, *MORE, "trial")) | {"required": ["name"], "title": "Submission"}


class Changes(RootModel[dict[str, JsonValue]]):
    """What a resume changes."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return search_schema(RESUMABLE) | {"title": "Changes"}
