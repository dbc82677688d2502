"""How the templates of reports and of the service's pages are rendered: strictly, and with all text escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from tune_mentormix import formatting as formats


def templates_of(package: str) -> Environment:
    """The templates in a package's folder `templates`, which may use `formats` as filters."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,  # names, labels, errors and logs are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("accuracy", "interval", "points", "value", "duration"):
        environment.filters[name] = getattr(formats, f"format_{name}")
    return environment
