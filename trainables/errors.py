"""Every error that a trial raises on purpose; each message is one line: the setting, its value, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ALLOWED = {  # the beginning of the kind of an error → what is allowed
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_type": "text",
    "string_sub_type": "text",
    "string_unicode": "text in UTF-8",
    "dict_": "a mapping such as {key: value}",
    "mapping_": "a mapping such as {key: value}",
    "model_": "a mapping such as {key: value}",
    "json_": "JSON",
    **dict.fromkeys(("list_", "tuple_", "set_"), "a list such as [a, b]"),
}
_BOUNDS = {
    **{"greater_than_equal": "of at least {ge}", "greater_than": "above {gt}"},
    **{"less_than_equal": "of at most {le}", "less_than": "below {lt}"},
}


class DatasetError(ValueError):
    """The data settings cannot be met: a file is missing, labels do not fit, a split is empty."""


class NetworkError(ValueError):
    """The network cannot be built: its name is unknown, or its pretrained weights are missing."""


class PluginError(ValueError):
    """A plug-in cannot be used: it is not to be found, was not allowed, raises, or returns what does not fit."""


class DeviceError(ValueError):
    """The device that was asked for is not there."""


class ModelFileError(ValueError):
    """A model file cannot be used: it is missing, damaged, foreign, or does not fit its network."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, corrupt, or of another kind of trial."""


class TrainingDiverged(RuntimeError):  # noqa: N818 - it names what happened
    """A loss is no longer a finite number."""


class StorageUnavailableError(OSError):
    """A storage could not be used until the retries ended; the trial that waited for it is not at fault."""


class MissingPackageError(RuntimeError):
    """A feature needs an optional package that is not installed; the message names it and how to install it."""


def one_line(error: BaseException) -> str:
    """Returns the reason of an error in one line: the system's own, or the first line of the message."""
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(reason).splitlines()[0][:300]


def shorten(value: object) -> str:
    """Returns a value for a message, as it is written in YAML where it is a truth value, and not too long."""
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def describe_value(error: ErrorDetails) -> str:
    """Returns what pydantic found wrong in one plain line: where, what is allowed, and the value that is there.

    For files of ours that were changed; `config.validation` describes what a user sets, with what its field allows.
    """
    where, kind, context = ".".join(map(str, error["loc"])), error["type"], error.get("ctx", {})
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden":
        return f"unknown key {shorten(where)}"
    if kind in ("value_error", "assertion_error"):
        reason = str(context.get("error", "")) or error["msg"].removeprefix("Value error, ")
        return f"{where}: {reason}" if where else reason
    return f"{where} must {_must(kind, error['msg'], context)}, got {shorten(error['input'])}".lstrip()


def _must(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        return f"be {context['expected']}"
    if kind in _BOUNDS:
        return f"be a number {_BOUNDS[kind].format(**context)}"
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        return f"have at {'least' if least else 'most'} {context['min_length' if least else 'max_length']} entries"
    allowed = next((allowed for start, allowed in _ALLOWED.items() if kind.startswith(start)), None)
    return f"be {allowed}" if allowed else message.removeprefix("Input should ")
