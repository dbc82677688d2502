"""How the templates of reports and of the service's pages are rendered: strictly, and with all text escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from tune_mentormix import formatting
from tune_mentormix.results.statistics import format_interval


def templates_of(package: str) -> Environment:
    """The templates in a package's folder `templates`, which may use the functions of `formatting` as filters."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,  # names, labels, errors and logs are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("accuracy", "points", "value", "duration"):
        environment.filters[name] = getattr(formatting, f"format_{name}")
    environment.filters["interval"] = format_interval
    return environment
