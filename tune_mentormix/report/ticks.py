"""Where an axis of accuracy or of a hyperparameter has its ticks, and what is written there.

Optuna leaves that to matplotlib, which writes powers of ten as formulas and Python's `False` for YAML's `false`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from tune_mentormix.formatting import format_value

_INTERVALS = 4
_LEAST_GAP = 0.08  # of the axis, between an end and its neighbour


def label_range(axis: Axis, low: float, high: float, log: bool = False) -> None:
    """Ticks from `low` to `high`, both ends included."""
    values = [low, *_between(low, high, log), high] if low < high else [low]
    axis.set_ticks(values, [f"{value:.3g}" for value in values])
    axis.set_ticks([], minor=True)


def label_choices(axis: Axis, choices: Sequence[object]) -> None:
    """A tick for each choice, which Optuna numbers from 0."""
    axis.set_ticks(range(len(choices)), [format_value(choice) for choice in choices])


def _between(low: float, high: float, log: bool) -> list[float]:
    inner = _powers(low, high) if log else [float(value) for value in MaxNLocator(_INTERVALS).tick_values(low, high)]
    return [value for value in inner if _LEAST_GAP < _position(value, low, high, log) < 1 - _LEAST_GAP]


def _position(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = log10(value), log10(low), log10(high)
    return (value - low) / (high - low)


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; powers of ten alone over more than two decades."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    factors = (1,) if log10(high / low) > 2 else (1, 2, 5)
    inner = (factor * 10.0**decade for decade in decades for factor in factors)
    return [value for value in inner if low < value < high]
