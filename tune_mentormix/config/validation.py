"""Describes in one line, in the user's own words, what is wrong with a setting."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from trainables.errors import describe_value, shorten
from trainables.settings import NAME_FORMS, DataSettings
from tune_mentormix.errors import RequestError, unknown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list such as [a, b]",
    "object": "a mapping such as {key: value}",
}
MAX_SHOWN_BOUND = 1e6  # a higher bound is only named to those who exceed it


def describe(error: ErrorDetails, model: type[BaseModel], also_known: Iterable[str] = ()) -> str:
    """Describes an error in one line that names the setting, its value, and what the fields of `model` allow.

    `also_known` are other keys that may have been meant.
    """
    name, value = str(error["loc"][0]) if error["loc"] else "", error["input"]
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, [*model.model_fields, *also_known], n=1)
        return f"unknown key {shorten(name)}" + (f"; did you mean {near[0]!r}?" if near else "")
    if error["type"] == "missing":
        return f"{name} is missing"
    if name not in model.model_fields:
        return describe_value(error)
    if error["type"] == "value_error":
        return describe_value(error | {"loc": (name,)})
    allowed = choices(model.model_fields[name].annotation)
    if allowed and isinstance(value, str):
        return unknown(name, value, allowed, name_forms(model.model_fields[name]))
    exceeds = error["type"].startswith("less_than")
    must = f"be one of {', '.join(allowed)}" if allowed else _allowed(model, name, exceeds)
    return f"{name} must {must}, got {shorten(value)}"


def with_moved_files(data: DataSettings, moved: Mapping[str, Path | None]) -> DataSettings:
    """Returns settings of data whose files lie elsewhere now: `moved` has their keys; None: a file did not move.

    Raises RequestError if these settings do not fit together.
    """
    changes = {key: value for key, value in moved.items() if value is not None}
    try:
        return DataSettings.model_validate(data.model_dump() | changes)
    except ValidationError as error:
        raise RequestError(describe(error.errors()[0], DataSettings)) from error


def choices(annotation: Any) -> tuple[str, ...]:
    """Returns the names that a `Literal` allows, within a union or a list too; none for another annotation."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType, list):
        return next((found for part in get_args(annotation) if (found := choices(part))), ())
    return ()


def name_forms(field: FieldInfo) -> tuple[str, ...]:
    """Returns the forms of other names that a setting may have, such as `package.module:name`."""
    annotated = [part for part in get_args(field.annotation) if hasattr(part, "__metadata__")]
    pieces = [piece for part in annotated for info in part.__metadata__ for piece in getattr(info, "metadata", [])]
    return tuple(NAME_FORMS[piece.pattern] for piece in pieces if getattr(piece, "pattern", None) in NAME_FORMS)


def _allowed(model: type[BaseModel], name: str, exceeds: bool) -> str:
    """Returns what a field allows, from its JSON schema; `exceeds`: a value is above the maximum."""
    schema = model.model_json_schema()["properties"][name]
    parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    return "be " + " or ".join(_kind(part, exceeds) for part in parts)


def _kind(schema: dict[str, Any], exceeds: bool) -> str:
    kind = KINDS.get(schema.get("type", ""), "a mapping such as {key: value}")
    if schema.get("type") == "array" and schema["items"].get("type") == "object":
        kind = "a list such as [{key: value}]"
    if schema.get("type") == "string" and "pattern" in schema:
        return "a duration such as 90s or 2h"
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if not exceeds and (high or below or 0) >= MAX_SHOWN_BOUND:
        high = below = None
    if (low, above, high, below) == (None, None, None, None):
        return kind
    if (low, above) == (None, None):
        return f"{kind} of at most {high:,}" if high is not None else f"{kind} below {below:,}"
    if (high, below) == (None, None):
        return f"{kind} of at least {low:g}" if low is not None else f"{kind} above {above:g}"
    left = f"[{low:g}" if low is not None else f"({above:g}"
    right = f"{high:,}]" if high is not None else f"{below:,})"
    return f"{kind} in {left}, {right}"
