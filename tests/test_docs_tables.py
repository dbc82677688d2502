"""The tables in `docs/` hold what the code has: settings, networks and the published settings."""

from __future__ import annotations

import re

import pytest

from tests.support.settings_tables import DOCS, fields_of, page_with_tables, shown
from trainables.settings import TrialSettings
from tune_mentormix.config.controls import published_setting
from tune_mentormix.config.settings import SearchSettings

METHOD = DOCS / "method.md"


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its own head; code marks are taken off."""
    [section] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", METHOD.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("page", ["search.md", "data.md", "method.md"])
def test_the_tables_of_settings_come_from_the_docstrings(page: str) -> None:
    """`make docs` writes them again."""
    assert page_with_tables(DOCS / page) == (DOCS / page).read_text()


def test_every_setting_is_described_and_listed() -> None:
    fields = {name: fields_of(name) for name in ("search", "data", "trial")}
    assert fields["search"].keys() | fields["data"].keys() == SearchSettings.model_fields.keys()
    assert fields["trial"].keys() == TrialSettings.model_fields.keys()
    for table, page in (("search", "search.md"), ("data", "data.md"), ("trial", "method.md")):
        assert f"<!-- settings: {table} -->" in (DOCS / page).read_text()
        assert all(field.description for field in fields[table].values())


@pytest.mark.parametrize("row", rows_of("The published setting"), ids=" ".join)
def test_the_published_settings_are_those_that_the_control_takes(row: list[str]) -> None:
    classes, noise, *values = row
    setting = published_setting(float(noise), {"below 100": 99, "100 and more": 100}[classes])
    assert setting.pop("burn_in") == 10
    assert [shown(value) for value in setting.values()] == values


def test_all_published_settings_are_listed() -> None:
    assert len(rows_of("The published setting")) == 8
