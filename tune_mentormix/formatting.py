"""Formats numbers for the terminal and for pages, renders templates with them, and prepares values for JSON."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

NOTHING = "–"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # all but tab and line end


def command(words: str, storage: object = None) -> str:
    """Returns a command of this program as its user calls it, to be pasted."""
    program = "tune-mentormix"
    if Path(sys.argv[0]).name == "run_search.py":
        python = os.path.relpath(sys.executable)
        program = f"{sys.executable if python.startswith('..') else python} {sys.argv[0]}"
    return f"{program} {words}" + ("" if storage is None else f" --storage {shlex.quote(str(storage))}")


def format_accuracy(value: float | None) -> str:
    """Returns an accuracy as `0.5903`, a dash for None."""
    return NOTHING if value is None else f"{value:.4f}"


def format_points(difference: float) -> str:
    """Returns a difference of two accuracies in signed percentage points: `+3.5`."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def format_value(value: object) -> str:
    """Returns the value of a setting; floats with four significant digits."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"  # as in YAML
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_duration(seconds: float) -> str:
    """Returns a duration as `1 min 39 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_bytes(number: int) -> str:
    """Returns bytes as `87.0 MB`, in units of a thousand, as disks and object stores count."""
    size, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def visible(text: str) -> str:
    """Returns a text with its control characters as escapes: as they are, they would command the terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_nan(value: Any) -> Any:
    """Returns a copy for JSON, which has no NaN and no infinity: they become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def templates_of(package: str, html: bool = True) -> Environment:
    """Returns the templates in a package's folder `templates`; `accuracy`, `points`, … are filters in them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=html,  # names, labels, errors and logs are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
    )
    filters = (format_accuracy, format_points, format_value, format_duration)
    environment.filters |= {function.__name__.removeprefix("format_"): function for function in filters}
    return environment
