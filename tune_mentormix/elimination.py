"""Which candidates of a confirmation a paired test rules out already, so that no more seeds are spent on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import fmean

from tune_mentormix.intervals import chance_of_no_gain, paired_differences

LEAST_ROUNDS = 3  # before the first test
LEVEL = 0.05  # of all tests of one round together


def hopeless(accuracies: Mapping[str, Mapping[int, float]], kept: Collection[str]) -> dict[str, str]:
    """Tests every candidate against the leader, the one with the highest mean.

    A one-sided paired t-test at the level 0.05, divided by the number of candidates tested (Bonferroni), so that
    in one round a candidate as good as the leader is ruled out with a probability of at most 0.05.

    Args:
        accuracies: of the candidates still in the race, by name and seed, the same seeds for all.
        kept: names of those that are never ruled out.

    Returns:
        The names of those ruled out, with the reason in words.
    """
    leader = max(accuracies, key=lambda name: fmean(accuracies[name].values()))
    tested = [name for name in accuracies if name != leader and name not in kept]
    reasons = {}
    for name in tested:
        differences = paired_differences(accuracies[leader], accuracies[name])
        chance = chance_of_no_gain(differences)
        if chance < LEVEL / len(tested):
            behind = f"{100 * fmean(differences):.1f} points behind {leader} after {len(differences)} seeds"
            reasons[name] = f"{behind} (p = {chance:.2g})"
    return reasons
