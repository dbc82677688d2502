"""Configurations to try first: an exported best one, or the best trials of an earlier experiment.

Only the hyperparameters that the new search searches are taken over; everything else is the new search's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, read_experiment
from tune_mentormix.export.read import read_exported
from tune_mentormix.results.confirmation import ranked_trials

MOST_TRIALS = 5  # of an earlier experiment


def first_trials(path: Path, space: SearchSpace) -> list[dict[str, Any]]:
    """The values to begin with, best first; each lies in the space.

    Args:
        path: an exported `best_config.yaml` or its folder, or the folder of an experiment.
        space: of the new search.

    Raises:
        RequestError: if there is nothing of that kind, or nothing in it lies in the space.
    """
    if (path / SEARCH_FILE).is_file():
        configs = [trial.config for trial in ranked_trials(read_experiment(path.parent, path.name))]
    else:
        configs = [read_exported(path).config.model_dump()]
    found: list[dict[str, Any]] = []
    for config in configs:
        values = space.values_inside(config)
        if values is not None and values not in found:
            found.append(values)
    if not found:
        searched = ", ".join(space.distributions)
        raise RequestError(f"nothing in {path} lies in this search's space of {searched} (--start-from)")
    return found[:MOST_TRIALS]
