"""Measures how often chance, and a true lead, exceed the bound of a lead: paired against unpaired.

Simulates searches without training. Of every image, a common answer is right with the probability `ACCURACY`; each
trial redraws its own answer on a fraction of the images, so two trials disagree as networks of one search do. At
equality, a search is counted as wrong if any trial is ahead of the control by more than its bound. With a true lead,
one trial also turns wrong answers into right ones, and its lead has to exceed the bound among all trials.

    python benchmarks/paired_bound.py [--json FILE] [--draws 2000]

One and a half minutes on one core. Power is measured in a quarter of the draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import hypot, sqrt
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import numpy as np
import torch
from measurement import write_result
from numpy.typing import NDArray

from tune_mentormix.results.statistics import max_leads_by_chance

ACCURACY = 0.38  # on the validation labels, 60 % of them wrong
IMAGES = (288, 2_000)
REDRAWN = (0.1, 0.3)  # of the images, by each trial; trials then disagree on about as many
TRIALS = (1, 8, 20)
TRUE_LEAD = 0.03

Bound = Callable[[NDArray[np.int8], NDArray[np.int8]], NDArray[np.float64]]


def answers(trials: int, images: int, redrawn: float, generator: np.random.Generator) -> NDArray[np.int8]:
    """Returns which answers are right, [trials + 1, M]; the first row is the control."""
    common = generator.random(images) < ACCURACY
    own = generator.random((trials + 1, images)) < ACCURACY
    return np.where(generator.random((trials + 1, images)) < redrawn, own, common).astype(np.int8)


def paired_bounds(control: NDArray[np.int8], trials: NDArray[np.int8]) -> NDArray[np.float64]:
    """Returns the bound of each trial, as a search computes it."""
    return max_leads_by_chance(trials - control)


def unpaired_bounds(control: NDArray[np.int8], trials: NDArray[np.int8]) -> NDArray[np.float64]:
    """Returns the bound of version 0.1.0: independent standard errors, Bonferroni over the trials."""
    quantile = NormalDist().inv_cdf(1 - 0.05 / len(trials))
    return np.array([quantile * hypot(_error(trial), _error(control)) for trial in trials])


def _error(right: NDArray[np.int8]) -> float:
    adjusted = (int(right.sum()) + 2) / (len(right) + 4)
    return sqrt(adjusted * (1 - adjusted) / (len(right) + 4))


BOUNDS: dict[str, Bound] = {"paired": paired_bounds, "unpaired": unpaired_bounds}


def simulate(images: int, redrawn: float, trials: int, draws: int) -> dict[str, Any]:
    """Returns coverage and power of both bounds, and their medians in points."""
    generator = np.random.default_rng([images, trials, round(100 * redrawn)])
    held, found = dict.fromkeys(BOUNDS, 0), dict.fromkeys(BOUNDS, 0)
    widths: dict[str, list[float]] = {name: [] for name in BOUNDS}
    with_lead = range(0, draws, 4)
    for draw in range(draws):
        right = answers(trials, images, redrawn, generator)
        for name, bound in BOUNDS.items():
            bounds = bound(right[0], right[1:])
            held[name] += not ((right[1:] - right[0]).mean(axis=1) > bounds).any()
            widths[name].append(100 * float(np.median(bounds)))
        if draw in with_lead:
            right[1] |= (generator.random(images) < TRUE_LEAD / (1 - ACCURACY)).astype(np.int8)
            for name, bound in BOUNDS.items():
                found[name] += bool((right[1] - right[0]).mean() > bound(right[0], right[1:])[0])
    figures = {f"coverage_{name}": held[name] / draws for name in BOUNDS}
    figures |= {f"power_{name}": found[name] / len(with_lead) for name in BOUNDS}
    figures |= {f"bound_{name}_points": median(width) for name, width in widths.items()}
    return {"images": images, "redrawn": redrawn, "trials": trials, **figures}


def main() -> None:
    """Prints a row for each setting, and writes them as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--draws", type=int, default=2_000, help="simulated searches for each row")
    asked = parser.parse_args()
    rows = []
    for images in IMAGES:
        for redrawn in REDRAWN:
            for trials in TRIALS:
                row = {**simulate(images, redrawn, trials, asked.draws), "n": asked.draws}
                rows.append(row)
                print("  ".join(f"{key} {value:.3g}" for key, value in row.items()), flush=True)
    ratios = {
        "bound_unpaired_over_paired": median(
            row["bound_unpaired_points"] / row["bound_paired_points"] for row in rows
        ),
        "lowest_coverage_paired": min(row["coverage_paired"] for row in rows),
    }
    print(ratios)
    if asked.json:
        write_result(asked.json, "paired_bound", torch.device("cpu"), asked.draws, rows, ratios)


if __name__ == "__main__":
    main()
