"""Stops trials early: the scheduler that Ray Tune asks at every report, and that asks the rungs.

Ours rather than Ray's ASHA because the rungs must be rebuilt from the journal on resume (Ray never saves them,
ray#30838) and because Ray's ASHA stops a trial for being below one single earlier one.
"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_mentormix.rungs import Rungs


class EarlyStopping(FIFOScheduler):
    """Asks the rungs at every report."""

    def __init__(self, rungs: Rungs) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rungs = rungs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's hook: stop or continue."""
        if "failure" in result:
            return str(TrialScheduler.CONTINUE)
        goes_on = self._rungs.goes_on(trial.config["trial"], result["epoch"], result["val_accuracy"])
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
