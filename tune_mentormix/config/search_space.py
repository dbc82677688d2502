"""Search spaces: a YAML file of one line a hyperparameter becomes Optuna distributions and fixed values.

A line is `name: {low: 0.4, high: 32, log: true}`, `name: {low: 0, high: 15, step: 1}`, `name: {choices: [a, b]}` or
`name: value` (fixed). Whether a range is of whole numbers follows from the hyperparameter itself. Every bound and
choice must be a value a trial accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil, prod
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from search_spaces import shipped_spaces
from trainables.errors import shorten
from trainables.files import user_path
from trainables.settings import TrialSettings
from tune_mentormix.config.settings import SEARCH_WIDE, SearchSettings
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError, unknown
from tune_mentormix.storage.yaml_files import YamlDocument, read_yaml

MAX_GRID_POINTS = 100_000


@dataclass(frozen=True)
class SearchSpace:
    """The hyperparameters that are searched, and those that are held fixed."""

    distributions: dict[str, BaseDistribution]
    fixed: dict[str, Any]

    def searched_values(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the searched part of a configuration, or None where any of it lies outside this space."""
        return self.values_inside(config) if all(config[name] == self.fixed[name] for name in self.fixed) else None

    def values_inside(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the values of what is searched, or None where one lies outside its range.

        A value between two steps of a range becomes the higher one, as which a burn-in acts in training.
        """
        values = {name: _on_step(distribution, config[name]) for name, distribution in self.distributions.items()}
        return values if all(_holds(self.distributions[name], value) for name, value in values.items()) else None

    def values_of(self, name: str, otherwise: Any) -> tuple[Any, ...]:
        """Returns the choices of a hyperparameter, or the one value that all trials have."""
        distribution = self.distributions.get(name)
        return tuple(distribution.choices) if isinstance(distribution, CategoricalDistribution) else (otherwise,)

    def highest(self, name: str, common: dict[str, Any]) -> float:
        """Returns the largest value a hyperparameter can take, where `common` holds what all trials share."""
        distribution = self.distributions.get(name)
        if isinstance(distribution, FloatDistribution | IntDistribution):
            return float(distribution.high)
        if isinstance(distribution, CategoricalDistribution):
            return max(float(choice) for choice in distribution.choices if choice is not None)
        return float((common | self.fixed).get(name, TrialSettings.model_fields[name].default))


def load_space(name_or_path: str) -> YamlDocument:
    """Reads a space by its name (a file of `search_spaces/`) or from a path. Raises RequestError if it cannot."""
    shipped = shipped_spaces()
    if name_or_path in shipped:
        return read_yaml(shipped[name_or_path])
    try:
        path = user_path(name_or_path)
    except ValueError as error:
        raise RequestError(f"space: {error} (--space)") from error
    if path.is_file():
        return read_yaml(path)
    raise RequestError(unknown("space", name_or_path, shipped) + ", or a path to a YAML file")


def parse_space(document: YamlDocument) -> SearchSpace:
    """Turns the lines of a space file into distributions. Raises RequestError, with the line, if one is wrong."""
    distributions: dict[str, BaseDistribution] = {}
    fixed: dict[str, Any] = {}
    for name, entry in document.values.items():
        place = document.place(name)
        if name not in TrialSettings.model_fields or name in SEARCH_WIDE:
            raise RequestError(f"{_wrong_name(str(name))} ({place})")
        if not isinstance(entry, dict):
            fixed[name] = _checked(name, entry, place)
        elif "choices" in entry:
            distributions[name] = _choice(name, entry, place)
        else:
            distributions[name] = _range(name, entry, place)
    if not distributions:
        raise RequestError(f"{document.source} searches nothing: give at least one range or choice")
    return SearchSpace(distributions, fixed)


def resolve_space(settings: SearchSettings) -> tuple[SearchSettings, SearchSpace]:
    """Reads the space that settings name, and returns it and the settings that hold it in full.

    Raises RequestError if there is no such space, or it does not fit the other settings.
    """
    named = settings.space
    document = load_space(named) if isinstance(named, str) else YamlDocument(named, "space")
    space = parse_space(document)
    twice = sorted(settings.trial.keys() & document.values.keys())
    if twice:
        source = document.source
        raise RequestError(f"{twice[0]} is set for all trials, and by the space too ({source}): leave one out")
    if settings.sampler == "grid":
        check_grid(space, document)
    return settings.model_copy(update={"space": document.values}), space


def check_grid(space: SearchSpace, document: YamlDocument) -> None:
    """Raises RequestError unless a grid of the space can be walked."""
    for name, distribution in space.distributions.items():
        if isinstance(distribution, FloatDistribution) and distribution.step is None:
            raise RequestError(
                f"sampler grid needs values to walk through, but {name} is a range: "
                f"give it a step, make it {{choices: [...]}}, or use --space published ({document.place(name)})"
            )
    points = grid_points(space.distributions)
    if points > MAX_GRID_POINTS:
        raise RequestError(f"the grid of {document.source} has {points:,} points, at most are {MAX_GRID_POINTS:,}")


def grid_points(space: Mapping[str, BaseDistribution]) -> int:
    """Returns how many combinations a space of choices and steps has."""
    return prod(_count(distribution) for distribution in space.values())


def grid_values(distribution: BaseDistribution) -> list[Any]:
    """Returns the values of a choice or of a range with steps, in order."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert distribution.step is not None
    return [distribution.low + number * distribution.step for number in range(_count(distribution))]


def _count(distribution: BaseDistribution) -> int:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert distribution.step is not None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _choice(name: str, entry: dict[str, Any], place: str) -> BaseDistribution:
    choices = entry["choices"]
    if set(entry) != {"choices"} or not isinstance(choices, list) or not choices:
        raise RequestError(f"{name} must be {{choices: [at least one value]}}, got {shorten(entry)} ({place})")
    values = [_checked(name, choice, place) for choice in choices]
    if len(set(values)) < len(values):
        raise RequestError(f"{name} names a choice twice: {shorten(choices)} ({place})")
    return CategoricalDistribution(values)


def _range(name: str, entry: dict[str, Any], place: str) -> BaseDistribution:
    kind = TrialSettings.model_fields[name].annotation
    if not {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"} or kind not in (int, float):
        a_range = "{low: …, high: …, log: true|false, step: …}"
        allowed = a_range if kind in (int, float) else "a value or {choices: […]}"
        raise RequestError(f"{name} must be {allowed}, got {shorten(entry)} ({place})")
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise RequestError(f"{name}: log must be true or false, got {shorten(log)} ({place})")
    low, high = (_checked(name, entry[bound], place) for bound in ("low", "high"))
    if low >= high:
        raise RequestError(f"{name}: low must be below high, got low {low:g} and high {high:g} ({place})")
    if log and low <= 0:
        raise RequestError(f"{name}: low of a log range must be above 0, got {low:g} ({place})")
    step = entry.get("step")
    if step is None:
        return IntDistribution(low, high, log=log) if kind is int else FloatDistribution(low, high, log=log)
    is_number = isinstance(step, int if kind is int else (int, float)) and not isinstance(step, bool)
    if log or not is_number or step <= 0 or round((high - low) / step, 6) % 1:
        number = "whole number" if kind is int else "number"
        raise RequestError(
            f"{name}: step must be a {number} that divides high − low, without log, got {shorten(step)} ({place})"
        )
    return IntDistribution(low, high, step=step) if kind is int else FloatDistribution(low, high, step=step)


def _checked(name: str, value: Any, place: str) -> Any:
    try:
        return getattr(TrialSettings.model_validate({name: value}), name)
    except ValidationError as error:
        raise RequestError(f"{describe(error.errors()[0], TrialSettings)} ({place})") from error


def _wrong_name(name: str) -> str:
    if name in SEARCH_WIDE:
        return f"{name} is one for the whole search, not searched: use --{name}"
    searchable = [known for known in TrialSettings.model_fields if known not in SEARCH_WIDE]
    near = get_close_matches(name, searchable, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(searchable)}"
    return f"unknown hyperparameter {name!r}{hint}"


def _on_step(distribution: BaseDistribution, value: Any) -> Any:
    if not isinstance(distribution, FloatDistribution | IntDistribution) or distribution.step is None:
        return value
    steps = ceil(round((value - distribution.low) / distribution.step, 6))
    return distribution.low + steps * distribution.step


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return bool(distribution.low <= value <= distribution.high)
