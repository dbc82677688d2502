"""Compares policies for the default search by the figure of `search_efficiency`: controls, rungs and samplers.

`--runs` may be the file of `search_efficiency`: the basis is not run again. The defaults were chosen on seeds from
1000 on, and the held-out problem was looked at afterwards.

    python benchmarks/search_policy.py --runs FILE [--json FILE] [--seeds 50] [--first-seed 1000] [--only NAMES]
        [--problems NAMES] [--processes 1]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from contestants import Ours, Policy
from gp_sampler import CurveGPSampler
from measurement import write_result
from search_efficiency import BASIS, BUILD, HELD_OUT, TOGETHER, TUNED_ON, Runs, print_table, table

from tune_mentormix.search.study import SAMPLERS, Space

POLICIES = {
    "shipped": Policy(),
    "no rungs": Policy(after_burn_in=None),
    "first rung at 20 %": Policy(after_burn_in=0.05),
    "first rung at 45 %": Policy(after_burn_in=0.30),
    "reduction factor 3": Policy(factor=3),
    "reduction factor 3, first rung at 20 %": Policy(factor=3, after_burn_in=0.05),
    "reduction factor 3, plain may stop": Policy(factor=3, stops_plain=True),
    "published alone": Policy(controls=("published",)),
    "published alone, reduction factor 3": Policy(controls=("published",), factor=3),
    "all three controls": Policy(controls=("published", "mixup", "plain")),
    "plain may stop at a rung": Policy(stops_plain=True),
    "Optuna's GP": Policy(sampler="gp"),
    "Optuna's GP, no rungs": Policy(sampler="gp", after_burn_in=None),
    "GP of curves after 3": Policy(sampler="curves_3"),
    "GP of curves after 10": Policy(sampler="curves_10"),
    "GP of curves after 10, no rungs": Policy(sampler="curves_10", after_burn_in=None),
}


def gp_of_curves(least: int, space: Space, search_seed: int, seed: int) -> CurveGPSampler:
    """Returns the sampler, as `SAMPLERS` call it."""
    return CurveGPSampler(space, seed, least)


SAMPLERS |= {f"curves_{least}": partial(gp_of_curves, least) for least in (3, 10)}
for title, policy in POLICIES.items():
    BUILD[title] = partial(Ours, policy=policy)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, required=True, help="where every run is kept")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--only", nargs="+", default=list(POLICIES), help="names of policies; the basis runs too")
    parser.add_argument("--problems", nargs="+", default=[*TUNED_ON, *HELD_OUT])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()

    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    names, runs = [BASIS, *arguments.only], Runs(arguments.runs)
    keys = [(name, problem, seed) for name in names for problem in arguments.problems for seed in seeds]
    runs.measure(keys, workers=4, processes=arguments.processes)
    rows = table(runs, names, arguments.problems, seeds)
    print_table(rows, arguments.seeds)
    if arguments.json is not None:
        ratios = {row["contestant"]: row["ratio_noisy"]["value"] for row in rows if row["problem"] == TOGETHER}
        write_result(arguments.json, "search_policy", torch.device("cpu"), arguments.seeds, rows, ratios)


if __name__ == "__main__":
    main()
