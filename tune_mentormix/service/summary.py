"""What the list of searches shows of one, small enough to keep for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tune_mentormix.experiment.experiment import TRIAL_STATES

if TYPE_CHECKING:
    from tune_mentormix.service.reading import Reading, Version


@dataclass(frozen=True)
class Summary:
    """One search in a few figures."""

    name: str
    version: Version = ()
    state: str = "interrupted"  # as it was left; `with_state` says whether it runs
    status: dict[str, Any] = field(default_factory=dict)  # as `status --json`, without settings and state
    epochs_per_second: float = 0.0
    gpus_held: float = 0.0
    holder: str | None = None  # who runs it
    error: str | None = None  # why it cannot be read

    @classmethod
    def unreadable(cls, name: str, error: str) -> Summary:
        """Of an experiment that cannot be read."""
        counts: dict[str, int] = dict.fromkeys(TRIAL_STATES, 0)
        return cls(name, state="unreadable", status={"trials": counts, "num_samples": 0}, error=error)

    def with_state(self, holder: str | None) -> Summary:
        """As it is now; rates are those of a search that runs."""
        if holder:
            return replace(self, state="running", holder=holder)
        return replace(self, epochs_per_second=0.0, gpus_held=0.0)

    def as_json(self) -> dict[str, Any]:
        """What `list --json` shows, with the state of now."""
        return self.status | {"name": self.name, "state": self.state, "error": self.error}

    def progress(self) -> dict[str, Any]:
        """What an event stream says of it."""
        best = self.status.get("best") or {}
        return {
            "state": self.state,
            "trials": self.status["trials"],
            "num_samples": self.status["num_samples"],
            "epochs_run": self.status.get("epochs_run", 0),
            "best": {key: best[key] for key in ("trial_id", "val_accuracy", "epoch")} if best else None,
        }


def summarise(reading: Reading) -> Summary:
    """Of what was read."""
    experiment = reading.experiment
    status = experiment.status().model_dump(exclude={"settings", "state"})
    return Summary(
        name=experiment.name,
        version=reading.read_version or (),
        state=experiment.left_as(),
        status=status,
        epochs_per_second=reading.epochs_per_second(),
        gpus_held=reading.gpus_held(),
    )
