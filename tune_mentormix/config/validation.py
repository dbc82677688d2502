"""What is wrong with a setting, in one line and the user's own words."""

from __future__ import annotations

import types
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from tune_mentormix.errors import unknown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}


def describe(error: ErrorDetails, model: type[BaseModel], also_known: Iterable[str] = ()) -> str:
    """Describes an error in one line that names the setting, its value, and what the fields of `model` allow.

    `also_known` are other keys that may have been meant.
    """
    name, value = str(error["loc"][0]) if error["loc"] else "", error["input"]
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, [*model.model_fields, *also_known], n=1)
        return f"unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if name not in model.model_fields:
        return error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{name}: {error['msg'].removeprefix('Value error, ')}"
    allowed = choices(model.model_fields[name].annotation)
    if allowed:
        return unknown(name, value, allowed)
    shown = repr(value)
    return f"{name} must {_allowed(model, name)}, got {shown if len(shown) <= 60 else shown[:57] + '...'}"


def choices(annotation: Any) -> tuple[str, ...]:
    """Returns the names that a `Literal` allows, within a union or a list too; none for another annotation."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType, list):
        return next((found for part in get_args(annotation) if (found := choices(part))), ())
    return ()


def _allowed(model: type[BaseModel], name: str) -> str:
    schema = model.model_json_schema()["properties"][name]
    schema = next((part for part in schema.get("anyOf", []) if part.get("type") != "null"), schema)
    kind = KINDS.get(schema.get("type"), "of another form")
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if (low, above) == (None, None):
        return f"be {kind}"
    if (high, below) == (None, None):
        return f"be {kind} of at least {low:g}" if low is not None else f"be {kind} above {above:g}"
    left = f"[{low:g}" if low is not None else f"({above:g}"
    right = f"{high:g}]" if high is not None else f"{below:g})"
    return f"be {kind} in {left}, {right}"
