"""What the contestants of `search_efficiency` search in: learning curves of real trials, or in closed form.

A problem answers two questions about a configuration: what a trial would report after an epoch, and how good it truly
is at the end. Every contestant sees the same space and the same reports.
"""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tune_mentormix.published import published_setting
from tune_mentormix.space import SearchSpace

CURVES = Path(__file__).parent / "curves"
Params = dict[str, Any]


class Problem(Protocol):
    """Curves over a space.

    Attributes:
        name: for the table.
        epochs: of a trial in full.
        space: what is searched.
        longest_burn_in: of the space, as a share of a trial.
        published: the published setting, as a point of the space.
        best: the highest true accuracy of the space, as far as is known.
        average: the mean true accuracy of the space.
    """

    name: str
    epochs: int
    space: SearchSpace
    longest_burn_in: float
    published: Params
    best: float
    average: float

    def report(self, params: Params, epoch: int, seed: int) -> float:
        """The validation accuracy that a trial reports after an epoch, from 1; equal seeds give equal reports."""

    def truth(self, params: Params) -> float:
        """The accuracy at the end, without the noise of a report."""


class TabulatedCurves:
    """Real trials on a grid, which is searched by index: what is looked up was trained, nothing is interpolated."""

    def __init__(self, path: Path, longest_burn_in: float) -> None:
        """Reads a table of `tabulate_curves.py`, without the configurations that burn in longer (percent)."""
        table = json.loads(path.read_text(encoding="utf-8"))
        self.name = path.stem
        self.epochs = table["epochs"]
        grid: dict[str, list[Any]] = table["grid"]
        grid["burn_in"] = [value for value in grid["burn_in"] if value <= longest_burn_in]
        self.longest_burn_in = longest_burn_in / 100
        self._names = list(grid)
        self._curves = np.zeros((*map(len, grid.values()), self.epochs))
        for index in product(*(range(len(values)) for values in grid.values())):
            self._curves[index] = table["correct"][",".join(map(str, index))]
        self._curves /= table["validation_images"]
        self.space = SearchSpace({name: _indices(values) for name, values in grid.items()}, {})
        setting = published_setting(table["noise"] / 100, 10)
        self.published = {name: _index(values, setting[name]) for name, values in grid.items()}
        self.best = float(self._curves[..., -1].max())
        self.average = float(self._curves[..., -1].mean())

    def report(self, params: Params, epoch: int, seed: int) -> float:
        """What was measured."""
        return float(self._curve(params)[epoch - 1])

    def truth(self, params: Params) -> float:
        """What was measured at the end."""
        return float(self._curve(params)[-1])

    def _curve(self, params: Params) -> Any:
        return self._curves[tuple(int(params[name]) for name in self._names)]


def _indices(values: list[Any]) -> BaseDistribution:
    if isinstance(values[0], bool):
        return CategoricalDistribution(values)
    return IntDistribution(0, len(values) - 1)


def _index(values: list[Any], value: Any) -> Any:
    return value if isinstance(value, bool) else values.index(value)


class CrossingCurves:
    """A closed form over the default space that has what makes early stopping hard here.

    With x = log2 of mixup alpha, p the percentile, b the burn-in, s the second reweighting, t the share of training
    that is done:

    - Learning: every curve rises as 1 − exp(−t/τ). While t < b nothing is weighted and all look alike but for speed:
      τ = 0.03 + 0.004·(x + 1.32), so that little mixing learns fast and leads.
    - Separation: after the burn-in the asymptote moves from 0.52, that of plain training, to
      q = 0.60 − 0.0025·(x − x*)² − 0.25·(p − p*)² − 0.6·(b − 0.08)², x* = 2.5 + 2·(p − 0.5) and p* = 0.65 or,
      with s, 0.5 (and 0.004 more): a ridge, as strong mixing bears more examples. It does so as 1 − exp(−(t − b)/σ)
      with σ = 0.05 + 0.2·(1 − p): the fewer examples keep their weight, the later it pays, and curves cross.
    - Memorising: from half of the training on, min(m, 0.15)·(2t − 1)² is lost, with m = 0.10·p^4·2^(−x/2):
      settings that mix little and keep most examples were ahead and fall back.

    A report adds Gaussian noise of 0.004 (half of what 863 validation images give, since all trials share them).
    """

    name = "crossing"
    epochs = 60
    noise = 0.004

    def __init__(self, longest_burn_in: float) -> None:
        """Over the default space, with burn-ins up to this many percent."""
        self.longest_burn_in = longest_burn_in / 100
        self.space = SearchSpace(
            {
                "mixup_alpha": FloatDistribution(0.4, 32, log=True),
                "loss_p_percentile": FloatDistribution(0.1, 0.9),
                "burn_in": FloatDistribution(0, longest_burn_in),
                "second_reweight": CategoricalDistribution([False, True]),
            },
            {},
        )
        self.published = published_setting(0.4, 10)
        truths = [self.truth(params) for params in self._grid(longest_burn_in)]
        self.best = max(truths)
        self.average = sum(truths) / len(truths)

    def report(self, params: Params, epoch: int, seed: int) -> float:
        """The curve with the noise of this trial's validation."""
        generator = np.random.default_rng([seed, epoch, *np.frombuffer(repr(params).encode(), np.uint8).tolist()])
        return self._accuracy(params, epoch / self.epochs) + self.noise * float(generator.standard_normal())

    def truth(self, params: Params) -> float:
        """The curve's end."""
        return self._accuracy(params, 1.0)

    def _accuracy(self, params: Params, t: float) -> float:
        x, p, b = math.log2(params["mixup_alpha"]), params["loss_p_percentile"], params["burn_in"] / 100
        second = params["second_reweight"]
        learned = 1 - math.exp(-t / (0.03 + 0.004 * (x + 1.32)))
        best_x, best_p = 2.5 + 2 * (p - 0.5), 0.5 if second else 0.65
        q = 0.60 + 0.004 * second - 0.0025 * (x - best_x) ** 2 - 0.25 * (p - best_p) ** 2 - 0.6 * (b - 0.08) ** 2
        separated = 1 - math.exp(-max(0.0, t - b) / (0.05 + 0.2 * (1 - p)))
        memorised = min(0.10 * p**4 * 2 ** (-x / 2), 0.15) * max(0.0, 2 * t - 1) ** 2
        return float(learned * (0.52 + (q - 0.52) * separated) - memorised)

    @staticmethod
    def _grid(longest_burn_in: float) -> list[Params]:
        return [
            {
                "mixup_alpha": float(alpha),
                "loss_p_percentile": float(p),
                "burn_in": float(b),
                "second_reweight": second,
            }
            for alpha, p, b, second in product(
                np.geomspace(0.4, 32, 33),
                np.linspace(0.1, 0.9, 33),
                np.linspace(0, longest_burn_in, 16),
                (False, True),
            )
        ]


def problems_up_to(longest_burn_in: float) -> list[Problem]:
    """All problems, over spaces with burn-ins up to so many percent."""
    tables = [TabulatedCurves(path, longest_burn_in) for path in sorted(CURVES.glob("*.json"))]
    return [*tables, CrossingCurves(longest_burn_in)]
