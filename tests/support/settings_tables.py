"""Writes the tables of settings in `docs/` from the settings' docstrings: `make docs`.

A table stands between the lines `<!-- settings: NAME -->` and `<!-- end -->` of a page.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo

from trainables.settings import MAX_COUNT, DataSettings, Settings, TrialSettings
from tune_mentormix.cli.options import METAVARS
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.config.validation import name_forms

DOCS = Path(__file__).parents[2] / "docs"
BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}


def fields_of(table: str) -> dict[str, FieldInfo]:
    """The settings of one table, by name: `search` (without its data), `data` or `trial`."""
    models: dict[str, type[Settings]] = {"search": SearchSettings, "data": DataSettings, "trial": TrialSettings}
    left_out = DataSettings.model_fields if table == "search" else {}
    return {name: field for name, field in models[table].model_fields.items() if name not in left_out}


def table(name: str) -> str:
    """One table in Markdown."""
    heading = "hyperparameter" if name == "trial" else "key"
    lines = [f"| {heading} | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for key, field in fields_of(name).items():
        meaning = " ".join((field.description or "").split())
        allowed = "seconds, or 90s, 30m, 2h, 1d" if METAVARS.get(key) == "<time>" else allowed_values(field)
        lines.append(f"| `{key}` | {default_value(field)} | {allowed} | {meaning} |")
    return "\n".join(lines) + "\n"


def default_value(field: FieldInfo) -> str:
    """A setting's default as it is written in YAML; a dash for none."""
    value = field.get_default(call_default_factory=True)
    return "–" if value in (None, [], {}) else shown(value)


def allowed_values(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    kinds = [kind for kind in _kinds(field.annotation) if kind is not NoneType]
    for kind in kinds:
        if get_origin(kind) is Literal:
            return ", ".join([*get_args(kind), *name_forms(field)])
    if bool in kinds:
        return "true, false"
    bounds = [part for part in _metadata(field) if isinstance(part, tuple(BOUNDS))]
    if bounds:
        words = [(BOUNDS[type(part)][0], getattr(part, BOUNDS[type(part)][1])) for part in bounds]
        return ", ".join(f"{word} {shown(bound)}" for word, bound in words if bound != MAX_COUNT)
    schemas = [part.json_schema or {} for part in _metadata(field) if isinstance(part, WithJsonSchema)]
    if any(schema.get("format") == "path" for schema in schemas):
        return "a path"
    origins = {get_origin(kind) or kind for kind in kinds}
    if dict in origins or any(isinstance(kind, type) and issubclass(kind, Settings) for kind in kinds):
        return "a mapping" if str not in origins else "a name, a path or a mapping"
    return "a list of mappings" if list in origins else "a path" if Path in origins else "a name"


def shown(value: Any) -> str:
    """A value as in YAML, numbers in short."""
    if isinstance(value, bool):
        return str(value).lower()
    if value == 2**31:
        return "2³¹"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def page_with_tables(page: Path) -> str:
    """The text of a page, its tables as they should be."""
    pattern = re.compile(r"^(<!-- settings: (\w+) -->\n).*?^(?=<!-- end -->)", re.MULTILINE | re.DOTALL)
    return pattern.sub(lambda found: found[1] + table(found[2]), page.read_text())


def _kinds(annotation: Any) -> list[Any]:
    """The types of a union or a list, without what annotates them."""
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    if get_origin(annotation) is list and get_origin(get_args(annotation)[0]) is Literal:
        return _kinds(get_args(annotation)[0])
    return _kinds(annotation.__origin__) if hasattr(annotation, "__metadata__") else [annotation]


def _metadata(field: FieldInfo) -> list[Any]:
    """The constraints of a field, those within a union among them."""
    annotated = [part for part in get_args(field.annotation) if hasattr(part, "__metadata__")]
    found = [*field.metadata, *(piece for part in annotated for piece in part.__metadata__)]
    return [inner for piece in found for inner in (piece.metadata if isinstance(piece, FieldInfo) else [piece])]


if __name__ == "__main__":
    for changed in sorted(DOCS.glob("*.md")):
        changed.write_text(page_with_tables(changed))
