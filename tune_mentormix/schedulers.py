"""Who is stopped early: the rules by name, each a fold over the journal, and the one adapter that Ray Tune asks.

The rules are ours rather than Ray's because they must be rebuilt from the journal on resume (Ray never saves ASHA's
rungs, ray#30838) and because Ray's ASHA stops a trial for being below one single earlier one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_mentormix.hyperband import Brackets
from tune_mentormix.journal import Event
from tune_mentormix.median_rule import MedianRule
from tune_mentormix.rungs import Rungs, rung_epochs


class StoppingRule(Protocol):
    """What stops trials early."""

    epochs: list[int]  # at which trials are compared

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account, deciding as the live scheduler did."""

    def goes_on(self, trial: int, epoch: int, accuracy: float) -> bool:
        """Notes a report and says whether the trial goes on; one that does not is stopped."""

    def stopped(self, trial: int) -> bool:
        """Whether the trial was stopped."""


def never_stop() -> StoppingRule:
    """The rule by which every trial runs to its end."""
    return Rungs([], 2)


# name → rule, from the first epoch of comparison, the factor by which rungs grow, and the epochs of a trial
RULES: dict[str, Callable[[int, float, int], StoppingRule]] = {
    "asha": lambda first, factor, epochs: Rungs(rung_epochs(first, factor, epochs), factor),
    "hyperband": lambda first, factor, epochs: Brackets(rung_epochs(first, factor, epochs), factor),
    "median": lambda first, factor, epochs: MedianRule(first, epochs),
    "none": lambda first, factor, epochs: never_stop(),
}


class EarlyStopping(FIFOScheduler):
    """Asks the rule at every report."""

    def __init__(self, rule: StoppingRule) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule = rule

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's hook: stop or continue."""
        if "failure" in result:
            return str(TrialScheduler.CONTINUE)
        goes_on = self._rule.goes_on(trial.config["trial"], result["epoch"], result["val_accuracy"])
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
