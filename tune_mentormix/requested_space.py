"""A search's space and first trials, written out in its settings: no other machine then needs their files."""

from __future__ import annotations

from tune_mentormix.config.search_space import SearchSpace, load_space, parse_space
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.space import check_grid
from tune_mentormix.start_from import first_trials
from tune_mentormix.storage.yaml_files import YamlDocument


def read_space(settings: SearchSettings) -> tuple[SearchSettings, SearchSpace]:
    """Reads the space and what to start from.

    Returns:
        The settings that hold both, and the space.

    Raises:
        RequestError: if there is no such space or start, or they do not fit together.
    """
    space = settings.space
    document = load_space(space) if isinstance(space, str) else YamlDocument(space, "space")
    parsed = _parse(document, settings)
    first = settings.first_trials
    if settings.start_from and not first:
        first = first_trials(settings.start_from, parsed)
    return settings.model_copy(update={"space": document.values, "first_trials": first}), parsed


def _parse(document: YamlDocument, settings: SearchSettings) -> SearchSpace:
    space = parse_space(document)
    twice = sorted(settings.trial.keys() & document.values.keys())
    if twice:
        where = f"set for all trials, and by the space too ({document.source})"
        raise RequestError(f"{twice[0]} is {where}: leave one out")
    if settings.sampler == "grid":
        check_grid(space, document)
    return space
