"""One hyperparameter's axis: where a value lies between the ends of what was searched, and what to write there."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log, log10
from typing import Any

from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tune_mentormix.formats import format_value

_TICKS = 5


@dataclass(frozen=True)
class Scale:
    """Positions from 0 to 1 along one hyperparameter, logarithmic where its range is."""

    name: str
    distribution: BaseDistribution

    def position(self, value: Any) -> float:
        """Where `value` lies; outside [0, 1] if it was not searched."""
        if isinstance(self.distribution, CategoricalDistribution):
            return (self.distribution.choices.index(value) + 0.5) / len(self.distribution.choices)
        low, high, log_range = self._range()
        if log_range:
            return (log(value) - log(low)) / (log(high) - log(low))
        return float((value - low) / (high - low))

    def holds(self, value: Any) -> bool:
        """Whether `value` is one that could have been proposed."""
        if isinstance(self.distribution, CategoricalDistribution):
            return value in self.distribution.choices
        low, high, _ = self._range()
        return bool(low <= value <= high)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels, ends included."""
        if isinstance(self.distribution, CategoricalDistribution):
            return [(self.position(choice), format_value(choice)) for choice in self.distribution.choices]
        low, high, log_range = self._range()
        inner = _powers(low, high) if log_range else MaxNLocator(_TICKS - 1).tick_values(low, high)
        ends = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
        between = [(self.position(value), f"{value:.3g}") for value in inner if low < value < high]
        return sorted(ends + [tick for tick in between if 0.08 < tick[0] < 0.92])

    def _range(self) -> tuple[float, float, bool]:
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return float(self.distribution.low), float(self.distribution.high), self.distribution.log


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; powers of ten alone over more than two decades."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    factors = (1,) if log10(high / low) > 2 else (1, 2, 5)
    return [factor * 10.0**decade for decade in decades for factor in factors]
