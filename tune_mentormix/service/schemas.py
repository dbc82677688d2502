"""JSON shapes of searches, trials and jobs, for the API and for `--json`: FastAPI is not needed to import them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.experiment.schemas import BestTrial, TrialCounts, TrialState

SearchStateName = Literal["running", "interrupted", "finished", "unreadable"]


class Problem(BaseModel):
    """Why a request was refused, or has no result yet."""

    detail: str


class BestProgress(BaseModel):
    """The best trial so far, without its configuration."""

    model_config = ConfigDict(from_attributes=True)

    trial_id: int
    val_accuracy: float | None
    epoch: int


class SearchSummary(BaseModel):
    """One search, as `list` shows it."""

    name: str
    state: SearchStateName
    ended: str | None = None
    trials: TrialCounts
    num_samples: int
    epochs_run: int = 0
    split: str = "validation"
    labels: str = "noisy"
    best: BestTrial | None = None
    controls: dict[str, float | None] = Field(default_factory=dict)
    error: str | None = None  # why it cannot be read

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Describes an experiment. NaN and infinity, which JSON does not have, become null."""
        return cls.model_validate_json(to_json(experiment.status(), inf_nan_mode="null"))


class SearchStatus(SearchSummary):
    """One search, as `status` shows it."""

    settings: dict[str, Any]


class SearchList(BaseModel):
    """Searches, by name."""

    total: int
    experiments: list[SearchSummary]


class Progress(BaseModel):
    """One search, as an event stream shows it."""

    model_config = ConfigDict(from_attributes=True)

    state: SearchStateName
    trials: TrialCounts
    num_samples: int
    epochs_run: int
    best: BestProgress | None


class AllProgress(BaseModel):
    """All searches and jobs, as an event stream shows them."""

    experiments: dict[str, Progress]
    jobs: dict[str, str]


class TrialRecord(BaseModel):
    """One trial, without its curve."""

    trial: int
    state: TrialState
    control: str | None
    config: dict[str, Any]
    epoch: int
    val_accuracy: float | None
    best_epoch: int | None
    restarts: int
    error: str | None

    @classmethod
    def of(cls, trial: Trial) -> Self:
        """Describes a trial, without NaN and infinity."""
        record = {
            "trial": trial.number,
            "state": trial.state,
            "control": trial.control,
            "config": trial.config,
            "epoch": trial.epoch,
            "val_accuracy": trial.val_accuracy,
            "best_epoch": trial.best_epoch,
            "restarts": trial.attempt - 1,
            "error": trial.error,
        }
        return cls.model_validate_json(to_json(record, inf_nan_mode="null"))


class TrialList(BaseModel):
    """Trials, sorted and filtered as asked."""

    total: int
    trials: list[TrialRecord]


class Curve(BaseModel):
    """Validation accuracy of one trial, by epoch."""

    trial: int
    state: TrialState
    control: str | None
    epochs: list[int]
    val_accuracy: list[float | None]

    @classmethod
    def of(cls, trial: Trial) -> Self:
        """Returns the curve of a trial."""
        epochs, accuracies = list(trial.curve), list(trial.curve.values())
        return cls(
            trial=trial.number, state=trial.state, control=trial.control, epochs=epochs, val_accuracy=accuracies
        )


class CurveList(BaseModel):
    """Curves, by trial."""

    total: int
    split: str
    labels: str
    rungs: list[int]
    curves: list[Curve]


class BestAnswer(BaseModel):
    """The best trial, if any reported yet."""

    split: str
    labels: str
    best: BestTrial | None


class JobRecord(BaseModel):
    """One job of the cluster."""

    name: str
    state: str
    message: str | None


class JobList(BaseModel):
    """The searches that were submitted."""

    jobs: list[JobRecord]
    trouble: str | None  # why the cluster could not be asked


class Accepted(BaseModel):
    """The cluster accepted a request; the search's own state follows."""

    name: str
    state: str
