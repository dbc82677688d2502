"""The problems of `search_efficiency`: learning curves of real trials, or in closed form.

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
    CategoricalDistribution,
    FloatDistribution,
)
from scipy.interpolate import RegularGridInterpolator

from tune_mentormix.config.controls import published_setting
from tune_mentormix.config.search_space import SearchSpace

CURVES = Path(__file__).parent / "curves"
Params = dict[str, Any]


class Problem(Protocol):
    """Curves over a space.

    Attributes:
        name: for the table.
        epochs: of a trial in full.
        space: what is searched.
        longest_burn_in: of the space, as a fraction of a trial.
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
    """Real trials on a grid, over the same continuous space as a search: linear between the grid's curves.

    So no contestant can propose a point twice, and what one seed of training brought at a single point counts for
    less than what its neighbours share.
    """

    def __init__(self, path: Path, longest_burn_in: float) -> None:
        """Reads a table of `tabulate_curves.py`, for burn-ins up to so many percent."""
        table = json.loads(path.read_text(encoding="utf-8"))
        self.name = path.stem
        self.epochs = table["epochs"]
        grid: dict[str, list[Any]] = table["grid"]
        counts = np.zeros((*map(len, grid.values()), self.epochs))
        for index in product(*(range(len(values)) for values in grid.values())):
            counts[index] = table["correct"][",".join(map(str, index))]
        axes = (np.log2(grid["mixup_alpha"]), grid["loss_p_percentile"], grid["burn_in"])
        curves = np.moveaxis(counts / table["validation_images"], 3, 0)  # second_reweight first
        self._curves = [RegularGridInterpolator(axes, values) for values in curves]
        self._seen: dict[tuple[Any, ...], Any] = {}
        self.longest_burn_in = longest_burn_in / 100
        alphas, percentiles = grid["mixup_alpha"], grid["loss_p_percentile"]
        self.space = SearchSpace(
            {
                "mixup_alpha": FloatDistribution(alphas[0], alphas[-1], log=True),
                "loss_p_percentile": FloatDistribution(percentiles[0], percentiles[-1]),
                "burn_in": FloatDistribution(0, longest_burn_in),
                "second_reweight": CategoricalDistribution([False, True]),
            },
            {},
        )
        self.published = published_setting(table["noise"] / 100, 10)
        inside = [index for index, value in enumerate(grid["burn_in"]) if value <= longest_burn_in]
        ends = curves[:, :, :, inside, -1]
        self.best, self.average = float(ends.max()), float(ends.mean())

    def report(self, params: Params, epoch: int, seed: int) -> float:
        """Returns what was measured at the points around."""
        return float(self._curve(params)[epoch - 1])

    def truth(self, params: Params) -> float:
        """Returns what was measured at the end at the points around."""
        return float(self._curve(params)[-1])

    def _curve(self, params: Params) -> Any:
        point = (math.log2(params["mixup_alpha"]), params["loss_p_percentile"], params["burn_in"])
        key = (*point, params["second_reweight"])
        if key not in self._seen:
            self._seen[key] = self._curves[int(params["second_reweight"])](point).ravel()
        return self._seen[key]


class CrossingCurves:
    """A closed form over the default space that has what makes early stopping hard here.

    With x = log2 of mixup alpha, p the percentile, b the burn-in, s the second reweighting, t the fraction of
    training that is done:

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
