"""What a report uses of Optuna's importances and plots, imported without scikit-learn.

Optuna imports it, if it is installed, for an evaluator that is not used here; that took half of a report's time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(package: str) -> Iterator[None]:
    """While the block runs, a package that was not imported yet cannot be, as if it were not installed."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # Python's way to say so
    try:
        yield
    finally:
        del sys.modules[package]


with _without("sklearn"):
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.visualization.matplotlib import (
        plot_intermediate_values,
        plot_optimization_history,
        plot_parallel_coordinate,
        plot_param_importances,
        plot_slice,
    )

__all__ = [
    "PedAnovaImportanceEvaluator",
    "get_param_importances",
    "plot_intermediate_values",
    "plot_optimization_history",
    "plot_parallel_coordinate",
    "plot_param_importances",
    "plot_slice",
]
