"""The tables of `docs/method.md` say what the code has: hyperparameters, and the published settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from trainables.settings import TrialSettings
from tune_mentormix.config.controls import published_setting

METHOD = Path(__file__).parents[1] / "docs" / "method.md"
BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its own head; code marks are taken off."""
    [section] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", METHOD.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value == 2**31:
        return "2³¹"
    return value if isinstance(value, str) else f"{value:g}"


def allowed(field: FieldInfo) -> str:
    """What a field may be, in the table's words."""
    if field.annotation is bool:
        return "true, false"
    if get_origin(field.annotation) is Literal:
        return ", ".join(get_args(field.annotation))
    if field.annotation is str:
        return "a name"
    found = [
        (words, getattr(part, name))
        for part in field.metadata
        for kind, (words, name) in BOUNDS.items()
        if isinstance(part, kind)
    ]
    return ", ".join(f"{words} {shown(bound)}" for words, bound in found)


def test_every_hyperparameter_is_listed_with_its_default_and_what_it_may_be() -> None:
    expected = [[name, shown(field.default), allowed(field)] for name, field in TrialSettings.model_fields.items()]
    assert [row[:3] for row in rows_of("Hyperparameters")] == expected


@pytest.mark.parametrize("row", rows_of("The published setting"), ids=" ".join)
def test_the_published_settings_are_those_that_the_control_takes(row: list[str]) -> None:
    classes, noise, *values = row
    setting = published_setting(float(noise), {"below 100": 99, "100 and more": 100}[classes])
    assert setting.pop("burn_in") == 10
    assert [shown(value) for value in setting.values()] == values


def test_all_published_settings_are_listed() -> None:
    assert len(rows_of("The published setting")) == 8
