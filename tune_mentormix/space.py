"""Search spaces: a YAML file of one line a hyperparameter becomes Optuna distributions and fixed values.

A line is `name: {low: 0.4, high: 32, log: true}`, `name: {choices: [a, b]}` or `name: value` (fixed). Whether a range
is of whole numbers follows from the hyperparameter itself. Every bound and choice must be a value a trial accepts.
"""

from __future__ import annotations

from optuna.distributions import (
    FloatDistribution,
)

from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.errors import RequestError
from tune_mentormix.samplers import MOST_GRID_POINTS, grid_points
from tune_mentormix.storage.yaml_files import YamlDocument


def check_grid(space: SearchSpace, document: YamlDocument) -> None:
    """Raises RequestError unless a grid of the space can be walked."""
    for name, distribution in space.distributions.items():
        if isinstance(distribution, FloatDistribution):
            raise RequestError(
                f"sampler grid needs values to walk through, but {name} is a range: "
                f"make it {{choices: [...]}}, or use --space published ({document.place(name)})"
            )
    points = grid_points(space.distributions)
    if points > MOST_GRID_POINTS:
        raise RequestError(f"the grid of {document.source} has {points:,} points, at most are {MOST_GRID_POINTS:,}")
